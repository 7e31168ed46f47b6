"""The ladder: bands of equal resolution with a bottom-up and a top-down column, and the links between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from hvdsl.compiler.analysis.causality import own_codes
from hvdsl.compiler.graph import Graph, GraphScope, Node, Role
from hvdsl.draw.folding import ScopeFolder
from hvdsl.draw.labels import quantity, shape
from hvdsl.draw.pieces import Piece, PieceKind
from hvdsl.render.numbers import abbreviated

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model


@dataclass(slots=True)
class Band:
    """One resolution. Both columns are in order of execution: the encoder goes up the page, the decoder down."""

    label: str
    encoder: list[Piece] = field(default_factory=list)
    decoder: list[Piece] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Link:
    """Tensors that pass between two pieces that do not follow each other."""

    source: Piece
    target: Piece
    label: str = ""
    tap: bool = False  # from the encoder to the decoder


@dataclass(slots=True)
class PriorColumn:
    """A second-stage prior."""

    name: str
    given: tuple[str, ...]
    pieces: list[Piece]
    flows: list[tuple[Piece, Piece]]
    links: list[Link]
    grid: str
    parameters: int


@dataclass(slots=True)
class Ladder:
    """Everything that a drawing shows, without coordinates."""

    title: str
    facts: str
    bands: list[Band]  # coarsest first
    flows: list[tuple[Piece, Piece]]  # neighbours in a column, taps apart, that pass something on
    links: list[Link]
    priors: list[PriorColumn]
    image: str
    likelihood: str

    def encoder(self) -> list[Piece]:
        """The bottom-up column in order of execution: finest first."""
        return [leaf for band in reversed(self.bands) for piece in band.encoder for leaf in piece.leaves()]

    def decoder(self) -> list[Piece]:
        """The top-down column in order of execution: coarsest first."""
        return [leaf for band in self.bands for piece in band.decoder for leaf in piece.leaves()]


def ladder(model: Model) -> Ladder:
    """Return the ladder of a model."""
    graph = model.graph
    bands = _bands(graph)
    drawn = Ladder(
        title=model.settings.title or model.settings.model,
        facts=_facts(model),
        bands=bands,
        flows=[],
        links=[],
        priors=[_prior(name, prior) for name, prior in model.priors.items()],
        image=shape(*graph.image) if graph.image else "",
        likelihood=model.likelihood.name.replace("_", " "),
    )
    drawn.flows, drawn.links = _connections(graph, (drawn.encoder(), drawn.decoder()))
    return drawn


def _facts(model: Model) -> str:
    latents = model.graph.latents
    scalars = sum(a.shape[0] * a.shape[1] * a.shape[2] for a in latents)
    if model.is_of_codes:
        facts = [f"{abbreviated(model.parameter_count)} parameters", "priors over codes from a file"]
    else:
        facts = [f"{abbreviated(model.graph.parameter_count())} parameters", quantity(len(latents), "latent group")]
        facts.append(quantity(scalars, "latent scalar"))
    given = {str(node.args["name"]): node for node in _conditions(model)}
    if given:
        facts.append(f"given {', '.join(f'{name} ({_kind_of(node)})' for name, node in given.items())}")
    return " · ".join(facts)


def _conditions(model: Model) -> Iterable[Node]:
    """The conditions that the model or its priors read, codes of other latents apart."""
    for graph in (model.graph, *model.priors.values()):
        yield from (node for node in graph.entries() if node.role is Role.GIVEN and node.args["source"] != "codes")


def _kind_of(condition: Node) -> str:
    classes = condition.args.get("classes")
    if isinstance(classes, int):
        return f"{classes} classes"
    channels, height, width = condition.shapes[0]
    return quantity(channels, "number") if height == width == 1 else shape(channels, height, width)


def _bands(graph: Graph) -> list[Band]:
    bands: dict[tuple[int, int], Band] = {}
    folder = ScopeFolder(graph)
    for section in graph.root.members:
        if not isinstance(section, GraphScope) or section.name not in ("encoder", "decoder"):
            continue
        for row in section.members:
            if not isinstance(row, GraphScope) or row.kind != "row":
                continue
            height, width = _grid(row.name)
            band = bands.setdefault((height, width), Band(f"{height}×{width}"))
            (band.encoder if section.name == "encoder" else band.decoder).extend(folder.pieces(row))
    return [bands[grid] for grid in sorted(bands, key=lambda grid: grid[0] * grid[1])]


def _grid(row: str) -> tuple[int, int]:
    """Return the grid of a row from its name: `r32`, `r8x6`."""
    height, _, width = row.removeprefix("r").partition("x")
    return int(height), int(width or height)


def _prior(name: str, graph: Graph) -> PriorColumn:
    given = tuple(str(node.args["name"]) for node in graph.entries() if node.args.get("source") == "codes")
    own, depth = graph.shape(graph.output), own_codes(graph).args["depth"]
    pieces = ScopeFolder(graph).pieces(graph.root)
    flows, links = _connections(graph, ([leaf for piece in pieces for leaf in piece.leaves()],))
    return PriorColumn(
        name,
        given,
        pieces,
        flows,
        links,
        f"{own[1]}×{own[2]}" + (f"×{depth}" if depth != 1 else ""),
        graph.parameter_count(),
    )


class _Owners:
    """The piece that shows each node; a node that none shows counts as its first input."""

    def __init__(self, graph: Graph, pieces: Sequence[Piece]) -> None:
        self._graph = graph
        self._owner = {node.index: piece for piece in pieces for node in piece.nodes}

    def of(self, index: int) -> Piece | None:
        while index not in self._owner:
            inputs = self._graph.nodes[index].inputs
            if not inputs:
                return None
            index = inputs[0].node
        return self._owner[index]


def _connections(graph: Graph, columns: Sequence[Sequence[Piece]]) -> tuple[list[tuple[Piece, Piece]], list[Link]]:
    """Return what passes between neighbours, and what crosses columns or passes over pieces of its own."""
    place = {id(piece): (side, n) for side, pieces in enumerate(columns) for n, piece in enumerate(pieces)}
    flows: list[tuple[Piece, Piece]] = []
    links: list[Link] = []
    for edges in _edges(graph, _Owners(graph, [piece for pieces in columns for piece in pieces]), place):
        source, target = edges[0][:2]
        (side, first), (other, last) = place[id(source)], place[id(target)]
        between = columns[side][first + 1 : last]
        if side != other:
            links.append(Link(source, target, _tap_label(graph, [edge[2:] for edge in edges]), tap=True))
        elif any(piece.kind is not PieceKind.TAP for piece in between):
            links.append(Link(source, target))
        else:
            flows.append((source, target))
    return flows, links


_Edge: TypeAlias = tuple[Piece, Piece, int, int]  # source, target, and the nodes at either end


def _edges(graph: Graph, owners: _Owners, place: Mapping[int, tuple[int, int]]) -> Iterable[list[_Edge]]:
    """Return the edges between pieces, by pair. Within a column a tap only lets the stream pass."""
    edges: dict[tuple[int, int], list[_Edge]] = {}
    for node in graph.nodes:
        target = owners.of(node.index)
        if target is None or target.kind is PieceKind.TAP:
            continue
        for value in node.inputs:
            index = value.node
            source = owners.of(index)
            while source is not None and source.kind is PieceKind.TAP and place[id(source)][0] == place[id(target)][0]:
                index = graph.nodes[index].inputs[0].node
                source = owners.of(index)
            if source is not None and source is not target and place[id(source)] < place[id(target)]:
                edges.setdefault((id(source), id(target)), []).append((source, target, value.node, node.index))
    return edges.values()


def _tap_label(graph: Graph, edges: Sequence[tuple[int, int]]) -> str:
    taps = {source for source, _ in edges if graph.nodes[source].role is Role.TAP}
    names = sorted({str(graph.nodes[tap].args["name"]) for tap in taps} - {"tap", "None", "", "skip"})
    each = len(taps) // max(1, len(names))
    words = [", ".join(names)] if names else []
    if each > 1:
        ordered = sorted(edges, key=lambda edge: edge[1])
        words.append(f"{each} taps" + (", mirrored" if ordered[0][0] > ordered[-1][0] else ""))
    return " · ".join(words)
