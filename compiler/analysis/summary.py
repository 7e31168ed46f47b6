"""What `hvdsl info` tells of a model, of its conditions and of its priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from hvdsl.compiler.analysis.causality import Sight, own_codes, sight
from hvdsl.compiler.analysis.cost import Cost, holders, node_cost, row_of, row_size
from hvdsl.compiler.analysis.field import receptive_fields
from hvdsl.compiler.analysis.memory import StepMemory, Storages
from hvdsl.compiler.analysis.reach import generation, latent_structure
from hvdsl.compiler.assembly.pixels import V, parse_pixel_map
from hvdsl.compiler.catalogue.rules import element_count, integer
from hvdsl.compiler.graph import Graph, GraphScope, Node
from hvdsl.compiler.model import Model
from hvdsl.grammar.record import Record, record

if TYPE_CHECKING:
    from hvdsl.compiler.analysis.export import Json


@record
class Resolution(Record):
    """The rows at one label, whole, wherever in them the map changes size. Work and memory are per image."""

    height: int
    width: int
    blocks: int  # recipe instances placed by the encoder's row
    groups: int  # latents
    latent_shapes: tuple[tuple[int, int, int], ...]  # distinct ones, in order of generation
    parameters: int
    macs: int
    activation_bytes: int


@record
class Summary(Record):
    """Totals for one image and float32; the likelihood's own work and memory are not in them, its parameters are.

    `receptive_field`: height and width in pixels of the largest direct field of any posterior.
    `activation_bytes`: what a training step keeps for the backward pass; `peak_bytes` and
    `checkpointed_peak_bytes` predict the allocator's peak.
    """

    name: str
    parameters: int
    encoder_parameters: int
    decoder_parameters: int
    likelihood_parameters: int
    parameter_tensors: int
    buffers: int
    macs: int
    generation_macs: int
    activation_bytes: int
    peak_bytes: int
    checkpointed_peak_bytes: int
    latent_groups: int
    latent_dims: int
    stochastic_depth: int
    receptive_field: tuple[int, int]
    resolutions: tuple[Resolution, ...]

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


def summary(graph: Graph) -> Summary:
    """Summarise a model's graph.

    Raises:
        ValueError: for a second-stage prior, which has no image.
    """
    costs = [node_cost(graph, node) for node in graph.nodes]
    steps = StepMemory(graph)
    plain = steps.memory()
    seen = receptive_fields(graph).posterior
    return Summary(
        name=graph.name,
        parameters=graph.parameter_count(),
        encoder_parameters=_section_parameters(graph, costs, "encoder"),
        decoder_parameters=_section_parameters(graph, costs, "decoder"),
        likelihood_parameters=sum(p.size for p in graph.likelihood),
        parameter_tensors=len(graph.likelihood)
        + sum(p.trainable and p.role not in node.shared for node in graph.nodes for p in node.parameters),
        buffers=sum(c.buffers for c in costs),
        macs=sum(c.macs for c in costs),
        generation_macs=sum(costs[i].macs for i in generation(graph).nodes),
        activation_bytes=plain.saved,
        peak_bytes=plain.peak,
        checkpointed_peak_bytes=steps.memory(steps.segments).peak,
        latent_groups=len(graph.latents),
        latent_dims=sum(element_count(group.shape) for group in graph.latents),
        stochastic_depth=latent_structure(graph).depth,
        receptive_field=(max((h for h, _ in seen), default=0), max((w for _, w in seen), default=0)),
        resolutions=_resolutions(graph, costs),
    )


def _section_parameters(graph: Graph, costs: Sequence[Cost], name: str) -> int:
    sections = [m for m in graph.root.members if isinstance(m, GraphScope) and m.name == name]
    return sum(costs[node.index].parameters for section in sections for node in section.nodes())


def _resolutions(graph: Graph, costs: Sequence[Cost]) -> tuple[Resolution, ...]:
    """Finest first."""
    above = holders(graph)
    storages = Storages(graph)
    nodes: dict[tuple[int, int], list[Node]] = {}
    blocks: dict[tuple[int, int], set[int]] = {}
    for node in graph.nodes:
        row = row_of(above[node.index])
        if row is None:
            continue
        place = row_size(row)
        nodes.setdefault(place, []).append(node)
        known = blocks.setdefault(place, set())
        block = next((scope for scope in above[node.index] if scope.kind in ("recipe", "shared")), None)
        if block is not None and row.parent is not None and row.parent.name == "encoder":
            known.add(id(block))
    resolutions = []
    for place in sorted(nodes, reverse=True):
        own = {node.index for node in nodes[place]}
        drawn = [group for group in graph.latents if group.node in own]
        resolutions.append(
            Resolution(
                height=place[0],
                width=place[1],
                blocks=len(blocks[place]),
                groups=len(drawn),
                latent_shapes=tuple(dict.fromkeys(group.shape for group in drawn)),
                parameters=sum(costs[i].parameters for i in own),
                macs=sum(costs[i].macs for i in own),
                activation_bytes=storages.saved(nodes[place]),
            )
        )
    return tuple(resolutions)


@record
class ConditionUse(Record):
    """A field of `data`, as raw numbers `(C, H, W)`, and what reads it.

    `read_by`: `inference`, `generation` (which inference runs, too), `prior NAME`, `target` and `weight`.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int | None
    drop: float
    read_by: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


def condition_uses(model: Model) -> tuple[ConditionUse, ...]:
    """Return the fields of a model's data, in order."""
    data, generated = model.settings.data, generation(model.graph).nodes
    names = [field.name for field in data.given]
    inferring = _readers(model.graph)
    readers: dict[str, list[str]] = {name: ["inference"] for name in inferring}
    for name, places in inferring.items():
        if any(place in generated for place in places):
            readers[name].append("generation")
    for latent, graph in model.priors.items():
        for name in _readers(graph):
            readers.setdefault(name, []).append(f"prior {latent}")
    for what, text in (("target", data.target), ("weight", data.weight)):
        for name in set(parse_pixel_map(text, (V, *names)).symbols) - {V} if text is not None else ():
            readers.setdefault(name, []).append(what)
    return tuple(
        ConditionUse(field.name, field.shape, field.classes, field.drop, tuple(readers.get(field.name, ())))
        for field in data.conditions
    )


def _readers(graph: Graph) -> dict[str, list[int]]:
    """The nodes of each field that a graph reads."""
    nodes: dict[str, list[int]] = {}
    for node in graph.nodes:
        if node.args.get("source") == "field":
            nodes.setdefault(str(node.args["name"]), []).append(node.index)
    return nodes


@record
class PriorSummary(Record):
    """A prior over `classes` codes on a map of `height` x `width`, `depth` at each position.

    `sight` is of the middle position.
    """

    name: str
    given: tuple[str, ...]
    classes: int
    height: int
    width: int
    depth: int
    parameters: int
    sight: Sight

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


def prior_summary(graph: Graph) -> PriorSummary:
    """Summarise a prior's graph."""
    own = own_codes(graph)
    _, height, width = own.shapes[0]
    classes, depth = integer(own.args, "classes"), integer(own.args, "depth")
    given = tuple(str(n.args["name"]) for n in graph.nodes if n.args.get("source") == "codes")
    return PriorSummary(graph.name, given, classes, height, width, depth, graph.parameter_count(), sight(graph))
