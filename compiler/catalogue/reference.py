"""The operation list of the language reference, generated from the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hvdsl.compiler.catalogue import CHAPTERS
from hvdsl.compiler.catalogue.rules import literal_text, shape_text
from hvdsl.compiler.catalogue.table import Args, Argument, ArgumentType, Operation, OperationKind, Required
from hvdsl.compiler.graph import Shape

# A call for each operation that changes the shape: as written, operands, what is said.
_EXAMPLES: Mapping[str, tuple[str, tuple[Shape, ...], Args]] = {
    "conv": ("conv(3x3, 32, stride = 2)", ((16, 8, 8),), {"kernel": (3, 3), "out": 32, "stride": (2, 2)}),
    "depthwise": ("depthwise(5x5)", ((16, 8, 8),), {"kernel": (5, 5)}),
    "upconv": ("upconv(4x4, 8)", ((16, 8, 8),), {"kernel": (4, 4), "out": 8}),
    "dense": ("dense(10)", ((16, 8, 8),), {"out": 10}),
    "glu": ("glu", ((16, 8, 8),), {}),
    "avg_pool": ("avg_pool(2)", ((16, 8, 8),), {"kernel": (2, 2)}),
    "max_pool": ("max_pool(3, stride = 2)", ((16, 8, 8),), {"kernel": (3, 3), "stride": (2, 2)}),
    "global_pool": ("global_pool", ((16, 8, 8),), {}),
    "nearest": ("nearest(2)", ((16, 8, 8),), {"factor": (2, 2)}),
    "bilinear": ("bilinear(2)", ((16, 8, 8),), {"factor": (2, 2)}),
    "pixel_shuffle": ("pixel_shuffle(2)", ((16, 8, 8),), {"factor": 2}),
    "crop": ("crop(top = 1, left = 1)", ((16, 8, 8),), {"top": 1, "left": 1}),
    "pad": ("pad(top = 1, bottom = 1)", ((16, 8, 8),), {"top": 1, "bottom": 1}),
    "flatten": ("flatten", ((16, 8, 8),), {}),
    "reshape": ("reshape(4x16x16)", ((16, 8, 8),), {"shape": (4, 16, 16)}),
    "pad_channels": ("pad_channels(24)", ((16, 8, 8),), {"out": 24}),
    "first_channels": ("first_channels(12)", ((16, 8, 8),), {"out": 12}),
    "split": ("split(4, 12)", ((16, 8, 8),), {"sizes": (4, 12)}),
    "chunk": ("chunk(2)", ((16, 8, 8),), {"n": 2}),
    "concat": ("concat(a, b)", ((16, 8, 8), (4, 8, 8)), {}),
    "attention": ("attention(q, k, v)", ((16, 8, 8), (16, 8, 8), (4, 8, 8)), {}),
    "coordinates": ("coordinates(x)", ((16, 8, 8),), {}),
    "normal": ("normal(x)", ((16, 8, 8),), {}),
    "laplace": ("laplace(x)", ((16, 8, 8),), {}),
    "logistic": ("logistic(x)", ((16, 8, 8),), {}),
}


def markdown() -> str:
    """Every operation that a spec can name, by family: signature, what it does, what its arguments mean."""
    return "\n".join(_families()).rstrip() + "\n"


def operation_signature(operation: Operation) -> str:
    """As a spec would call it: `avg_pool(kernel, stride = none, pad = same)`."""
    parts = [_parameter(argument) for argument in operation.arguments]
    block = " { … }" if operation.block else ""
    return f"{operation.name}({', '.join(parts)}){block}" if parts else f"{operation.name}{block}"


def _families() -> Iterator[str]:
    for family, operations in CHAPTERS.items():
        public = [operation for operation in operations if operation.kind is not OperationKind.INTERNAL]
        if not public:
            continue
        yield f"## {family}\n"
        for operation in public:
            yield from _operation(operation)


def _operation(operation: Operation) -> Iterator[str]:
    yield f"### `{operation.name}`\n"
    if operation.arguments or operation.block:
        yield f"```\n{operation_signature(operation)}\n```\n"
    yield f"{operation.summary} *{_KINDS[operation.kind]}*\n"
    if operation.name in _EXAMPLES:
        yield f"{_shape_effect(operation)}\n"
    for argument in operation.arguments:
        words = ", ".join(f"`{word}`" for word in argument.words)
        takes = f"{argument.type.value}; {words}" if words else argument.type.value
        yield f"- `{argument.name}` ({takes}): {argument.doc}"
    if operation.arguments:
        yield ""


def _shape_effect(operation: Operation) -> str:
    """What a call makes of shapes, by the operation's own rule."""
    text, inputs, given = _EXAMPLES[operation.name]
    args = {a.name: a.default for a in operation.arguments if not isinstance(a.default, Required)}
    outputs = operation.shape(inputs, {**args, **given})
    return f"`{text}`: {', '.join(map(shape_text, inputs))} → {', '.join(map(shape_text, outputs))}"


_KINDS = {
    OperationKind.STEP: "Step: a tensor flows in.",
    OperationKind.SOURCE: "Source: a tensor from nothing.",
    OperationKind.JOIN: "Join: a tensor from its arguments.",
    OperationKind.DISTRIBUTION: "Distribution.",
}


def _parameter(argument: Argument) -> str:
    if argument.many:
        return f"{argument.name}…"
    if isinstance(argument.default, Required):
        return argument.name
    return f"{argument.name} = {_default(argument)}"


def _default(argument: Argument) -> str:
    value = argument.default
    if argument.type is ArgumentType.KERNEL and isinstance(value, tuple):
        height, width = value
        return str(height) if height == width else f"{height}x{width}"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if isinstance(value, Required) else literal_text(value)
