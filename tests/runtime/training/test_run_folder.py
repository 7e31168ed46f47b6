"""The run folder and its metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvdsl.errors import HvdslError
from hvdsl.runtime.training.metrics import MetricsLog, read_metrics
from hvdsl.runtime.training.run import Run, RunError


def test_a_run_holds_its_files_and_a_description_of_the_machine(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "runs" / "one", {"spec.hv": "hv 1\n", "model.py": "…"}, {"device": "cpu"})
    opened = Run.open(run.folder)
    assert opened.read("spec.hv") == "hv 1\n"
    environment = json.loads(opened.read("environment.json"))
    assert environment["device"] == "cpu"
    assert environment["threads"] >= 1


def test_an_existing_folder_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    with pytest.raises(RunError, match="exists already: continue it with `--resume`"):
        Run.create(tmp_path, {})


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no resolved\.hv"):
        Run.create(tmp_path / "run", {}).read("resolved.hv")


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
    with pytest.raises(HvdslError, match="cannot write metrics"):
        MetricsLog(tmp_path / "missing" / "metrics.jsonl").write("train", 1, {})
