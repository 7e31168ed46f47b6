"""The report of runs: bounded, escaped, complete, and opened by a browser."""

from __future__ import annotations

import html
import json
import math
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hvdsl.errors import HvdslError, UsageError
from hvdsl.report.charts import Chart, Line, ticks
from hvdsl.report.page import Figure, RunReport, page
from hvdsl.report.records import MOST_POINTS, MOST_SNAPSHOTS, Records, read_records, records_of
from hvdsl.runtime.ground.metric_names import METRICS
from hvdsl.workflows.report import ReportOptions, write_report
from tests.cli.conftest import TINY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOGS_ONLY = ReportOptions(pictures=False)


class Reader(HTMLParser):
    """Elements, their attributes and the text of a page; complains of elements that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def record(step: int, **more: Any) -> dict[str, Any]:
    rates = [1.0 / (group + 1) for group in range(8)]
    return {
        "event": "train", "step": step, "bits_per_dim": 3 + 5 / step, "objective": 2 + 1 / step,
        "gradient_norm": 10 + step % 7, "gradient_norm_limit": 400.0, "learning_rate": 1e-3,
        "skipped_steps_in_window": 0, "rate_per_group_nats_per_image": rates, **more,
    }  # fmt: skip


def run_folder(path: Path, *, spec: str = TINY, log: str = "") -> Path:
    path.mkdir(parents=True)
    (path / "environment.json").write_text(json.dumps({"torch": "2", "host<i>": ["<b>"]}))
    (path / "resolved.hv").write_text(spec)
    (path / "metrics.jsonl").write_text(log or "".join(json.dumps(record(s)) + "\n" for s in range(1, 30)))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hvdsl.cli.main import main

    folder = tmp_path_factory.mktemp("report")
    (folder / "tiny.hv").write_text(TINY)
    assert (
        main(["train", str(folder / "tiny.hv"), "--out", str(folder / "run"), "--device", "cpu", "--sink", "none"]) == 0
    )
    return folder / "run"


def test_a_page_tells_of_curves_groups_gradients_pictures_spec_and_machine(trained: Path, tmp_path: Path) -> None:
    options = ReportOptions(temperatures=(0.5, 1.0), device="cpu")
    text = write_report([trained], tmp_path / "report.html", options).read_text("utf-8")
    read = Reader(text)
    for heading in ("Runs", "Curves", "Latent groups", "Gradients", "Pictures", "Spec", "Environment"):
        assert f"<h2>{heading}</h2>" in text
    assert "3 of 3" in read.text and "finished" in read.text
    axes = ("bits/dim (bits per dimension)", "cumulative rate (nats per image)", "4x4", "8x8")
    for words in ("Cumulative rate by latent group", *axes):
        assert words in read.text, words
    sources = [attributes["src"] or "" for tag, attributes in read.elements if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_it_needs_nothing_from_elsewhere(trained: Path, tmp_path: Path) -> None:
    text = write_report([trained], tmp_path / "report.html", LOGS_ONLY).read_text("utf-8")
    read = Reader(text)
    assert not {tag for tag, _ in read.elements} & {"script", "link", "iframe", "object", "embed", "a", "form"}
    for _, attributes in read.elements:
        assert not any(name.startswith("on") or name in ("href", "srcset") for name in attributes)
    assert "default-src 'none'" in html.unescape(text)
    assert not re.search(r"url\(|@import|https?://", text)


def test_a_hundred_thousand_records_stay_small_and_keep_every_skip() -> None:
    draw = random.Random(3)
    skipped = {draw.randrange(1, 100_001) for _ in range(40)}
    lines = (
        record(
            step,
            bits_per_dim=draw.gauss(3, 0.5),
            gradient_norm=1e9 if step == 77_777 else draw.uniform(1, 100),
            skipped_steps_in_window=3 if step in skipped else 0,
        )
        for step in range(1, 100_001)
    )
    records = records_of(lines)
    text = page("large", [RunReport(str(k), [], records) for k in range(3)])
    assert len(text) < 5_000_000
    assert f"{3 * len(skipped):,} updates skipped" in text
    norm = records.curve("train", "gradient_norm")
    assert (77_777.0, 1e9) in norm.decimated(280)
    assert len(norm.decimated(280)) <= 560
    marked = {int(m.replace(",", "")) for m in re.findall(r"<title>step ([\d,]+): 3 updates", text)}
    several = re.findall(r"<title>step [\d,]+: .*?: (\d+) records</title>", text)
    assert len(marked) + sum(map(int, several)) // 3 >= len(skipped) - 1


def test_decimation_keeps_the_least_and_the_largest_of_every_stretch() -> None:
    draw = random.Random(5)
    values = [draw.gauss(0, 1) for _ in range(3 * MOST_POINTS)]
    records = records_of({"event": "train", "step": n, "objective": v} for n, v in enumerate(values))
    curve = records.curve("train", "objective")
    assert len(curve) < MOST_POINTS
    points = curve.decimated(50)
    assert {min(values), max(values)} <= {value for _, value in points}
    assert [step for step, _ in points] == sorted(step for step, _ in points)
    assert all(values[int(step)] == value for step, value in points)
    assert curve.last is not None and curve.least == (float(values.index(min(values))), min(values))


def test_numbers_of_groups_are_kept_for_some_steps_the_last_among_them() -> None:
    records = records_of(record(step) for step in range(1, 1001))
    steps = [step for step, _ in records.snapshots("train", "rate_per_group_nats_per_image")]
    assert (steps[0], steps[-1]) == (1, 1000)
    assert MOST_SNAPSHOTS // 3 < len(steps) <= MOST_SNAPSHOTS
    assert steps == sorted(set(steps))


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x1b]0;\u202e'


def test_a_hostile_folder_is_text(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "⁄")
    log = "\n".join(
        [
            json.dumps({"event": HOSTILE, "step": 1}),
            json.dumps({"event": "train", "step": 2, HOSTILE: HOSTILE, "objective": HOSTILE, "bits_per_dim": 1e400}),
            json.dumps({"event": "train", "step": -5}),
            '{"event": "train", "step": 3, "objective": ' + "9" * 5000 + "}",
            '{"event": "train", "step": ' + "9" * 4000 + "}",
            json.dumps({"event": "train", "step": 4, "rate_per_group_nats_per_image": [HOSTILE, None, 10**400, 2.0]}),
            "[" * 50_000,
            "\x00\x01",
        ]
    )
    spec = f'hv 1\nmodel x\ntitle "{HOSTILE}"\n' + "</pre><script>" * 3
    first = run_folder(tmp_path / name, spec=spec, log=log)
    second = run_folder(tmp_path / "other", spec=spec.replace("model x", "model <script>y"))
    text = write_report([first, second], tmp_path / "report.html").read_text("utf-8")
    read = Reader(text)
    assert not [tag for tag, _ in read.elements if tag in ("script", "img")]
    assert "<script>alert(1)</script>" in read.text  # as text
    assert "\x1b" not in text and "\u202e" not in text
    assert "lines of metrics.jsonl are no records" in read.text


@pytest.mark.parametrize("name", ["metrics.jsonl", "resolved.hv", "environment.json"])
def test_what_is_missing_or_no_file_is_told_in_the_page(tmp_path: Path, name: str) -> None:
    folder = run_folder(tmp_path / "run")
    if name != "environment.json":
        (folder / name).unlink()
        (folder / name).mkdir()
    else:
        (folder / name).write_text("[1, 2")
    text = write_report([folder], tmp_path / "report.html").read_text("utf-8")
    if name != "metrics.jsonl":
        assert name in Reader(text).text


def test_a_huge_spec_is_not_read(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", spec="x" * (1 << 21))
    text = write_report([folder], tmp_path / "report.html").read_text("utf-8")
    assert "resolved.hv has 2,097,152 bytes, which is no text of ours" in text
    assert len(text) < 500_000


def test_a_folder_that_is_no_run_and_too_many_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HvdslError, match="is not a run folder"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(UsageError, match="name 1 to 24"):
        write_report([tmp_path] * 25, tmp_path / "report.html")


def test_specs_are_compared_and_names_tell_folders_apart(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "a" / "run")
    second = run_folder(tmp_path / "b" / "run", spec=TINY.replace("width = 8", "width = 16"))
    text = write_report([first, second, second], tmp_path / "report.html", LOGS_ONLY).read_text("utf-8")
    read = Reader(text)
    assert "b/run against a/run" in read.text
    assert "-let width = 8\n" in read.text and "+let width = 16\n" in read.text
    assert "b/run (3)" in read.text


def test_unknown_measurements_are_counted() -> None:
    records = records_of([record(1, of_the_future=3.0), None])
    assert (records.count, records.unknown, records.unreadable) == (1, 1, 1)
    assert read_records(Path("/nowhere")) == Records()


def test_a_chart_of_anything_is_well_formed() -> None:
    ends = [
        [],
        [(0, 0)],
        [(1, 5), (1, 5)],
        [(0, -1), (1, 1)],
        [(0, 1e-39), (1e15, 1e39)],
        [(0, math.nan), (1, 2)],
        [(0, -1e39), (1, 1e39)],
    ]
    for points in ends:
        for log in (False, True):
            chart = Chart("t", "x", "y", [Line(points)], log=log, levels=[(3, "l")], marks=[(0, "m")], bands=[(0, "b")])
            Reader(chart.svg())
            assert "nan" not in chart.svg() and "inf" not in chart.svg()


def test_ticks_are_round_and_within() -> None:
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
    assert ticks(-130, 420, 6) == [-100, 0, 100, 200, 300, 400]
    assert ticks(3, 3, 5) == [3]
    for low, high in ((1e-9, 2e-9), (1e8, 1.0001e8), (-3.3, 1e6)):
        values = ticks(low, high, 6)
        assert 2 <= len(values) <= 8 and low <= min(values) and max(values) <= high * 1.0001


def test_every_curve_of_the_page_is_in_the_vocabulary() -> None:
    from hvdsl.report.page import CURVES

    assert set(CURVES) <= set(METRICS)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_draws_it(trained: Path, tmp_path: Path) -> None:
    written = write_report([trained], tmp_path / "report.html", ReportOptions(device="cpu"))
    shot = tmp_path / "shot.png"
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,900"]
    command = [
        str(CHROMIUM),
        *arguments,
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={shot}",
        written.as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(shot) as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    seen = {colour for _, colour in colours}
    assert {(47, 111, 179), (255, 255, 255)} <= seen or {(111, 177, 242), (21, 24, 27)} <= seen  # a curve on paper


def test_a_figure_that_could_not_be_drawn_says_why() -> None:
    text = page("x", [RunReport("x", [], Records(), figures=[Figure("none, since <reason>")])])
    assert "none, since &lt;reason&gt;" in text and "<img" not in text
