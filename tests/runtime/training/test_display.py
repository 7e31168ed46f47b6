"""What a terminal shows while a model trains."""

from __future__ import annotations

import io
import logging
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hvdsl.runtime.ground.metric_names import metric
from hvdsl.runtime.training.display import LiveView, ProgressDisplay, bar_of, sparkline
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def terminal(width: int = 60, height: int = 40, **more: Any) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, _environ={}, **more)


def drawn(view: LiveView, width: int = 60, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, _environ={})
    console.print(view)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def records(folder: Path, **more: Any) -> list[dict[str, Any]]:
    run = Run.create(folder, {})
    Trainer(tiny(), settings(steps=2, skip_above=1e-9, **more), Blobs(20), run=run, sinks=()).fit()
    return run.metrics()


def test_it_shows_all_that_the_log_has_in_sixty_columns(tmp_path: Path) -> None:
    record = records(tmp_path / "run")[-1]
    view = LiveView("tiny", 0, 200, ["4x4", "4x4", "8x8"])
    view.record("train", record.pop("step"), {k: v for k, v in record.items() if k != "event"})
    view.record("validation", 1, {"bits_per_dim": 3.5})
    view.record("validation", 2, {"bits_per_dim": 3.75})
    lines = drawn(view)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 60
    for name in record.keys() - {"event"}:
        known = metric(name)
        assert known is not None
        shown = {"gradient_norm": "gradient norm", "gradient_norm_limit": "updates from 1e-09 on are skipped"}
        assert shown.get(name, known.heading)[:17] in text, name
    assert "4x4 " in text and " in 2 groups" in text and "8x8 " in text and " in 1 group" in text
    assert "validation bits/dim 3.7500 at step 2, best 3.5000 at 1" in text


def test_it_stays_within_the_window_and_tells_what_is_not_shown(tmp_path: Path) -> None:
    record = records(tmp_path / "run")[-1]
    view = LiveView("tiny", 0, None, ["4x4", "4x4", "8x8"])
    view.record("train", 2, {k: v for k, v in record.items() if k not in ("event", "step")})
    lines = drawn(view, width=40, height=10)
    assert len(lines) == 9
    assert lines[-1].endswith("lines more: make the window higher")
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "text", [], [math.nan, 1.0, None], 10**30, -5])
def test_any_value_is_shown(value: Any) -> None:
    view = LiveView("x", 5, 5, ["1x1"] * 3)
    view.record("train", 5, {"bits_per_dim": value, "rate_per_group_nats_per_image": value, "nobody_knows": value})
    view.record("validation", 5, {"bits_per_dim": value})
    assert len(drawn(view)) >= 2


def test_bars_and_profiles() -> None:
    assert bar_of(0.5, 10) == "█" * 5
    assert bar_of(1 / 16, 10) == "▋"
    assert bar_of(0.5, 10, ascii_only=True) == "#####"
    assert sparkline([0.0, 0.5, 1.0], 10) == "▁▄█"
    assert sparkline([0.0, 1.0, 2.0, 8.0], 2) == "▁█"
    assert sparkline([math.nan, 1.0], 4) == "×█"


def test_what_others_print_goes_above_it_and_the_terminal_is_sane_afterwards() -> None:
    console = terminal()
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("of another library")
    logger.addHandler(handler)
    before = handler.stream
    try:
        with pytest.raises(KeyboardInterrupt), ProgressDisplay(console, 0, 10, "tiny") as display:
            display.advance(3)
            logger.warning("from a handler of the start")
            print("printed", file=sys.stderr)  # as warnings are
            raise KeyboardInterrupt
        assert handler.stream is before
    finally:
        logger.removeHandler(handler)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "from a handler of the start\n" in text and "printed\n" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there again


def test_a_terminal_that_cannot_move_its_cursor_and_a_pipe_get_lines() -> None:
    for console in (
        Console(file=io.StringIO(), force_terminal=True, width=200, _environ={"TERM": "dumb"}),
        Console(file=io.StringIO(), width=200),
    ):
        with ProgressDisplay(console, 0, 10, "tiny") as display:
            display.advance(1)
            display.show(1, {"bits_per_dim": 3.0})
        assert console.file.getvalue() == "step 1/10  bits/dim 3.000\n"  # type: ignore[attr-defined]


def test_without_a_console_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(None, 0, 10) as display:
        display.show(1, {"bits_per_dim": 3.0})
        display.say("words")
    assert capsys.readouterr() == ("", "")
