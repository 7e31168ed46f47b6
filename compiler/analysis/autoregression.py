"""What an element of a tensor sees of the tensor that a flow transforms: the proof that its Jacobian is triangular.

The elements of z are ordered by position, in raster order, and at one position by channel. For every tensor made of z
this follows two things: whether an element sees positions before or after its own, and which channels of z it sees
at its own. A tensor that is not made of z (a context) adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import or_

from hvdsl.compiler.catalogue.convolutions import kernel_offsets
from hvdsl.compiler.catalogue.masks import causal_mask
from hvdsl.compiler.catalogue.values import integer
from hvdsl.compiler.graph import Edge, Graph, Node, Term

BY_ELEMENT = frozenset(
    [
        "affine",
        "gelu",
        "silu",
        "swish",
        "elu",
        "relu",
        "leaky_relu",
        "sigmoid",
        "tanh",
        "softplus",
        "clip",
        "identity",
        "dropout",
        "add",
        "residual",
        "sub",
        "mul",
        "div",
        "neg",
        "add_number",
        "sub_number",
        "number_sub",
        "mul_number",
        "div_number",
        "number_div",
    ]
)


@dataclass(frozen=True, slots=True)
class Seen:
    """`before`, `after`: other positions of z, in raster order. `own`: by channel, the channels of z there, as bits.

    `mixed_by` is the first node after which no order of the positions is left.
    """

    own: tuple[int, ...]
    before: bool = False
    after: bool = False
    mixed_by: int | None = None

    def joined(self, other: Seen) -> Seen:
        """Of an element that is made of one of each, which may have one channel for all."""
        own = tuple(a | b for a, b in zip(*_broadcast(self.own, other.own), strict=True))
        return self._with(own, other)

    def beside(self, other: Seen) -> Seen:
        """Of both, one behind the other on the channels."""
        return self._with(self.own + other.own, other)

    def _with(self, own: tuple[int, ...], other: Seen) -> Seen:
        mixed = self.mixed_by if self.mixed_by is not None else other.mixed_by
        return Seen(own, self.before or other.before, self.after or other.after, mixed)


def seen_of(graph: Graph, source: Edge, last: int) -> dict[Edge, Seen]:
    """What every tensor up to node `last` that is made of `source` sees of it: a tensor that is not is absent."""
    channels, *grid = graph.shape(source)
    found = {source: Seen(tuple(1 << c for c in range(channels)))}
    for node in graph.nodes[source.node + 1 : last + 1]:
        if not any(value in found for value in node.inputs):
            continue
        nothing = [Seen((0,) * graph.shape(v)[0]) for v in node.inputs]
        operands = [found.get(v, none) for v, none in zip(node.inputs, nothing, strict=True)]
        keeps_place = all(list(shape[1:]) == grid for shape in node.shapes)
        results = _through(graph, node, operands) if keeps_place else _everything(node, operands)
        for port, seen in enumerate(results):
            if seen.mixed_by is None and seen.before and seen.after:
                seen = Seen(seen.own, True, True, node.index)
            found[Edge(node.index, port)] = seen
    return found


def _through(graph: Graph, node: Node, operands: Sequence[Seen]) -> tuple[Seen, ...]:
    if node.operation.name in BY_ELEMENT:
        one = reduce(Seen.joined, operands)
        return tuple(one for _ in node.shapes)
    if node.operation.name == "concat":
        return (reduce(Seen.beside, operands),)
    rule = _RULES.get(node.operation.name)
    if rule is not None:
        return rule(graph, node, operands[0])
    return _everything(node, operands)


def _everything(node: Node, operands: Sequence[Seen]) -> tuple[Seen, ...]:
    """Of an operation that keeps no order, or of which none is known."""
    own = reduce(or_, (bits for seen in operands for bits in seen.own))
    mixed = next((seen.mixed_by for seen in operands if seen.mixed_by is not None), node.index)
    return tuple(Seen((own,) * shape[0], True, True, mixed) for shape in node.shapes)


def _convolution(graph: Graph, node: Node, x: Seen) -> tuple[Seen, ...]:
    shape, outputs = graph.shape(node.inputs[0]), node.shapes[0][0]
    groups = shape[0] if node.operation.name == "depthwise" else integer(node.args, "groups")
    mask = causal_mask(node.args, shape[0], outputs)
    at, mirror = (mask.at, mask.mirror) if mask else ("all", False)
    rows, columns = kernel_offsets(shape, node.args)
    offsets = list(product(rows, columns))
    if mask is not None:
        offsets = [o for o in offsets if o == (0, 0) or (o < (0, 0)) != mirror]
    own = _own_channels(x.own, outputs, groups, at) if (0, 0) in offsets else (0,) * outputs
    before = any(o < (0, 0) for o in offsets)
    after = any(o > (0, 0) for o in offsets)
    if node.args["pad"] == Term("reflect"):  # beyond the border lies what comes after it, or before
        before = after = before or after
    return (Seen(own, x.before or before, x.after or after, x.mixed_by),)


def _own_channels(inputs: tuple[int, ...], outputs: int, groups: int, at: str) -> tuple[int, ...]:
    """Of each output channel, what the input channels that it sees at its own position see."""
    width, height = len(inputs) // groups, outputs // groups
    blocks = min(width, height)
    found = []
    for output in range(outputs):
        group, channel = divmod(output, height)
        block = channel * blocks // height
        if at == "all":
            stop = width
        elif at == "exclude":
            stop = 0
        else:
            stop = (block + (at == "upto")) * width // blocks
        found.append(reduce(or_, inputs[group * width : group * width + stop], 0))
    return tuple(found)


def _split(graph: Graph, node: Node, x: Seen) -> tuple[Seen, ...]:
    found, start = [], 0
    for channels, *_ in node.shapes:
        found.append(Seen(x.own[start : start + channels], x.before, x.after, x.mixed_by))
        start += channels
    return tuple(found)


def _glu(graph: Graph, node: Node, x: Seen) -> tuple[Seen, ...]:
    half = len(x.own) // 2
    halves = [Seen(own, x.before, x.after, x.mixed_by) for own in (x.own[:half], x.own[half:])]
    return (halves[0].joined(halves[1]),)


def _layer_norm(graph: Graph, node: Node, x: Seen) -> tuple[Seen, ...]:
    return (Seen((reduce(or_, x.own),) * len(x.own), x.before, x.after, x.mixed_by),)


def _shift(graph: Graph, node: Node, x: Seen) -> tuple[Seen, ...]:
    down, right = integer(node.args, "down"), integer(node.args, "right")
    if (down, right) == (0, 0):
        return (x,)
    before = (-down, -right) < (0, 0)
    return (Seen((0,) * len(x.own), x.before or before, x.after or not before, x.mixed_by),)


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    n = max(len(a), len(b))
    return (a * n if len(a) == 1 else a), (b * n if len(b) == 1 else b)


_RULES: Mapping[str, Callable[[Graph, Node, Seen], tuple[Seen, ...]]] = {
    "conv": _convolution,
    "depthwise": _convolution,
    "split": _split,
    "chunk": _split,
    "glu": _glu,
    "layer_norm": _layer_norm,
    "shift": _shift,
}
