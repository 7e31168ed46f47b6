"""The run folder and its metrics."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from hvdsl.runtime.training.folder.run import Run, RunError
from hvdsl.runtime.training.folder.weights import model_tensors, save_weights


def test_a_run_holds_its_files_and_a_description_of_the_machine(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "runs" / "one", {"spec.hv": "hv 1\n", "model.py": "…"}, {"device": "cpu"})
    opened = Run.open(run.folder)
    assert opened.read("spec.hv") == "hv 1\n"
    environment = json.loads(opened.read("environment.json"))
    assert environment["device"] == "cpu"
    assert environment["threads"] >= 1


def test_an_existing_folder_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    with pytest.raises(RunError, match=r"exists already: give another folder with `--out`$"):
        Run.create(tmp_path, {})
    run = Run.create(tmp_path / "run", {})
    run.checkpoints().save(1, {}, {})
    with pytest.raises(RunError, match=r"exists already: continue it with `--resume`, or give another folder"):
        Run.create(run.folder, {})


def test_an_empty_folder_becomes_the_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert Run.create(tmp_path / "run", {"model.py": "new"}).read("model.py") == "new"


def test_a_run_without_a_checkpoint_is_begun_anew(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {"model.py": "old"})
    run = Run.create(tmp_path / "run", {"resolved.hv": "hv 1\n"})
    assert not (run.folder / "model.py").exists()
    (run.folder / "notes.txt").write_text("somebody's own")
    with pytest.raises(RunError, match=r"exists already: continue it with `--resume`, or give another folder"):
        Run.create(run.folder, {})


def test_what_a_dead_process_left_of_a_new_folder_is_cleared(tmp_path: Path) -> None:
    gone, alive = tmp_path / ".run.new-999999999", tmp_path / f".run.new-{os.getppid()}"
    gone.mkdir()
    alive.mkdir()
    Run.create(tmp_path / "run", {})
    assert {path.name for path in tmp_path.iterdir()} == {"run", alive.name}


def test_a_run_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"^cannot make the run folder .*one: no space$"):
        Run.create(tmp_path / "one", {"spec.hv": "hv 1\n"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "3"])
def test_a_damaged_description_is_a_sentence(content: str, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "one", {})
    (run.folder / "environment.json").write_text(content)
    with pytest.raises(RunError, match=r"environment.json is damaged: restore it"):
        run.environment()


@pytest.mark.parametrize(("key", "value"), [("level", "1"), ("level", True), ("data", 3), ("data", ["a"])])
def test_a_note_of_another_type_is_a_sentence(key: str, value: object, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "one", {}, {key: value})
    with pytest.raises(RunError, match=rf"environment.json says `{key}` is .* where .* belongs"):
        getattr(run, key)


def test_what_a_run_noted_comes_back(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "one", {}, {"level": 2, "data": "/data"})
    assert (run.level, run.data) == (2, Path("/data"))
    old = Run.create(tmp_path / "old", {}, {"data": None})
    assert (old.level, old.data) == (1, None)


def test_a_file_of_weights_is_a_model_by_itself(tmp_path: Path) -> None:
    layer = nn.Linear(2, 3)
    path = save_weights(layer, tmp_path / "model.safetensors", "hv 1\n", step=7)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        assert (about["hvdsl.spec"], about["hvdsl.step"]) == ("hv 1\n", "7")
        assert torch.equal(file.get_tensor("weight"), layer.weight)
    run = Run.create(tmp_path / "run", {"resolved.hv": "hv 1\n"})
    run.checkpoints().save(7, {"model": model_tensors(layer)}, {"noise_scheme": int(about["hvdsl.noise_scheme"])})
    with safe_open(run.folder / "checkpoints/7/model.safetensors", framework="pt") as file:
        assert file.metadata() == about
    prior = Run.create(run.folder / "priors" / "z_top", {"resolved.hv": "hv 1\n"}, {"codes": {}})
    prior.checkpoints().save(7, {"model": model_tensors(layer)}, {})
    with safe_open(prior.folder / "checkpoints/7/model.safetensors", framework="pt") as file:
        assert file.metadata()["hvdsl.prior"] == "z_top"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no resolved\.hv"):
        Run.create(tmp_path / "run", {}).read("resolved.hv")


def test_what_a_killed_trainer_left_half_written_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"resolved.hv": "hv 1\n"})
    left = [run.folder / ".metrics.jsonl.8a082a30.tmp", run.pictures / ".samples-4.png.8a082a30.tmp"]
    others = run.folder / ".report.html.8a082a30.tmp"  # of a command that is at work
    for path in (*left, others):
        path.touch()
    run.clear_remains()
    assert [path.exists() for path in (*left, others)] == [False, False, True]
