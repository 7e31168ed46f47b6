"""What is zero, or cancels, whatever the image and the parameters are. What is claimed is exact; nothing is guessed.

Zeros come in where maps are moved, padded or masked. Each tensor has the positions at which all its channels are zero,
as bits, row * width + column. Sums are linear forms: how often each tensor that is no sum enters, as a fraction, so
that `a - (a - x)` is x. Broadcasting changes no form: what becomes of a tensor depends on the size of the map alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TypeAlias

from hvdsl.compiler.analysis.causality import positions_beside
from hvdsl.compiler.catalogue.activations import IDENTITY
from hvdsl.compiler.catalogue.arithmetic import (
    ADD_NUMBER,
    DIV_NUMBER,
    MUL,
    MUL_NUMBER,
    NEG,
    NUMBER_SUB,
    SUB,
    SUB_NUMBER,
)
from hvdsl.compiler.catalogue.joins import ADD, MEAN
from hvdsl.compiler.catalogue.reshaping import PAD, SHIFT
from hvdsl.compiler.catalogue.rules import number
from hvdsl.compiler.catalogue.sources import CONSTANT
from hvdsl.compiler.catalogue.structure import TAP
from hvdsl.compiler.catalogue.table import Reads
from hvdsl.compiler.graph import Edge, Graph, Node, Shape, Term
from hvdsl.grammar.record import Record, record

Form: TypeAlias = Mapping[Edge, Fraction]

FACTORS = ("weight", "gain")  # roles of parameters that multiply what comes in
MOST_TERMS = 256  # of a form: a longer sum counts as a tensor of its own, so that the work is linear


def linear_forms(graph: Graph) -> dict[Edge, Form]:
    """By sum, the tensors that it adds and how often; what is no sum is left out. Empty where nothing can cancel."""
    if not any(_can_cancel(node) for node in graph.nodes):
        return {}
    known: dict[Edge, Form] = {}
    for node in graph.nodes:
        factors = _factors(node)
        if factors is None:
            continue
        total: dict[Edge, Fraction] = {}
        for edge, factor in zip(node.inputs, factors, strict=True):
            for term, times in known.get(edge, {edge: Fraction(1)}).items():
                total[term] = total.get(term, Fraction(0)) + factor * times
        form = {term: times for term, times in total.items() if times}
        if len(form) <= MOST_TERMS:
            known[Edge(node.index)] = form
    return known


def cancelled(graph: Graph, known: Mapping[Edge, Form]) -> Iterator[tuple[Node, Edge]]:
    """Each sum in which a tensor is added and taken away in equal parts, with that tensor."""
    for node in graph.nodes if known else ():
        form = known.get(Edge(node.index))
        if form is None or len(node.inputs) < 2:
            continue
        for term in {term: None for edge in node.inputs for term in known.get(edge, {edge: Fraction(1)})}:
            if term not in form:
                yield node, term


def _can_cancel(node: Node) -> bool:
    operation = node.operation
    if operation is MUL_NUMBER or operation is DIV_NUMBER:
        return number(node.args, "number") < 0
    return operation is SUB or operation is NEG or operation is NUMBER_SUB


def _factors(node: Node) -> tuple[Fraction, ...] | None:
    """How often a sum, a multiple or what changes nothing takes each operand; None of all else."""
    operation, one = node.operation, Fraction(1)
    if operation is SUB:
        return one, -one
    if operation is ADD:  # of two, or of all that `parallel` joins
        return (one,) * len(node.inputs)
    if operation is MEAN:
        return (one / len(node.inputs),) * len(node.inputs)
    if operation is NEG or operation is NUMBER_SUB:
        return (-one,)
    if operation in (ADD_NUMBER, SUB_NUMBER, IDENTITY, TAP):
        return (one,) if len(node.inputs) == 1 else None  # a tap of a draw has its distribution beside it
    if operation is MUL_NUMBER:
        return (Fraction(number(node.args, "number")),)
    if operation is DIV_NUMBER:
        return (one / Fraction(number(node.args, "number")),)
    return None


@record
class Zeros(Record):
    """`positions`: by tensor, where all its channels are zero, as bits; a tensor without such positions is left out.

    `empty`: the tensors of which nothing is left. `deaf`: the nodes whose weight, or gain, multiplies zeros alone.
    """

    positions: Mapping[Edge, int]
    empty: frozenset[Edge]
    deaf: frozenset[int]


def find_zeros(graph: Graph) -> Zeros:
    """Find what is zero because of where it lies."""
    sources = {node.index for node in graph.nodes if _brings_zeros(node)}
    known: dict[Edge, int] = {}
    deaf: set[int] = set()
    for node in graph.nodes if sources else ():
        if node.index not in sources and not any(edge in known for edge in node.inputs):
            continue
        whole = _whole(node.shapes[0])
        bits = _zero_positions(node, graph, known)
        if bits:
            known.update({Edge(node.index, port): bits for port in range(len(node.shapes))})
        if len(node.inputs) == 1 and node.operation.linear and any(p.role in FACTORS for p in node.parameters):
            deaf |= {node.index} if _read(node, graph, known) == whole else set()
    return Zeros(
        known, frozenset(edge for edge, bits in known.items() if bits == _whole(graph.shape(edge))), frozenset(deaf)
    )


def _brings_zeros(node: Node) -> bool:
    if node.operation is CONSTANT:
        return number(node.args, "value") == 0
    if node.operation is MUL_NUMBER:
        return number(node.args, "number") == 0
    mask = node.args.get("mask")
    masked = isinstance(mask, Term) and mask.name != "none"
    return masked or isinstance(node.args.get("pad"), tuple) or node.operation in (SHIFT, PAD)


def _zero_positions(node: Node, graph: Graph, known: Mapping[Edge, int]) -> int:
    operation, whole = node.operation, _whole(node.shapes[0])
    if operation is CONSTANT:
        return whole if number(node.args, "value") == 0 else 0
    if operation is MUL_NUMBER and number(node.args, "number") == 0:
        return whole
    if operation is MUL:
        either = 0
        for edge in node.inputs:
            either |= _spread(known.get(edge, 0), graph.shape(edge), node.shapes[0])
        return either
    return _read(node, graph, known) if node.inputs and _keeps_zeros(node) else 0


def _keeps_zeros(node: Node) -> bool:
    """Whether an output position is zero where all that it reads is."""
    operation = node.operation
    if operation in (ADD_NUMBER, SUB_NUMBER, NUMBER_SUB):
        return False
    return operation.keeps_zeros or (operation.linear and not any(p.role == "bias" for p in node.parameters))


def _read(node: Node, graph: Graph, known: Mapping[Edge, int]) -> int:
    """The output positions that read zeros alone."""
    shapes = [graph.shape(edge) for edge in node.inputs]
    left = _whole(node.shapes[0])
    for edge, shape, reads in zip(node.inputs, shapes, node.operation.positions(shapes, node.args), strict=True):
        left &= _silent(reads, known.get(edge, 0), shape, node.shapes[0])
    return left


def _silent(reads: Reads, zero: int, shape: Shape, output: Shape) -> int:
    """The output positions at which an operand with these zeros gives nothing but zeros."""
    whole = _whole(shape)
    if zero == whole:
        return _whole(output)
    offsets = reads.offsets
    if offsets is None or reads.past is not None:
        return 0
    if not zero and (0, 0) in offsets:
        return 0
    if shape[1:] != output[1:]:
        return _spread(zero, shape, output) if offsets == ((0, 0),) else 0
    heard = 0
    for offset in offsets:
        heard |= positions_beside(whole & ~zero, offset, shape)
    return whole & ~heard


def _spread(zero: int, shape: Shape, output: Shape) -> int:
    """The same positions where one position is broadcast to a map."""
    if shape[1:] == output[1:]:
        return zero
    return _whole(output) if zero == _whole(shape) else 0


def _whole(shape: Shape) -> int:
    return (1 << shape[1] * shape[2]) - 1
