"""What a run writes down line by line: what it measures, and what its starts asked of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvdsl.errors import HvdslError
from hvdsl.runtime.training.folder.logs import History, HistoryError, MetricsLog, first_line, read_metrics
from hvdsl.runtime.training.folder.run import Run


def new_run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", first_line({"overrides": ["width=8"]}, "one\n"))


def test_a_start_adds_a_line_and_a_version_of_the_spec(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.history.add({"overrides": ["train.steps=9"], "from_step": 4}, "two\n")
    first, second = run.history.entries()
    assert (first["start"], first["overrides"], first["resolved"]) == (0, ["width=8"], "resolved/0.hv")
    assert (second["start"], second["from_step"], second["resolved"]) == (1, 4, "resolved/1.hv")
    assert [run.read(name) for name in ("resolved/0.hv", "resolved/1.hv", "resolved.hv")] == [
        "one\n",
        "two\n",
        "two\n",
    ]


def test_a_run_of_version_0_1_has_a_first_line_made_of_its_environment(tmp_path: Path) -> None:
    old = Run.create(tmp_path / "old", {"resolved.hv": "one\n"}, {"data": "/data", "level": 2})
    (entry,) = old.history.entries()
    assert (entry["data"], entry["level"], entry["version"]) == ("/data", 2, None)
    old.history.add({"from_step": 3}, "two\n")
    assert [e["start"] for e in old.history.entries()] == [0, 1]
    assert old.read("resolved/0.hv") == "one\n"


def test_a_start_that_was_killed_before_its_spec_was_in_place_is_finished(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.history.add({}, "two\n")
    (run.folder / "resolved.hv").write_text("one\n")  # killed between the line and the rename
    assert run.spec() == "one\n"
    run.history.settle()
    assert run.read("resolved.hv") == "two\n"
    (run.folder / "resolved.hv").write_text("by hand\n")
    run.history.settle()
    assert run.read("resolved.hv") == "by hand\n"
    with pytest.raises(HistoryError, match=r"resolved.hv is not the spec that the run was .* restore it from .*1.hv"):
        run.spec()


def test_a_line_that_was_cut_short_is_left_out_and_others_are_a_sentence(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    path = run.folder / "history.jsonl"
    path.write_text(path.read_text() + '{"start": 1, "ti')
    assert len(run.history.entries()) == 1
    run.history.add({}, "two\n")
    assert [e["start"] for e in run.history.entries()] == [0, 1]
    path.write_text("[" * 100_000 + "\n" + json.dumps({"start": 1}) + "\n")
    with pytest.raises(HistoryError, match=r"line 1 of .*history.jsonl is no JSON object"):
        History(run.folder).entries()


def test_records_are_lines_of_json_and_nan_is_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write("train", 1, {"elbo_nats_per_dim": 2.5, "rate_per_group_nats": [1.0, float("nan")]})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert line == '{"event": "train", "step": 1, "elbo_nats_per_dim": 2.5, "rate_per_group_nats": [1.0, null]}'


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.write("train", step, {})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "st')  # cut short by a crash
    log.rewind(2)
    log.write("train", 3, {})
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HvdslError, match=r"cannot write .*metrics\.jsonl: No such file or directory"):
        MetricsLog(tmp_path / "missing" / "metrics.jsonl").write("train", 1, {})
