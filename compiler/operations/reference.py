"""The operation list of the language reference, generated from the table."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.operations import FAMILIES
from hvdsl.compiler.operations.table import Argument, ArgumentType, Kind, Operation, Required
from hvdsl.compiler.operations.values import text

_BLOCKS = ("residual", "iaf")


def markdown() -> str:
    """Every operation that a spec can name, by family: signature, what it does, what its arguments mean."""
    return "\n".join(_families()).rstrip() + "\n"


def signature(operation: Operation) -> str:
    """As a spec would call it: `avg_pool(kernel, stride = none, pad = same)`."""
    parts = [_parameter(argument) for argument in operation.arguments]
    block = " { … }" if operation.name in _BLOCKS else ""
    return f"{operation.name}({', '.join(parts)}){block}" if parts else f"{operation.name}{block}"


def _families() -> Iterator[str]:
    for family, operations in FAMILIES.items():
        public = [operation for operation in operations if operation.kind is not Kind.INTERNAL]
        if not public:
            continue
        yield f"## {family}\n"
        for operation in public:
            yield from _operation(operation)


def _operation(operation: Operation) -> Iterator[str]:
    yield f"### `{signature(operation)}`\n"
    yield f"{operation.summary} *{_KINDS[operation.kind]}*\n"
    for argument in operation.arguments:
        words = ", ".join(f"`{word}`" for word in argument.words)
        takes = f"{argument.type.value}; {words}" if words else argument.type.value
        yield f"- `{argument.name}` ({takes}): {argument.doc}"
    if operation.arguments:
        yield ""


_KINDS = {
    Kind.STEP: "Step: a tensor flows in.",
    Kind.SOURCE: "Source: a tensor from nothing.",
    Kind.JOIN: "Join: a tensor from its arguments.",
    Kind.DISTRIBUTION: "Distribution.",
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
    return "none" if isinstance(value, Required) else text(value)
