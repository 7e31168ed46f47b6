"""A drawing as one HTML file: it zooms and moves, and a click on a piece shows its spec, instances and inside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import PurePath
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from hvdsl.compiler.graph import Graph, GraphScope, Node
from hvdsl.draw import columns, labels
from hvdsl.draw.cell import MOST, inside
from hvdsl.draw.ladder import Ladder
from hvdsl.draw.picture import Picture
from hvdsl.draw.pieces import Piece, PieceKind, piece_key
from hvdsl.draw.svg import svg

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model

_STYLE = """
body { margin: 0; font: 14px/1.45 Inter, "Helvetica Neue", Helvetica, Arial, sans-serif; color: #1d2226;
       background: #fff; display: flex; height: 100vh; overflow: hidden; }
main { flex: 1; min-width: 0; display: flex; flex-direction: column-reverse; }
main > svg { width: 100%; flex: 1; min-height: 0; cursor: grab; touch-action: none; user-select: none; }
main > svg.moving { cursor: grabbing; }
.item { cursor: pointer; }
.item:hover, .item.chosen { filter: brightness(0.94) saturate(1.25); stroke-width: 2.4; }
.item:focus-visible, button:focus-visible { outline: 2px solid #1a66d0; outline-offset: 2px; }
#tools { padding: 10px 14px; display: flex; gap: 4px; align-items: center; justify-content: flex-end; }
#tools span { color: #68717a; background: #fff; font-size: 12px; padding: 0 6px; }
button { font: inherit; border: 1px solid #c9ced4; border-radius: 6px; background: #fff; color: #3c434a;
         padding: 3px 10px; cursor: pointer; }
button:hover { background: #f0f2f4; }
#about { position: fixed; display: none; max-width: 420px; padding: 8px 12px; border-radius: 6px; pointer-events: none;
         background: #1d2226; color: #fff; font-size: 12.5px; white-space: pre-line; box-shadow: 0 4px 16px #0003; }
#panel { width: min(460px, 45vw); overflow: auto; border-left: 1px solid #dfe3e7; padding: 14px 18px;
         box-sizing: border-box; background: #fbfbfc; }
#panel[hidden] { display: none; }
#panel h2 { font-size: 17px; margin: 0 40px 2px 0; overflow-wrap: anywhere; }
#panel h3 { font-size: 12px; margin: 18px 0 4px; color: #68717a; font-weight: 600; }
#panel p { margin: 0; color: #68717a; white-space: pre-line; font-size: 12.5px; }
#panel pre { margin: 0; padding: 9px 11px; overflow-x: auto; font-size: 12px; background: #fff;
             border: 1px solid #e4e7ea; border-radius: 6px; }
#panel table { border-collapse: collapse; font-size: 12px; width: 100%; }
#panel td { padding: 2px 10px 2px 0; border-bottom: 1px solid #eceef0; overflow-wrap: anywhere; vertical-align: top; }
#panel td + td { white-space: nowrap; text-align: right; color: #68717a; }
#inside svg { max-width: 100%; height: auto; border: 1px solid #e4e7ea; border-radius: 6px; }
#close { float: right; }
"""

_SCRIPT = """
const known = JSON.parse(document.getElementById('details').textContent);
const drawing = document.querySelector('main > svg');
const whole = [0, 0, drawing.viewBox.baseVal.width, drawing.viewBox.baseVal.height];
let view = [...whole];
drawing.removeAttribute('width');
drawing.removeAttribute('height');
drawing.setAttribute('preserveAspectRatio', 'xMidYMin meet');

function show() { drawing.setAttribute('viewBox', view.map(n => n.toFixed(2)).join(' ')); }
function place(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
}
function zoom(factor, x, y) {
  const size = Math.min(Math.max(view[2] * factor, whole[2] / 40), whole[2] * 2) / view[2];
  view = [x - (x - view[0]) * size, y - (y - view[1]) * size, view[2] * size, view[3] * size];
  show();
}
function towards(factor) { zoom(factor, view[0] + view[2] / 2, view[1] + view[3] / 2); }
function wide() {  // as wide as the window, from the top; what is lower is a drag or a turn of the wheel away
  const box = drawing.getBoundingClientRect();
  const width = Math.max(whole[2], box.width / 1.4);
  view = [(whole[2] - width) / 2, 0, width, width * box.height / box.width];
  show();
}
drawing.addEventListener('wheel', event => {
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) {
    const at = place(event);
    zoom(Math.exp(event.deltaY * 0.01), at.x, at.y);
  } else {
    const scale = drawing.getScreenCTM().a;
    view[0] += event.deltaX / scale;
    view[1] += event.deltaY / scale;
    show();
  }
}, { passive: false });
let held = null;
drawing.addEventListener('pointerdown', event => { held = { at: place(event), moved: false }; });
window.addEventListener('pointermove', event => {
  if (!held) return;
  const at = place(event);
  if (!held.moved && Math.hypot(at.x - held.at.x, at.y - held.at.y) * drawing.getScreenCTM().a < 4) return;
  held.moved = true;
  drawing.classList.add('moving');
  view[0] -= at.x - held.at.x;
  view[1] -= at.y - held.at.y;
  show();
});
window.addEventListener('pointerup', () => {
  drawing.classList.remove('moving');
  setTimeout(() => { held = null; });
});
document.getElementById('nearer').onclick = () => towards(0.8);
document.getElementById('further').onclick = () => towards(1.25);
document.getElementById('whole').onclick = () => { view = [...whole]; show(); };
document.getElementById('wide').onclick = wide;
window.addEventListener('keydown', event => {
  if (event.key === '+') towards(0.8);
  else if (event.key === '-') towards(1.25);
  else if (event.key === '0') wide();
  else if (event.key === 'Escape') close();
});

const panel = document.getElementById('panel');
function part(name, filled) {
  const head = document.getElementById(name + '-head');
  if (head) head.hidden = !filled;
  document.getElementById(name).hidden = !filled;
}
function close() {
  panel.hidden = true;
  document.querySelectorAll('.chosen').forEach(item => item.classList.remove('chosen'));
}
function open(item) {
  const piece = known.pieces[item.dataset.key];
  if (!piece) return;
  close();
  item.classList.add('chosen');
  document.getElementById('title').textContent = piece.title;
  document.getElementById('facts').textContent = piece.facts;
  document.getElementById('code-head').textContent = piece.place;
  document.getElementById('code').textContent = piece.code;
  const table = document.getElementById('instances');
  table.replaceChildren(...piece.instances.map(instance => {
    const row = document.createElement('tr');
    for (const text of [instance.path, instance.shape, instance.parameters]) {
      row.appendChild(document.createElement('td')).textContent = text;
    }
    return row;
  }));
  const n = piece.instances.length;
  document.getElementById('instances-head').textContent = n === 1 ? '1 instance' : n + ' instances';
  document.getElementById('inside').innerHTML = piece.inside === null ? '' : known.drawings[piece.inside];
  part('code', piece.code);
  part('instances', n);
  part('inside', piece.inside !== null);
  panel.hidden = false;
  panel.scrollTop = 0;
}
document.getElementById('close').onclick = close;

const about = document.getElementById('about');
for (const item of document.querySelectorAll('main .item')) {
  const title = item.querySelector('title');
  const words = title.textContent;
  title.remove();
  item.tabIndex = 0;
  item.setAttribute('role', 'button');
  item.setAttribute('aria-label', words);
  item.addEventListener('keydown', event => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    open(item);
  });
  item.addEventListener('click', () => { if (!held || !held.moved) open(item); });
  item.addEventListener('mousemove', event => {
    about.textContent = words;
    about.style.display = 'block';
    const right = event.clientX + about.offsetWidth + 24 > window.innerWidth;
    about.style.left = (right ? event.clientX - about.offsetWidth - 14 : event.clientX + 14) + 'px';
    about.style.top = Math.min(event.clientY + 14, window.innerHeight - about.offsetHeight - 8) + 'px';
  });
  item.addEventListener('mouseleave', () => { about.style.display = 'none'; });
}
wide();
"""

_PANEL = """<aside id="panel" hidden>
<button id="close" title="Escape">close</button>
<h2 id="title"></h2>
<p id="facts"></p>
<h3 id="code-head"></h3>
<pre id="code"></pre>
<h3 id="instances-head"></h3>
<table id="instances"></table>
<h3 id="inside-head">Inside</h3>
<div id="inside"></div>
</aside>
"""

_TOOLS = """<div id="tools">
<span>drag to move, Ctrl and wheel to zoom, click a piece (or Tab and Enter)</span>
<button id="nearer" title="+">+</button>
<button id="further" title="-">−</button>
<button id="wide" title="0">width</button>
<button id="whole">whole</button>
</div>
"""


def html_page(picture: Picture, details: Mapping[str, Any] | None = None) -> str:
    """Return an HTML document that needs nothing else.

    `details` has what is told of each piece, by its key, and the drawings that are shown with it. Text of the spec is
    data in it, never markup.
    """
    known = json.dumps(details or {"pieces": {}, "drawings": []}, ensure_ascii=False)
    data = known.replace("&", "\\u0026").replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(picture.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{svg(picture, keyed=True)}{_TOOLS}</main>\n{_PANEL}"
        f'<div id="about"></div>\n<script type="application/json" id="details">{data}</script>\n'
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


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


def piece_details(model: Model, ladder: Ladder) -> dict[str, Any]:
    """Return the details of every piece by its key, and the drawings of recipes that they refer to."""
    drawings: list[str] = []
    known: dict[str, Any] = {}
    parts = [("", model.graph, [piece for band in ladder.bands for piece in (*band.encoder, *band.decoder)])]
    parts += [(prior.name, model.priors[prior.name], prior.pieces) for prior in ladder.priors]
    for prior, graph, pieces in parts:
        for piece in (leaf for whole in pieces for leaf in whole.leaves()):
            known[piece_key(piece, prior)] = asdict(_detail(graph, piece, drawings))
    return {"pieces": known, "drawings": drawings}


def _detail(graph: Graph, piece: Piece, drawings: list[str]) -> Detail:
    instances = tuple(_instances(piece))
    facts = [columns.detail(piece), f"{len(piece.nodes):,} operations"]
    facts += [f"latent {mark.name}: {labels.shapes(mark.shapes)}, {len(mark.shapes)} in all" for mark in piece.marks]
    span = piece.scope.definition[1] if piece.scope and piece.scope.definition else piece.nodes[0].span
    place = f"{PurePath(span.source.name).name}:{span.line}"
    title = columns.heading(piece).replace(" | ", " → ") or piece.kind.value
    return Detail(title, "\n".join(facts), place, _code(piece), instances, _inside(graph, piece, drawings))


def _inside(graph: Graph, piece: Piece, drawings: list[str]) -> int | None:
    """Return which of the drawings is that of a recipe's first instance; equal ones are kept once."""
    if piece.kind is not PieceKind.RECIPE or piece.scope is None or len(list(piece.scope.nodes())) > MOST:
        return None
    drawing = svg(inside(graph, piece.scope, f"as {piece.scope.path} has it"))
    if drawing not in drawings:
        drawings.append(drawing)
    return drawings.index(drawing)


def _instances(piece: Piece) -> Iterator[Instance]:
    """Every instance of a recipe, in all turns of what repeats around it; of operations and latents every node."""
    if piece.kind is not PieceKind.RECIPE or piece.scope is None:
        for node in piece.nodes:
            if labels.operation(node):
                yield _instance(f"{node.scope.path}: {labels.operation(node)}".removeprefix(": "), [node])
        return
    groups: dict[int, tuple[GraphScope, list[Node]]] = {}
    for node in piece.nodes:
        owner = _owner(node, piece.scope)
        groups.setdefault(id(owner), (owner, []))[1].append(node)
    for scope, nodes in groups.values():
        yield _instance(scope.path, nodes)


def _owner(node: Node, like: GraphScope) -> GraphScope:
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


def _code(piece: Piece) -> str:
    """Return the lines of the spec: of a recipe its definition, else those that the nodes come from."""
    if piece.kind is PieceKind.RECIPE and piece.scope is not None and piece.scope.definition is not None:
        span = piece.scope.definition[1]
        lines = span.source.text.splitlines()[span.line - 1 :]
        comments = [comment for comment in piece.scope.comments if comment.startswith("#")]
        whole = _indented if span.source.name.endswith(YAML) else _braced
        return "\n".join([*comments, dedent("\n".join(whole(lines)))])
    first = piece.nodes[0].span.source
    numbers = sorted({node.span.line for node in piece.nodes if node.span.source is first})
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
