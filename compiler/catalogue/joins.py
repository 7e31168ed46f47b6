"""Operations that make one tensor of several: sums, concatenations, and attention over the positions of a map."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.compiler.catalogue.rules import (
    broadcast,
    equal,
    fraction,
    optional_term,
    positions,
    positive_integer,
    positive_pair,
    shape_text,
    template,
)
from hvdsl.compiler.catalogue.table import (
    OWN_POSITION,
    WHOLE_MAP,
    Args,
    Argument,
    ArgumentType,
    LayerCall,
    Locality,
    Operation,
    OperationError,
    OperationKind,
    Past,
    Reads,
    ReadWindow,
    Saves,
)
from hvdsl.compiler.graph import Literal, Shape

TENSORS = Argument("tensors", ArgumentType.TENSOR, doc="what to join; `none` is left out", many=True)


def _concat_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    if len({shape[1:] for shape in inputs}) != 1:
        raise OperationError(
            "`concat` joins maps of one size",
            found=", ".join(shape_text(shape) for shape in inputs),
            expected="equal heights and widths",
        )
    return ((sum(shape[0] for shape in inputs), *inputs[0][1:]),)


def _concat_channels(inputs: Sequence[Shape], args: Args) -> tuple[tuple[tuple[int, ...], ...], ...]:
    nothing = [0] * len(inputs)
    return (
        tuple((*nothing[:i], 1 << c, *nothing[i + 1 :]) for i, shape in enumerate(inputs) for c in range(shape[0])),
    )


def _expand_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return ((inputs[0][0], *positive_pair(args, "size")),)


def _expand(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    height, width = positive_pair(args, "size")
    return f"({operands[0]}).expand(-1, -1, {height}, {width})"


def _mean_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    return (equal(inputs, "what `mean` joins"),)


def _concat(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    return f"torch.cat(({', '.join(operands)},), 1)"


def _mean(operands: Sequence[str], shapes: Sequence[Shape], args: Args) -> str:
    return f"({' + '.join(f'({operand})' for operand in operands)}) / {len(operands)}"


CONCAT = Operation(
    "concat",
    OperationKind.JOIN,
    "Put the channels of several tensors one after the other.",
    (TENSORS,),
    _concat_shape,
    expression=_concat,
    locality=Locality.PIXEL,
    channels=_concat_channels,
    linear=True,
)
EXPAND = Operation(
    "expand",
    OperationKind.INTERNAL,
    "A 1x1 map at every position, as `concat` takes it beside larger maps.",
    (Argument("size", ArgumentType.KERNEL, doc="height and width"),),
    _expand_shape,
    expression=_expand,
    saves=Saves.NOTHING,
    locality=Locality.ELEMENT,
    linear=True,
    view=True,
    glyph="",
)
MEAN = Operation(
    "mean",
    OperationKind.JOIN,
    "Mean of several tensors of one shape, element by element.",
    (TENSORS,),
    _mean_shape,
    expression=_mean,
    locality=Locality.ELEMENT,
    linear=True,
)
ADD = Operation(
    "add",
    OperationKind.STEP,
    "Add another tensor: the same as `+`.",
    (Argument("other", ArgumentType.TENSOR, doc="what to add; `learned(init)` takes the shape of what came in"),),
    broadcast,
    expression=template("({0}) + ({1})"),
    locality=Locality.ELEMENT,
    linear=True,
    glyph="+",
)


def is_causal(args: Args) -> bool:
    causal = optional_term(args, "causal")
    return causal is not None and causal.name != "none"


def _attention_shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    query, key, value = inputs
    heads = positive_integer(args, "heads")
    fraction(args, "dropout")
    if query[0] != key[0]:
        raise OperationError(
            "queries and keys must have equal channels",
            found=f"{shape_text(query)} and {shape_text(key)}",
            expected="equal channels",
        )
    if key[1:] != value[1:]:
        raise OperationError(
            "keys and values must be on one map",
            found=f"{shape_text(key)} and {shape_text(value)}",
            expected="equal heights and widths",
        )
    if is_causal(args) and query[1:] != key[1:]:
        raise OperationError(
            "causal attention looks over its own map",
            found=f"{shape_text(query)} and {shape_text(key)}",
            expected="equal maps",
        )
    if query[0] % heads or value[0] % heads:
        raise OperationError(
            "`heads` must divide the channels",
            found=f"{heads} heads, {query[0]} channels of queries, {value[0]} of values",
            expected="a divisor of both",
        )
    return ((value[0], *query[1:]),)


def _attention_macs(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> int:
    query, key, value = inputs
    return positions(query) * positions(key) * (query[0] + value[0])


def _attention_reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    seen = WHOLE_MAP
    causal = optional_term(args, "causal")
    if causal is not None and causal.name != "none":
        rows = ReadWindow(1 - inputs[1][1], 0)
        seen = WHOLE_MAP._replace(rows=rows, past=Past(causal.name))
    return OWN_POSITION, seen, seen


def _attention_layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> LayerCall:
    options: list[tuple[str, Literal]] = []
    causal = optional_term(args, "causal")
    if causal is not None and causal.name != "none":
        options.append(("causal", causal.name))
    if fraction(args, "dropout") > 0:
        options.append(("dropout", fraction(args, "dropout")))
    return LayerCall("Attention", (positive_integer(args, "heads"),), tuple(options))


ATTENTION = Operation(
    "attention",
    OperationKind.JOIN,
    "Scaled dot-product attention of every position over all positions.",
    (
        Argument("query", ArgumentType.TENSOR, doc="what asks"),
        Argument("key", ArgumentType.TENSOR, doc="what is compared"),
        Argument("value", ArgumentType.TENSOR, doc="what is taken"),
        Argument("heads", ArgumentType.INTEGER, 1, doc="equal parts of the channels, each by itself"),
        Argument(
            "causal",
            ArgumentType.WORD,
            None,
            ("none", "strict", "inclusive"),
            "see only what precedes in raster order; `inclusive`: and the own position",
        ),
        Argument("dropout", ArgumentType.NUMBER, 0.0, doc="of the weights, in training"),
    ),
    shape=_attention_shape,
    macs=_attention_macs,
    saves=Saves.INPUTS,
    layer=_attention_layer,
    locality=Locality.MAP,
    reads=_attention_reads,
)

OPERATIONS = (CONCAT, EXPAND, MEAN, ADD, ATTENTION)
