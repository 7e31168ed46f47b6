"""Tables and lines in terminals of any width, and in pipes."""

from __future__ import annotations

import io
import re

import pytest

from hvdsl.render.terminal import TableColumn, Terminal

COLUMNS = (TableColumn("run", words=True), TableColumn("state", words=True), TableColumn("step"), TableColumn("size"))
ROWS = [("a-run-with-a-name", "not begun", "1,680/20,000", "43.2 MiB"), ("b", "finished", "7", "")]
LINE = "0.1580 bits/dim  (± 0.0011, 10,000 test images of /data/images/mnist.npz), of 5 latent groups"


class Stream(io.StringIO):
    """A terminal, or a pipe."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def shown(monkeypatch: pytest.MonkeyPatch, width: int | None) -> str:
    """What a table, pairs and lines look like in a terminal of this width, or in a pipe."""
    monkeypatch.setenv("COLUMNS", str(width or 20))
    monkeypatch.setenv("TERM", "xterm")
    stream = Stream(width is not None)
    terminal = Terminal(stream)
    terminal.table(COLUMNS, ROWS)
    terminal.pairs([("peak memory per image", f"65.5 KiB, {LINE}")])
    terminal.lines([LINE, f"  :smile: [red] {LINE}"])
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


@pytest.mark.parametrize("width", [12, 30, 45, 60, 80, 120])
def test_no_word_is_broken_and_none_is_left_out(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    words = " ".join([*(" ".join(row) for row in ROWS), *[column.heading for column in COLUMNS[1:]], LINE]).split()
    text = shown(monkeypatch, width)
    assert set(words) <= set(text.split())
    longest = max(width, max(map(len, words)) + 24)
    assert all(len(line.rstrip()) <= longest for line in text.splitlines())
    assert "65.5 KiB," in text and "5 latent" in text


def test_a_number_and_its_unit_stay_together_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 58)
    assert "43.2 MiB" in text and "1,680/20,000" in text
    assert [line.split() for line in text.splitlines() if "begun" in line] == [
        ["a-run-with-a-name", "not", "begun", "1,680/20,000", "43.2", "MiB"]
    ]


def test_rows_that_do_not_fit_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 30).splitlines()
    start = lines.index("a-run-with-a-name")
    assert lines[start + 1 : start + 4] == ["  state  not begun", "  step   1,680/20,000", "  size   43.2 MiB"]
    assert "  size" not in lines[lines.index("b") + 3]  # what is empty is left out


def test_pipes_get_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, None).splitlines()
    assert lines[-3:] == [f"{'peak memory per image':<24}65.5 KiB, {LINE}", LINE, f"  :smile: [red] {LINE}"]
    assert "run-with-a-name" in "".join(lines)
