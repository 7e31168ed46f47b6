"""What the HTML form shows of a piece on click: the spec's text, every instance, the inside of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from hvdsl.compiler.graph import Graph, Node, Scope
from hvdsl.draw import columns, labels
from hvdsl.draw.cell import MOST, inside
from hvdsl.draw.items import Item, Kind, key
from hvdsl.draw.ladder import Ladder
from hvdsl.draw.svg import svg

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model

YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Instance:
    """One of the places that a piece stands for."""

    path: str
    shape: str
    parameters: str


@dataclass(frozen=True, slots=True)
class Detail:
    """What is shown of a piece."""

    title: str
    facts: str
    place: str  # file and line
    code: str  # of the spec
    instances: tuple[Instance, ...]
    inside: int | None  # which of the drawings


def details(model: Model, ladder: Ladder) -> dict[str, Any]:
    """Return the details of every piece by its key, and the drawings of recipes that they refer to."""
    drawings: list[str] = []
    pieces: dict[str, Any] = {}
    parts = [("", model.graph, [item for band in ladder.bands for item in (*band.encoder, *band.decoder)])]
    parts += [(prior.name, model.priors[prior.name], prior.items) for prior in ladder.priors]
    for prior, graph, items in parts:
        for item in (leaf for whole in items for leaf in whole.leaves()):
            pieces[key(item, prior)] = asdict(_detail(graph, item, drawings))
    return {"pieces": pieces, "drawings": drawings}


def _detail(graph: Graph, item: Item, drawings: list[str]) -> Detail:
    instances = tuple(_instances(item))
    facts = [columns.detail(item), f"{len(item.nodes):,} operations"]
    facts += [f"latent {mark.name}: {labels.shapes(mark.shapes)}, {len(mark.shapes)} in all" for mark in item.marks]
    span = item.scope.definition[1] if item.scope and item.scope.definition else item.nodes[0].span
    place = f"{PurePath(span.source.name).name}:{span.line}"
    title = columns.heading(item).replace(" | ", " → ") or item.kind.value
    return Detail(title, "\n".join(facts), place, _code(item), instances, _inside(graph, item, drawings))


def _inside(graph: Graph, item: Item, drawings: list[str]) -> int | None:
    """Return which of the drawings is that of a recipe's first instance; equal ones are kept once."""
    if item.kind is not Kind.RECIPE or item.scope is None or len(list(item.scope.nodes())) > MOST:
        return None
    drawing = svg(inside(graph, item.scope, f"as {item.scope.path} has it"))
    if drawing not in drawings:
        drawings.append(drawing)
    return drawings.index(drawing)


def _instances(item: Item) -> Iterator[Instance]:
    """Every instance of a recipe, in all turns of what repeats around it; of operations and latents every node."""
    if item.kind is not Kind.RECIPE or item.scope is None:
        for node in item.nodes:
            if labels.operation(node):
                yield _instance(f"{node.scope.path}: {labels.operation(node)}".removeprefix(": "), [node])
        return
    groups: dict[int, tuple[Scope, list[Node]]] = {}
    for node in item.nodes:
        owner = _owner(node, item.scope)
        groups.setdefault(id(owner), (owner, []))[1].append(node)
    for scope, nodes in groups.values():
        yield _instance(scope.path, nodes)


def _owner(node: Node, like: Scope) -> Scope:
    """Return the instance that a node belongs to: the outermost scope of that kind and name above it."""
    owner, scope = node.scope, node.scope
    while scope.parent is not None:
        if (scope.kind, scope.name) == (like.kind, like.name):
            owner = scope
        scope = scope.parent
    return owner


def _instance(path: str, nodes: Sequence[Node]) -> Instance:
    size = sum(p.size for node in nodes for p in node.parameters if p.trainable and p.role not in node.shared)
    return Instance(path, labels.shape(*nodes[-1].shapes[0]), f"{size:,}" if size else "")


def _code(item: Item) -> str:
    """Return the lines of the spec: of a recipe its definition, else those that the nodes come from."""
    if item.kind is Kind.RECIPE and item.scope is not None and item.scope.definition is not None:
        span = item.scope.definition[1]
        lines = span.source.text.splitlines()[span.line - 1 :]
        comments = [comment for comment in item.scope.comments if comment.startswith("#")]
        whole = _indented if span.source.name.endswith(YAML) else _braced
        return "\n".join([*comments, dedent("\n".join(whole(lines)))])
    first = item.nodes[0].span.source
    numbers = sorted({node.span.line for node in item.nodes if node.span.source is first})
    text = first.text.splitlines()
    return "\n".join(text[number - 1].strip() for number in numbers)


def _braced(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines up to the one that closes the first brace."""
    open_braces, opened = 0, False
    for line in lines:
        yield line
        words = line.partition("#")[0]
        open_braces += words.count("{") - words.count("}")
        opened = opened or "{" in words
        if opened and open_braces <= 0:
            return


def _indented(lines: Iterable[str]) -> Iterator[str]:
    """Yield the first line and those that stand deeper, or are items of its list."""
    depth: int | None = None
    for line in lines:
        own = len(line) - len(line.lstrip())
        inside = depth is None or own > depth or (own == depth and line.lstrip().startswith("- "))
        if line.strip() and not inside:
            return
        depth = own if depth is None else depth
        yield line
