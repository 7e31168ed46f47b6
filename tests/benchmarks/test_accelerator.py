"""The one command: a section that fails is told, and the others go on, within the time for all."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks import accelerator


def test_a_failing_section_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(report: accelerator.Report, quick: bool) -> None:
        raise KeyError("something nobody thought of")

    def endless(report: accelerator.Report, quick: bool) -> None:
        while True:
            time.sleep(0.01)

    def copies(report: accelerator.Report, quick: bool) -> None:
        report.add("ceilings", "copy 1 GB/s", copy=1e9)

    for name, section in {"ceilings": copies, "parity": broken, "sampling": endless}.items():
        monkeypatch.setattr(accelerator, name, section)
    told = tmp_path / "told.json"
    begin = time.monotonic()
    arguments = ["--device", "cpu", "--only", "ceilings", "parity", "sampling", "--seconds", "0.3", "--json", str(told)]
    assert accelerator.main(arguments) == 1
    assert time.monotonic() - begin < 30
    record = json.loads(told.read_text())
    assert record["failures"] == 2
    assert [(row["section"], "failed" in row) for row in record["rows"]] == [
        ("ceilings", False),
        ("parity", True),
        ("sampling", True),
    ]
    assert "KeyError" in record["rows"][1]["failed"]
    assert record["rows"][2]["failed"].startswith("OutOfTimeError")
    assert {"device", "date", "command", "hvdsl", "torch", "python"} <= set(record)
    assert "parity    the section itself: FAILED" in capsys.readouterr().out
