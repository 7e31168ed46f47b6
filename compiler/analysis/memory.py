"""The memory of a training step, predicted from the graph: what is kept for the backward pass, and the peak.

Bytes are of one image, to be multiplied by the images of one backward pass, but for the weights that a step derives.
The likelihood is outside the graph and outside these numbers; at the end of a forward pass it is small beside them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from hvdsl.compiler.analysis.cost import macs, segments
from hvdsl.compiler.catalogue.rules import element_count
from hvdsl.compiler.catalogue.table import Locality, Saves
from hvdsl.compiler.graph import Edge, Graph, GraphScope, Node, Role
from hvdsl.grammar.record import Record, record

FLOAT32, LOW = 4, 2  # bytes

# Drawing z and its closed-form rate keep the noise, the scale, the squared ratio of the scales, the
# difference of the means, the prior's inverse scale, and the product of these two.
KEPT_PER_DRAW = 6
KEPT_PER_CODE = 1  # the distance to the code, which commitment costs


class KeptMemory(NamedTuple):
    """Memory that the backward pass needs: a tensor as it is, or a copy of it in another precision.

    `reader` is the node that has the copy to itself, -1 where there is none.
    """

    edge: Edge
    bytes: int
    reader: int = -1


@record
class Memory(Record):
    """Bytes of one training step.

    `saved`: what the backward pass keeps of an image. `peak`: the allocator's peak over forward and backward pass for
    an image, without parameters, their gradients and the optimizer's state. `weights`: what is kept of weights that a
    step derives, by normalising, masking or casting them, whatever the number of images.
    """

    saved: int
    peak: int
    weights: int

    def of(self, images: int) -> int:
        """The peak of a backward pass with so many images."""
        return self.peak * images + self.weights


@record
class Recomputation(Record):
    """Recipe instances to run again in the backward pass, by path, and the memory of a step that does."""

    paths: tuple[str, ...]
    memory: Memory
    macs: int


class Storages:
    """The memory that tensors share: a view is stored where the tensor that it looks at is.

    Args:
        low: Whether products run in 16 bits, and what every recipe hands on, latents and sums with float32 in 32.
    """

    def __init__(self, graph: Graph, low: bool = False) -> None:
        self.graph, self._low = graph, low
        self._base: dict[Edge, Edge] = {}
        self._width: dict[Edge, int] = {}  # bytes of an element
        self._trained: set[int] = set()  # nodes that a gradient passes
        self._calls = {node.index: _call(node) for node in graph.nodes}
        for node in graph.nodes:
            if any(p.trainable for p in node.parameters) or any(v.node in self._trained for v in node.inputs):
                self._trained.add(node.index)
            for port in range(len(node.shapes)):
                own = Edge(node.index, port)
                seen = node.inputs[min(port, len(node.inputs) - 1)] if node.operation.view else own
                self._base[own] = self._base.get(seen, seen)
                self._width[own] = self._width_of(node)

    def base(self, value: Edge) -> Edge:
        return self._base[value]

    def bytes(self, value: Edge) -> int:
        """Of the tensor as its node makes it."""
        return element_count(self.graph.shape(value)) * self._width[value]

    def kept(self, node: Node) -> set[KeptMemory]:
        """The memory that the backward pass of a node needs.

        Convolutions, gelu and silu keep their input, sigmoid and relu their result, products their operands;
        sums, concatenations and views keep nothing. A view keeps the whole tensor that it looks at. What no
        gradient passes keeps nothing.
        """
        if node.index not in self._trained:
            return set()
        match node.operation.saves:
            case Saves.INPUT:
                return {self._read(value, node) for value in node.inputs[:1]}
            case Saves.INPUTS:
                return {self._read(value, node) for value in node.inputs}
            case Saves.OUTPUT:
                own = (Edge(node.index, port) for port in range(len(node.shapes)))
                return {KeptMemory(self.base(value), self.bytes(self.base(value))) for value in own}
            case Saves.NOTHING:
                return set()

    def derived(self, nodes: Iterable[Node]) -> int:
        """Bytes of normalised and masked weights that these nodes keep for the backward pass, where nothing is cast."""
        if self._low:
            return 0
        changed = (n for n in nodes if any(n.args.get(name) not in (None, "none") for name in ("norm", "mask")))
        return sum(_weights(node) for node in changed if node.index in self._trained) * FLOAT32

    def cast(self) -> int:
        """Bytes of weights in 16 bits: all of them are there until the forward pass ends."""
        return sum(_weights(node) for node in self.graph.nodes if _is_product(node)) * LOW if self._low else 0

    def saved(self, nodes: Sequence[Node]) -> int:
        """Bytes that the backward pass through `nodes` keeps for one image: distinct storages, each once."""
        kept: set[KeptMemory] = set()
        for node in nodes:
            kept |= self.kept(node)
        return sum(k.bytes for k in kept) + self.drawn(nodes)

    def drawn(self, nodes: Iterable[Node]) -> int:
        """Bytes that draws and rates keep for one image."""
        latents = [node for node in nodes if node.role is Role.LATENT]
        return sum(self._kept_of(node) * element_count(node.shapes[0]) * FLOAT32 for node in latents)

    def _kept_of(self, latent: Node) -> int:
        prior = self.graph.nodes[latent.inputs[0].node].operation.distribution
        quantized = prior is not None and prior.family is not None and prior.family.quantized
        return KEPT_PER_CODE if quantized else KEPT_PER_DRAW

    def _width_of(self, node: Node) -> int:
        """A product gives 16 bits; what works element by element, and views, the widest of its operands."""
        if not self._low or node.role is not Role.OPERATION or not node.inputs:
            return FLOAT32
        if _is_product(node) or node.operation.casts:
            return LOW
        if node.operation.view or node.operation.locality in (Locality.ELEMENT, Locality.PIXEL):
            return max(self._arrives(value, node) for value in node.inputs)
        return max(self._arrives(value, node) for value in node.inputs) if not node.parameters else FLOAT32

    def _arrives(self, value: Edge, node: Node) -> int:
        """The width in which a node meets a tensor: recipes hand on float32."""
        inside = self._calls[value.node]
        return self._width[value] if inside in _calls_around(node, self._calls) else FLOAT32

    def _read(self, value: Edge, node: Node) -> KeptMemory:
        base = self.base(value)
        made, arrives = self._width[base], self._arrives(value, node)
        wanted = LOW if self._low and _is_product(node) else arrives
        if wanted == made:
            return KeptMemory(base, self.bytes(base))
        shared = arrives == wanted  # cast where a recipe ends, once for all readers; a product casts for itself
        return KeptMemory(base, element_count(self.graph.shape(value)) * wanted, -1 if shared else node.index)


def _is_product(node: Node) -> bool:
    return node.role is Role.OPERATION and node.operation.is_product


def _weights(node: Node) -> int:
    """Elements of what a node multiplies with: not of biases and gains."""
    return sum(p.size for p in node.parameters if p.trainable and p.role == "weight")


def _call(node: Node) -> GraphScope:
    """The innermost recipe or section that a node is computed by."""
    scope = node.scope
    while scope.parent is not None and scope.kind not in ("recipe", "shared", "section"):
        scope = scope.parent
    return scope


def _calls_around(node: Node, calls: dict[int, GraphScope]) -> list[GraphScope]:
    """The recipes and the section that a node is within, innermost first."""
    found, scope = [], calls[node.index]
    while True:
        found.append(scope)
        if scope.parent is None:
            return found
        scope = scope.parent


class StepMemory:
    """Predicts the memory of a training step, with any of its outermost recipe instances run again."""

    def __init__(self, graph: Graph, *, low: bool = False) -> None:
        self.graph = graph
        self._storages = storages = Storages(graph, low)
        self._kept = [storages.kept(node) for node in graph.nodes]
        largest = max((storages.bytes(Edge(n.index, p)) for n in graph.nodes for p in range(len(n.shapes))), default=0)
        image = element_count(graph.image) * FLOAT32 if graph.image else 0
        self._beside = image + 2 * largest  # two gradients in flight
        self.segments = segments(graph)

    def memory(self, recomputed: Collection[str] = ()) -> Memory:
        """What a step takes where these recipe instances are run again.

        That is what crosses into each of them and what is kept outside, and the most that one of them keeps itself.
        """
        nodes, storages = self.graph.nodes, self._storages
        inside: set[int] = set()
        crossing: set[KeptMemory] = set()
        again, weights_again = 0, 0
        for members in (use for path in recomputed for use in self.segments[path]):
            own = set(members)
            inside |= own
            entering = {storages.base(v) for i in members for v in nodes[i].inputs if v.node not in own}
            crossing |= {KeptMemory(edge, storages.bytes(edge)) for edge in entering}
            kept: set[KeptMemory] = set().union(*(self._kept[i] for i in members))
            drawn = storages.drawn(nodes[i] for i in members)
            again = max(again, sum(k.bytes for k in kept if k.edge not in entering or k.reader >= 0) + drawn)
            weights_again = max(weights_again, storages.derived(nodes[i] for i in members))
        outside = [node for node in nodes if node.index not in inside]
        remaining = crossing.union(*(self._kept[node.index] for node in outside))
        saved = sum(k.bytes for k in remaining) + storages.drawn(outside)
        weights = storages.derived(outside) + weights_again + storages.cast()
        return Memory(saved, saved + again + self._beside, weights)

    def within(self, budget: int, images: int) -> Recomputation | None:
        """The least work with which a step of so many images stays within a number of bytes; None if none does.

        Instances are taken by what they free for their work, the best first.
        """
        if self.memory().of(images) <= budget:
            return self.again(())
        order = sorted(self.segments, key=self._worth, reverse=True)
        least, most = 0, len(order)
        if self.memory(order).of(images) > budget:
            return None
        while least < most:  # how many
            half = (least + most) // 2
            if self.memory(order[:half]).of(images) <= budget:
                most = half
            else:
                least = half + 1
        return self.again(order[:least])

    def again(self, paths: Iterable[str]) -> Recomputation:
        """What running these recipe instances again makes of a step."""
        chosen = tuple(paths)
        return Recomputation(chosen, self.memory(chosen), sum(self._macs(path) for path in chosen))

    def _macs(self, path: str) -> int:
        return sum(macs(self.graph, self.graph.nodes[i]) for use in self.segments[path] for i in use)

    def _worth(self, path: str) -> float:
        """Bytes that running an instance again frees, for each multiply-accumulate."""
        nodes, freed = self.graph.nodes, 0
        for members in self.segments[path]:
            own = set(members)
            entering = {self._storages.base(v) for i in members for v in nodes[i].inputs if v.node not in own}
            kept: set[KeptMemory] = set().union(*(self._kept[i] for i in members))
            freed += sum(k.bytes for k in kept if k.edge not in entering)
            freed += self._storages.drawn(nodes[i] for i in members)
        return freed / max(1, self._macs(path))


def memory(graph: Graph, *, low: bool = False) -> Memory:
    """Predict the memory of a training step that runs nothing again."""
    return StepMemory(graph, low=low).memory()
