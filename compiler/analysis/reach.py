"""What output, objective and generation depend on: all else computes for nobody. How latents depend on each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from hvdsl.compiler.analysis.zeros import FACTORS, find_zeros, linear_forms
from hvdsl.compiler.catalogue.activations import DROPOUT
from hvdsl.compiler.catalogue.arithmetic import MUL, MUL_NUMBER, NUMBER_DIV
from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.catalogue.norms import BATCH_NORM
from hvdsl.compiler.catalogue.rules import number
from hvdsl.compiler.catalogue.sources import CONSTANT
from hvdsl.compiler.catalogue.table import Needs
from hvdsl.compiler.graph import Edge, Graph, GraphLatent, Node, Role
from hvdsl.compiler.model import Model
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.grammar.record import Record, record


def reaching(graph: Graph, ends: Iterable[int]) -> frozenset[int]:
    """The nodes that any of `ends` depends on, themselves included; a latent depends on its prior and posterior."""
    reached = set(ends)
    for node in reversed(graph.nodes):
        if node.index in reached and node.operation.needs is Needs.VALUES:
            reached.update([edge.node for edge in node.inputs])
    return frozenset(reached)


def sees_image(graph: Graph) -> frozenset[int]:
    """The nodes that depend on the image other than through a latent of the decoder."""
    seeing: set[int] = set()
    for node in graph.nodes:
        operation = node.operation
        if operation.role is Role.IMAGE:
            seeing.add(node.index)
        elif operation.role is not Role.LATENT and operation.needs is Needs.VALUES:
            for edge in node.inputs:
                if edge.node in seeing:
                    seeing.add(node.index)
                    break
    return frozenset(seeing)


def learning(model: Model) -> frozenset[int]:
    """The nodes that the objective's gradient comes to, whatever only generation reads left out.

    Rates without a weight and quantizers without a commitment give none: what only they read never learns.
    """
    graph, objective = model.graph, model.settings.objective
    sums, zero = linear_forms(graph), find_zeros(graph)
    nothing = {node.index for node, factor in factors(graph) if factor == 0} | zero.deaf
    trained: set[int] = set()

    def train(edges: Iterable[Edge]) -> None:
        """The gradient comes to these: of a sum, to what is left in it."""
        for edge in edges:
            trained.update({term.node for term in sums.get(edge, (edge,)) if term not in zero.empty})

    train([graph.output])
    for latent in graph.latents:
        family = LATENT_FAMILIES[latent.family]
        if family.quantized:
            train([latent.prior])  # whose codebook has a loss of its own
            train([latent.posterior] if family.commits and objective.commitment != 0 else ())
        elif weighs(latent, objective):
            train(graph.nodes[latent.node].inputs)
    priors = {latent.node: latent.prior for latent in graph.latents}
    for node in reversed(graph.nodes):
        if node.index in trained and node.index not in nothing and node.operation.needs is Needs.VALUES:
            train(edge for edge in node.inputs if edge != priors.get(node.index))  # training draws from others
    return frozenset(trained)


def weighs(latent: GraphLatent, objective: ObjectiveSettings) -> bool:
    """Whether the rate of a latent is trained at all."""
    own = latent.settings
    return objective.bound == "iwae" or (objective.beta != 0 and (own is None or own.weight != 0))


def factors(graph: Graph) -> Iterator[tuple[Node, float]]:
    """Each product or quotient of a tensor by a number before it or a `constant`, with that number."""
    for node in graph.nodes:
        if node.operation is MUL_NUMBER or node.operation is NUMBER_DIV:
            yield node, number(node.args, "number")
        elif node.operation is MUL:
            sources = [graph.nodes[edge.node] for edge in node.inputs]
            yield from ((node, number(source.args, "value")) for source in sources if source.operation is CONSTANT)


def still_norms(graph: Graph) -> Iterator[Node]:
    """Batch norms of one position that is alike in every image: they give their bias, and their gain never learns."""
    varying: set[int] = set()
    for node in graph.nodes:
        random = node.operation is DROPOUT or node.role not in (Role.OPERATION, Role.TAP, Role.OUTPUT)
        if random or any(edge.node in varying for edge in node.inputs):
            varying.add(node.index)
        elif node.operation is BATCH_NORM and graph.shape(node.inputs[0])[1:] == (1, 1):
            yield node


def untrained(model: Model) -> Iterator[tuple[str, Node]]:
    """Each trained parameter that can get no gradient, by its path, and a node that owns it."""
    graph = model.graph
    deaf = find_zeros(graph).deaf
    trained = {path for i in learning(model) for path in _paths(graph.nodes[i], deaf)}
    for node in graph.nodes:
        for path in _paths(node):
            if path not in trained:
                trained.add(path)
                yield path, node


def _paths(node: Node, deaf: Collection[int] = ()) -> Iterator[str]:
    """The trained parameters of a node; of one that is deaf, its bias alone."""
    for parameter in node.parameters:
        if parameter.trainable and not (node.index in deaf and parameter.role in FACTORS):
            yield node.parameter_path(parameter.role)


@record
class Generation(Record):
    """`nodes`: what runs without an image, in order. `inference_only`: the other nodes, in order."""

    nodes: tuple[int, ...]
    inference_only: tuple[int, ...]


@record
class LatentStructure(Record):
    """`parents[k]`: the latents that the prior of latent k reads, directly; numbers are in order of
    generation.

    `level[k]`: how many latents must be drawn one after the other before k. Latents of one level can be drawn
    in parallel. `last`: the latents that the output reads directly.
    """

    parents: tuple[tuple[int, ...], ...]
    level: tuple[int, ...]
    last: tuple[int, ...]

    @property
    def depth(self) -> int:
        """The stochastic depth: the longest chain of latents."""
        return max(self.level, default=-1) + 1

    @property
    def parallel(self) -> tuple[tuple[int, ...], ...]:
        """The latents of each level, first level first."""
        return tuple(tuple(k for k, level in enumerate(self.level) if level == wanted) for wanted in range(self.depth))


def generation(graph: Graph) -> Generation:
    """Split the nodes: ancestors of the output with the posterior's edges cut, and the rest."""
    needed = {graph.output.node}
    for node in reversed(graph.nodes):
        if node.index in needed:
            needed.update(value.node for value in _generative_inputs(node))
    order = range(len(graph.nodes))
    return Generation(tuple(i for i in order if i in needed), tuple(i for i in order if i not in needed))


