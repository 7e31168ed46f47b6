"""`attention` over the positions of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hvdsl.compiler.catalogue.reads import OWN_POSITION, WHOLE_MAP, Past, Reads, Window
from hvdsl.compiler.catalogue.shapes import positions, show
from hvdsl.compiler.catalogue.table import (
    Args,
    Argument,
    ArgumentType,
    Kind,
    Layer,
    Locality,
    Operation,
    OperationError,
    Saves,
)
from hvdsl.compiler.catalogue.values import fraction, optional_term, positive
from hvdsl.compiler.graph import Literal, Shape


def is_causal(args: Args) -> bool:
    causal = optional_term(args, "causal")
    return causal is not None and causal.name != "none"


def _shape(inputs: Sequence[Shape], args: Args) -> tuple[Shape, ...]:
    query, key, value = inputs
    heads = positive(args, "heads")
    fraction(args, "dropout")
    if query[0] != key[0]:
        raise OperationError(
            "queries and keys must have equal channels",
            found=f"{show(query)} and {show(key)}",
            expected="equal channels",
        )
    if key[1:] != value[1:]:
        raise OperationError(
            "keys and values must be on one map",
            found=f"{show(key)} and {show(value)}",
            expected="equal heights and widths",
        )
    if is_causal(args) and query[1:] != key[1:]:
        raise OperationError(
            "causal attention looks over its own map",
            found=f"{show(query)} and {show(key)}",
            expected="equal maps",
        )
    if query[0] % heads or value[0] % heads:
        raise OperationError(
            "`heads` must divide the channels",
            found=f"{heads} heads, {query[0]} channels of queries, {value[0]} of values",
            expected="a divisor of both",
        )
    return ((value[0], *query[1:]),)


def _macs(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> int:
    query, key, value = inputs
    return positions(query) * positions(key) * (query[0] + value[0])


def _reads(inputs: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
    seen = WHOLE_MAP
    causal = optional_term(args, "causal")
    if causal is not None and causal.name != "none":
        rows = Window(1 - inputs[1][1], 0)
        seen = replace(WHOLE_MAP, rows=rows, past=Past(causal.name))
    return OWN_POSITION, seen, seen


def _layer(inputs: Sequence[Shape], outputs: Sequence[Shape], args: Args) -> Layer:
    options: list[tuple[str, Literal]] = []
    causal = optional_term(args, "causal")
    if causal is not None and causal.name != "none":
        options.append(("causal", causal.name))
    if fraction(args, "dropout") > 0:
        options.append(("dropout", fraction(args, "dropout")))
    return Layer("Attention", (positive(args, "heads"),), tuple(options))


ATTENTION = Operation(
    "attention",
    Kind.JOIN,
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
    shape=_shape,
    macs=_macs,
    saves=Saves.INPUTS,
    layer=_layer,
    locality=Locality.MAP,
    reads=_reads,
)

OPERATIONS = (ATTENTION,)
