"""What `hvdsl info` tells of a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hvdsl.compiler.analysis.cost import Cost, cost, memory, node_cost, saved_bytes
from hvdsl.compiler.analysis.field import receptive_fields
from hvdsl.compiler.analysis.generation import generation, latent_structure
from hvdsl.compiler.analysis.places import holders, label, row_of
from hvdsl.compiler.graph import Graph, Node, Scope
from hvdsl.compiler.operations.shapes import size

if TYPE_CHECKING:
    from hvdsl.compiler.analysis.export import Json


@dataclass(frozen=True, slots=True)
class Resolution:
    """The rows at one label. Counts are of the whole rows, wherever in them the map changes size; per image where that matters."""

    height: int
    width: int
    blocks: int  # recipe instances placed by the encoder's row
    groups: int  # latents
    latent_shapes: tuple[tuple[int, int, int], ...]  # distinct ones, in order of generation
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals for one image and float32; the likelihood's own work and memory are not in them.

    `receptive_field`: height and width in pixels of the largest direct field of any posterior. `activation_bytes`: what a training
    step keeps for the backward pass; `peak_bytes` and `checkpointed_peak_bytes` predict the allocator's peak.
    """

    name: str
    parameters: int
    encoder_parameters: int
    decoder_parameters: int
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
    total = cost(graph)
    steps = memory(graph)
    seen = receptive_fields(graph).posterior
    above = holders(graph)
    encoder, decoder = (_section(graph, name) for name in ("encoder", "decoder"))
    return Summary(
        name=graph.name,
        parameters=total.parameters,
        encoder_parameters=encoder.parameters,
        decoder_parameters=decoder.parameters,
        parameter_tensors=sum(
            p.trainable and p.role not in node.shared for node in graph.nodes for p in node.parameters
        ),
        buffers=total.buffers,
        macs=total.macs,
        generation_macs=cost(graph, (graph.nodes[i] for i in generation(graph).nodes)).macs,
        activation_bytes=steps.saved,
        peak_bytes=steps.peak,
        checkpointed_peak_bytes=steps.checkpointed,
        latent_groups=len(graph.latents),
        latent_dims=sum(size(group.shape) for group in graph.latents),
        stochastic_depth=latent_structure(graph).depth,
        receptive_field=(max((h for h, _ in seen), default=0), max((w for _, w in seen), default=0)),
        resolutions=_resolutions(graph, above),
    )


def _section(graph: Graph, name: str) -> Cost:
    members = [m for m in graph.root.members if isinstance(m, Scope) and m.name == name]
    return sum((cost(graph, section.nodes()) for section in members), Cost())


def _resolutions(graph: Graph, above: dict[int, tuple[Scope, ...]]) -> tuple[Resolution, ...]:
    """Finest first."""
    nodes: dict[tuple[int, int], list[Node]] = {}
    blocks: dict[tuple[int, int], set[int]] = {}
    for node in graph.nodes:
        row = row_of(above[node.index])
        if row is None:
            continue
        place = label(row)
        nodes.setdefault(place, []).append(node)
        known = blocks.setdefault(place, set())
        if row.parent is not None and row.parent.name == "encoder":
            known.update(id(scope) for scope in above[node.index] if _is_block(scope, above[node.index]))
    return tuple(
        _resolution(graph, place, nodes[place], len(blocks[place])) for place in sorted(nodes, reverse=True)
    )


def _is_block(scope: Scope, above: tuple[Scope, ...]) -> bool:
    """Whether a scope is the outermost recipe instance around a node."""
    return scope is next((s for s in above if s.kind in ("recipe", "shared")), None)


def _resolution(graph: Graph, place: tuple[int, int], nodes: list[Node], blocks: int) -> Resolution:
    total = sum((node_cost(graph, node) for node in nodes), Cost())
    own = {node.index for node in nodes}
    drawn = [group for group in graph.latents if group.node in own]
    return Resolution(
        height=place[0],
        width=place[1],
        blocks=blocks,
        groups=len(drawn),
        latent_shapes=tuple(dict.fromkeys(group.shape for group in drawn)),
        parameters=total.parameters,
        macs=total.macs,
        activation_bytes=saved_bytes(graph, nodes),
    )
