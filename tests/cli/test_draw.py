"""Drawings: what they show of a model, in every format."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from hvdsl.compiler.assembly.files import shipped
from hvdsl.compiler.model import Model
from hvdsl.draw import draw
from hvdsl.draw.cell import cell, recipes
from hvdsl.draw.columns import detail, heading
from hvdsl.draw.html import piece_details
from hvdsl.draw.ladder import Ladder, ladder
from hvdsl.draw.latents import latents
from hvdsl.draw.layout import layout
from hvdsl.draw.picture import Circle, Picture, Point, Polygon, Text, Wire, text_width
from hvdsl.draw.pieces import PieceKind
from hvdsl.draw.style import ENDS
from hvdsl.grammar.source import Source
from hvdsl.workflows.compiling import checked

from .conftest import Hvdsl

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SPECS = sorted(path.stem for path in shipped().glob("*.hv"))


@cache
def model_of(name: str) -> Model:
    return checked(name)


@cache
def drawn(name: str) -> Ladder:
    return ladder(model_of(name))


@cache
def picture_of(name: str) -> Picture:
    return layout(drawn(name))


@pytest.mark.parametrize("name", SPECS)
def test_every_shipped_spec_is_drawn_inside_its_picture(name: str) -> None:
    picture = picture_of(name)
    for shape in picture.shapes:
        if isinstance(shape, Polygon):
            assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in shape.points)
        elif isinstance(shape, Text) and shape.anchor == "start":
            assert shape.at[0] + text_width(shape.text, shape.size, shape.face) <= picture.width


@pytest.mark.parametrize("name", SPECS)
def test_no_two_boxes_of_a_drawing_overlap(name: str) -> None:
    boxes = [s for s in picture_of(name).shapes if isinstance(s, Polygon) and s.about]
    for n, a in enumerate(boxes):
        for b in boxes[n + 1 :]:
            assert not _overlap(a, b), (a.about, b.about)


def _overlap(a: Polygon, b: Polygon) -> bool:
    left, right = (([x for x, _ in s.points], [y for _, y in s.points]) for s in (a, b))
    return all(min(p) < max(q) and min(q) < max(p) for p, q in zip(left, right, strict=True))


@pytest.mark.parametrize("name", SPECS)
def test_every_latent_and_parameter_is_in_the_drawing_once(name: str) -> None:
    model = model_of(name)
    columns = ladder(model)
    pieces = [*columns.encoder(), *columns.decoder()]
    down = [mark for piece in columns.decoder() for mark in piece.marks]
    assert sum(len(mark.shapes) for mark in down) == len(model.graph.latents)
    indices = [node.index for piece in pieces for node in piece.nodes]
    assert len(indices) == len(set(indices))
    owned = {node.index for node in model.graph.nodes if node.parameters}
    inside = {node.index for node in model.graph.root.nodes()}
    assert owned & inside <= set(indices)


def test_repetition_is_folded_with_its_count() -> None:
    columns = drawn("vdvae_cifar10")
    counts = [piece.count for piece in columns.decoder() if piece.title == "layer"]
    assert counts == [1, 3, 6, 11, 22]
    assert len(columns.links) == 5


def test_a_repetition_of_several_pieces_gets_a_frame_and_mirrored_taps() -> None:
    columns = drawn("nvae_cifar10")
    frames = [
        piece for band in columns.bands for piece in (*band.encoder, *band.decoder) if piece.kind is PieceKind.FRAME
    ]
    assert [frame.count for frame in frames] == [29, 29]
    assert "29 taps, mirrored" in [link.label for link in columns.links]


def test_latents_drawn_on_the_way_up_stand_in_both_columns() -> None:
    columns = drawn("biva_cifar10")
    up = [mark for piece in columns.encoder() for mark in piece.marks]
    down = [mark for piece in columns.decoder() for mark in piece.marks if mark.on_the_way_up]
    assert {mark.name for mark in up} == {mark.name for mark in down} == {"u"}
    assert sum(len(mark.shapes) for mark in up) == sum(len(mark.shapes) for mark in down) == 14


def test_priors_are_drawn_with_what_they_are_given() -> None:
    priors = drawn("vqvae2_256").priors
    assert [(prior.name, prior.given) for prior in priors] == [("z_top", ()), ("z_bottom", ("z_top",))]


def test_the_picture_formats_are_what_they_say(hvdsl: Hvdsl, tiny: Path, tmp_path: Path) -> None:
    for suffix in ("svg", "png", "html", "dot", "mmd", "json"):
        assert hvdsl("viz", "graph", tiny, "-o", tmp_path / f"tiny.{suffix}").code == 0
    assert ET.parse(tmp_path / "tiny.svg").getroot().tag.endswith("svg")
    with Image.open(tmp_path / "tiny.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50
    page = (tmp_path / "tiny.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert (tmp_path / "tiny.dot").read_text().startswith("digraph")
    assert "flowchart" in (tmp_path / "tiny.mmd").read_text()
    assert json.loads((tmp_path / "tiny.json").read_text())["latents"]


def test_a_drawing_is_the_same_every_time(tiny: Path) -> None:
    for form in (".svg", ".png", ".json"):
        assert draw(checked(str(tiny)), form) == draw(checked(str(tiny)), form)


def test_text_of_a_spec_cannot_break_out_of_a_drawing(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "hostile.hv"
    path.write_text(tiny.read_text().replace('title "Tiny"', 'title "</title><script>alert(1)</script>"'))
    model = checked(str(path))
    assert b"<script>alert" not in draw(model, ".svg")
    assert b"<script>alert" not in draw(model, ".html")


def test_a_very_tall_picture_stays_within_memory() -> None:
    from hvdsl.draw.png import png

    with Image.open(BytesIO(png(Picture("tall", 1000, 60_000)))) as image:
        assert image.width * image.height < 10_000_000


SHARING = """hv 1
model sharing
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
cell block(k = 3) { x + (gelu -> conv(k, channels)) }
group layer(wide = no) {
  z ~ normal(conv(1x1, 8)) posterior normal(concat(x, skip) -> conv(1x1, 8))
  x + (z -> conv(3x3 if wide else 1x1, channels))
}
shared mix = block
encoder { 8: conv(3x3, 8) -> mix -> mix -> parallel(3, join = sum) { block } -> block(5) -> tap }
decoder { 8: learned(zeros, 8) -> mix -> layer(wide = yes) -> layer * 2 -> conv(1x1, logits) }
likelihood discretized_logistic_mixture(2)
objective { unit = nats_per_dim }
train { steps = 2, batch = 4, optimizer = adam(lr = 1e-3) }
"""


def test_shared_and_parallel_instances_are_told_and_counted_as_what_they_are() -> None:
    model = checked(Source("sharing.hv", SHARING))
    columns = ladder(model)
    up = [(heading(piece), detail(piece)) for piece in columns.encoder() if piece.kind is PieceKind.RECIPE]
    assert up == [
        ("mix × 2", "8 ch · 584 · shared"),
        ("block(k = 3) × 3", "8 ch · 1.75 k · side by side"),
        ("block(k = 5)", "8 ch · 1.61 k"),
    ]
    pieces = [*columns.encoder(), *columns.decoder()]
    assert [piece.parameters for piece in columns.decoder() if piece.shared] == [0]
    assert sum(piece.parameters for piece in pieces) == model.graph.parameter_count()


def test_recipes_show_the_arguments_that_tell_them_apart() -> None:
    names = [heading(i) for i in ladder(checked(Source("sharing.hv", SHARING))).decoder() if i.kind is PieceKind.RECIPE]
    assert names == ["mix", "layer(wide = yes)", "layer(wide = no) × 2"]


@pytest.mark.parametrize("name", SPECS)
def test_every_line_ends_at_the_edge_of_what_it_leads_to(name: str) -> None:
    shapes = picture_of(name).shapes
    for wire in (s for s in shapes if isinstance(s, Wire) and s.arrow):
        assert any(_distance(wire.points[-1], s) < 3 for s in shapes if isinstance(s, Polygon | Circle)), wire


def _distance(point: Point, shape: Polygon | Circle) -> float:
    """From a point to an outline."""
    if isinstance(shape, Circle):
        return abs(math.dist(point, shape.centre) - shape.radius)
    return min(_to_side(point, a, b) for a, b in pairwise((*shape.points, shape.points[0])))


def _to_side(point: Point, a: Point, b: Point) -> float:
    (x, y), length = (b[0] - a[0], b[1] - a[1]), math.dist(a, b)
    along = ((point[0] - a[0]) * x + (point[1] - a[1]) * y) / length**2
    along = min(max(along, 0.0), 1.0)
    return math.dist(point, (a[0] + along * x, a[1] + along * y))


@pytest.mark.parametrize("name", ["vqvae2_photos", "vqvae2_256", "vqvae2_ffhq1024"])
def test_the_arrow_of_a_prior_ends_at_its_latent_and_passes_over_no_text(name: str) -> None:
    shapes = picture_of(name).shapes
    arrows = [s for s in shapes if isinstance(s, Wire) and s.dashed]
    texts = [s for s in shapes if isinstance(s, Text) and s.anchor == "start"]
    assert len(arrows) == len(drawn(name).priors)
    for arrow in arrows:
        x, y = arrow.points[-1]
        assert any(isinstance(s, Circle) and _distance((x, y), s) < 3 for s in shapes)
        spans = [(t, t.at[0] + text_width(t.text, t.size, t.face)) for t in texts if abs(t.at[1] - y) < t.size / 2 + 2]
        assert not [t for t, end in spans if end > x]


def test_conditions_are_told_where_they_enter_and_change_no_outline() -> None:
    columns = drawn("vdvae_photos_upscaling")
    assert columns.facts.endswith("given low (3×16×16)")
    layers = [piece for piece in columns.decoder() if piece.title == "layer"]
    assert {piece.scale for piece in layers} == {1.0}  # though `low` enters at another size
    assert all(detail(piece).endswith("given low") for piece in layers)
    assert drawn("vdvae_digits_conditional").facts.endswith("given label (10 classes)")
    (top, bottom) = drawn("vqvae2_mnist").priors
    assert [piece.title for piece in top.pieces][:2] == ["conv 1×1 → 64 (label)", "stem"]
    assert detail(bottom.pieces[0]).endswith("given z_top")
    assert not [1 for source, target in top.flows if target.title == "stem"]  # the stem reads codes, not the label


def inside(picture: Picture) -> bool:
    points = [point for s in picture.shapes if isinstance(s, Polygon | Wire) for point in s.points]
    return all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in points)


@pytest.mark.parametrize("name", SPECS)
def test_recipes_and_latents_are_drawn_inside_their_pictures(name: str) -> None:
    model = model_of(name)
    assert inside(latents(model))
    for recipe in dict.fromkeys(scope.name for scope in recipes(model.graph.root)):
        assert inside(cell(model, recipe)), recipe


def test_a_group_shows_prior_posterior_flow_and_merge() -> None:
    picture = cell(model_of("nvae_cifar10"), "layer")
    words = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    assert {"prior", "posterior", "sample", "flow_pair", "z", "x", "skip", "out", "concat"} <= set(words)
    assert words.count("prior") == words.count("posterior") == 1
    dashed = [shape for shape in picture.shapes if isinstance(shape, Wire) and shape.dashed]
    assert len(dashed) == 1  # from the flow's last step to the latent


def test_latents_are_drawn_as_the_chain_that_generation_is() -> None:
    texts = [s.text for s in latents(model_of("vdvae_cifar10")).shapes if isinstance(s, Text)]
    assert "43 latent groups · stochastic depth 43 · all inferred from the image" in texts
    assert [t for t in texts if t.startswith("×")] == [f"× {n}, in sequence" for n in (3, 6, 11, 22)]
    dashed = [s for s in latents(model_of("vqvae2_ffhq1024")).shapes if isinstance(s, Wire) and s.dashed]
    assert len(dashed) == 3  # the middle codes given the top ones, the bottom ones given both
    wires = [s for s in latents(model_of("biva_cifar10")).shapes if isinstance(s, Wire)]
    assert len(wires) == 2 + 4 * 13 + 2  # the top latent to a pair, pairs to pairs, the last pair to the image


def test_the_inside_of_a_recipe_from_the_command_line(hvdsl: Hvdsl, tmp_path: Path) -> None:
    assert hvdsl("viz", "cell", "vdvae_digits", "layer", "-o", str(tmp_path / "layer.svg")).code == 0
    assert "posterior" in (tmp_path / "layer.svg").read_text()
    assert hvdsl("viz", "latents", "vdvae_digits", "-o", str(tmp_path / "z.png")).code == 0
    wrong = hvdsl("viz", "cell", "vdvae_digits", "lair", "-o", str(tmp_path / "a.svg"))
    assert wrong.code == 2
    assert "it uses `block`" in wrong.err
    assert hvdsl("viz", "cell", "vdvae_digits", "layer", "-o", str(tmp_path / "a.dot")).code == 2


def test_every_piece_of_the_html_form_has_its_code_its_instances_and_a_recipe_its_inside() -> None:
    page = draw(model_of("vqvae2_mnist"), ".html").decode()
    known = json.loads(page.partition('id="details">')[2].partition("</script>")[0])
    keys = re.findall(r'data-key="([^"]+)"', page)
    assert len(keys) == len(set(keys)) and set(keys) == set(known["pieces"])
    pieces = {(key.partition(":")[0], piece["title"]): piece for key, piece in known["pieces"].items()}
    trunk, attentive = pieces["", "trunk"], pieces["z_top", "attentive × 2"]
    assert trunk["code"] == "cell trunk { conv(3x3, ch) -> block * 2 -> relu }"
    assert [i["path"] for i in attentive["instances"]] == ["prior.attentive.0", "prior.attentive.1"]
    assert attentive["place"].startswith("pixelsnail.hv:") and attentive["code"].endswith("}")
    assert "attention" in known["drawings"][attentive["inside"]]


def test_a_repeat_around_others_is_told_instance_by_instance() -> None:
    model = model_of("nvae_mnist")
    pieces = piece_details(model, ladder(model))["pieces"].values()
    cells = next(piece for piece in pieces if piece["title"] == "dec_cell(expand = 6) × 2")
    assert [i["path"] for i in cells["instances"]] == [f"decoder.r4.dec_cell.{n}" for n in range(8)]  # 4 turns of 2


def test_the_code_of_a_recipe_in_yaml_is_its_list(hvdsl: Hvdsl, tmp_path: Path) -> None:
    spec = tmp_path / "digits.yaml"
    hvdsl("convert", "vdvae_digits_conditional", "--to", "yaml", "-o", spec)
    model = checked(str(spec))
    layer = next(p for p in piece_details(model, ladder(model))["pieces"].values() if p["title"] == "layer × 2")
    first, *others = layer["code"].splitlines()
    assert first == "layer:" and len(others) == 5 and all(line.startswith("- ") for line in others)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize(
    "event",
    ["MouseEvent('click', { bubbles: true })", "KeyboardEvent('keydown', { key: 'Enter', bubbles: true })"],
    ids=["click", "enter"],
)
def test_a_click_or_enter_opens_what_a_piece_is_and_the_buttons_zoom(event: str, tmp_path: Path) -> None:
    script = """<script>
      const before = drawing.viewBox.baseVal.width;
      document.getElementById('nearer').click();
      document.title = 'nearer ' + (drawing.viewBox.baseVal.width < before);
      const items = [...document.querySelectorAll('main .item')];
      const item = items.find(i => known.pieces[i.dataset.key].title.startsWith('layer'));
      item.focus();
      document.title += ' ' + (document.activeElement === item);
      item.dispatchEvent(new EVENT);
      document.getElementById('details').remove();
    </script></body>""".replace("EVENT", event)
    page = draw(model_of("vdvae_digits"), ".html").decode()
    (tmp_path / "page.html").write_text(page.replace("</body>", script), "utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run([*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120)
    assert "<title>nearer true true</title>" in done.stdout
    panel = done.stdout.partition('<aside id="panel">')[2]  # no longer hidden
    assert "group layer(" in panel and "decoder.r1.layer.1" in panel and "<svg" in panel


def test_lines_to_one_side_of_a_layered_drawing_do_not_run_over_each_other() -> None:
    picture = cell(checked("biva_cifar10"), "rise")  # whose `tap u` feeds what is below it and what is far to the right
    lines = [
        sorted((line.points[i], line.points[i + 1]))
        for line in picture.shapes
        if isinstance(line, Wire)
        for i in range(len(line.points) - 1)
    ]
    upright = [(a[0], *sorted((a[1], b[1]))) for a, b in lines if a[0] == b[0]]
    over = [
        (one, other)
        for n, one in enumerate(upright)
        for other in upright[n + 1 :]
        if abs(one[0] - other[0]) < 4 and min(one[2], other[2]) - max(one[1], other[1]) > 2
    ]
    assert len(upright) > 20 and over == []


@pytest.mark.parametrize(
    ("name", "recipe", "inputs"),
    [
        ("vdvae_cifar10", "layer", {"x", "skip"}),
        ("evdvae_cifar10", "down", {"x"}),  # which a tap gives
        ("iaf_cifar10", "flow", {"x", "context"}),
        ("iaf_cifar10", "layer", {"x", "skip(q)", "skip(context)"}),
        ("biva_cifar10", "summit", {"s", "below", "d"}),  # the parts of its `x`
        ("vdvae_photos_inpainting", "layer", {"x", "skip", "seen", "hole"}),
    ],
)
def test_what_enters_a_recipe_has_the_name_that_its_text_has(name: str, recipe: str, inputs: set[str]) -> None:
    picture = cell(model_of(name), recipe)
    boxes = [s for s in picture.shapes if isinstance(s, Polygon) and s.fill == ENDS.fill]
    texts = [s for s in picture.shapes if isinstance(s, Text) and s.face == "SemiBold"]
    inside = [t.text for t in texts if any(_holds(box, t.at) for box in boxes)]
    assert set(inside) - {"out"} == inputs


def _holds(box: Polygon, at: Point) -> bool:
    (xs, ys) = ([x for x, _ in box.points], [y for _, y in box.points])
    return min(xs) <= at[0] <= max(xs) and min(ys) <= at[1] <= max(ys)


def test_long_lines_of_a_recipe_bend_at_most_at_both_ends() -> None:
    for name in ("vdvae_photos_inpainting", "vdvae_photos_upscaling", "nvae_cifar10"):
        lines = [s for s in cell(model_of(name), "layer").shapes if isinstance(s, Wire)]
        assert max(len(line.points) for line in lines) <= 6, name


def test_taps_end_in_a_recipe_and_numbers_and_cuts_are_written_out() -> None:
    words = [s.text for s in cell(model_of("iaf_cifar10"), "rise").shapes if isinstance(s, Text)]
    assert {"tap q", "tap context", "× 0.1", "160×16×16"} <= set(words)
    wires = [s for s in cell(model_of("lvae_mnist"), "rise").shapes if isinstance(s, Wire)]
    assert len(wires) == 4  # image, mlp to head and out, head to tap: no tap goes on to what leaves
    cuts = [s.text for s in cell(model_of("nvae_celeba64"), "factorized_reduce").shapes if isinstance(s, Text)]
    assert {"crop top 1 left 1", "crop left 1", "crop top 1"} <= set(cuts)