def latent_structure(graph: Graph) -> LatentStructure:
    """Return the latents that each prior reads, in one pass over the nodes."""
    number = {group.node: k for k, group in enumerate(graph.latents)}
    reaching: list[int] = []  # by node: the latents whose value reaches it past no other, as bits
    parents: dict[int, int] = {}
    for node in graph.nodes:
        bits = 0
        for value in _generative_inputs(node):
            bits |= reaching[value.node]
        if node.index in number:
            parents[number[node.index]] = bits
            bits = 1 << number[node.index]
        reaching.append(bits)
    level: list[int] = []
    lists = tuple(_numbers(parents[k]) for k in range(len(graph.latents)))
    for own in lists:
        level.append(1 + max((level[k] for k in own), default=-1))
    return LatentStructure(lists, tuple(level), _numbers(reaching[graph.output.node]))


def latents_that_see_the_image(graph: Graph) -> frozenset[int]:
    """Return the latents, by number, whose posterior depends on the image other than through latents before it."""
    number = {group.node: k for k, group in enumerate(graph.latents)}
    sees: list[bool] = []
    seeing: set[int] = set()
    for node in graph.nodes:
        sees.append(node.role is Role.IMAGE or any(sees[edge.node] for edge in node.inputs))
        if node.index in number:
            if any(sees[edge.node] for edge in node.inputs[1:]):
                seeing.add(number[node.index])
            sees[node.index] = False
    return frozenset(seeing)


def _generative_inputs(node: Node) -> tuple[Edge, ...]:
    """A latent's prior alone: in generation there is no posterior."""
    return node.inputs[:1] if node.role is Role.LATENT else node.inputs


def _numbers(bits: int) -> tuple[int, ...]:
    return tuple(k for k in range(bits.bit_length()) if bits >> k & 1)
