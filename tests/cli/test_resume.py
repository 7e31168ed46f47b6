"""What was asked of a run stays asked, and what changed is said."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hvdsl.cli.main import main
from hvdsl.runtime.training.trainer import Trainer

from .conftest import TINY, Hvdsl

CPU = ("--device", "cpu", "--threads", "1")
OWN = TINY.replace("data digits", "data arrays").replace("batch = 16", "batch = 8")


def images(path: Path, seed: int = 0, n: int = 24) -> Path:
    np.save(path, np.random.default_rng(seed).integers(0, 16, (n, 8, 8, 1), np.uint8))
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps on images of its own, in `run`, with its spec and data beside it."""
    folder = tmp_path_factory.mktemp("resumed")
    (folder / "own.hv").write_text(OWN.replace("bits = 4", "bits = 4, values = levels"))
    images(folder / "a.npy")
    images(folder / "b.npy", seed=1)
    run = ("train", str(folder / "own.hv"), "--data", str(folder / "a.npy"), "--out", str(folder / "run"), *CPU)
    assert main(list(run)) == 0
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "own"))


def entries(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_what_a_resume_was_asked_for_is_written_into_the_run(hvdsl: Hvdsl, folder: Path) -> None:
    run = folder / "run"
    assert hvdsl("train", "--resume", "--out", run, "--steps", "5", "--set", "train.clip=7", *CPU).code == 0
    for text in ("steps = 5", "clip = 7"):
        assert text in (run / "resolved.hv").read_text()
    first, second = entries(run)
    assert (first["from_step"], second["from_step"]) == (0, 3)
    assert second["overrides"] == ["train.clip=7", "train.steps=5"]
    keys = {"time", "version", "argv", "data", "data_digest", "device", "world", "precision", "level", "noise_scheme"}
    assert keys <= second.keys()
    assert first["data_digest"] == second["data_digest"]
    again = hvdsl("train", "--resume", "--out", run, *CPU)
    assert (again.code, "done: 5 steps" in again.out) == (0, True)


def test_a_run_that_is_longer_already_is_not_called_done(hvdsl: Hvdsl, folder: Path) -> None:
    result = hvdsl("train", "--resume", "--out", folder / "run", "--steps", "2", *CPU)
    assert result.code == 1
    assert "is at step 3 already, and the whole run is to have 2: say how long it is with `--steps`" in result.err


def test_other_images_need_consent(hvdsl: Hvdsl, folder: Path) -> None:
    run, other = folder / "run", folder / "b.npy"
    again = ("train", "--resume", "--out", run, "--data", other, "--steps", "4", *CPU)
    refused = hvdsl(*again)
    assert refused.code == 1
    assert f"the images at {other} are others (digest" in refused.err
    assert "write --changed data" in refused.err
    allowed = hvdsl(*again, "--changed", "data")
    assert allowed.code == 0
    assert "from here on the images at" in allowed.out
    assert hvdsl("train", "--resume", "--out", run, "--steps", "5", *CPU).code == 0  # those are its data now
    assert hvdsl("train", "--resume", "--out", run, "--steps", "6", "--data", folder / "a.npy", *CPU).code == 1


def test_the_same_images_elsewhere_need_none(hvdsl: Hvdsl, folder: Path) -> None:
    shutil.move(folder / "a.npy", folder / "moved.npy")
    again = ("train", "--resume", "--out", folder / "run", "--data", folder / "moved.npy", "--steps", "4", *CPU)
    assert hvdsl(*again).code == 0


@pytest.mark.parametrize(
    ("override", "word", "said"),
    [
        ("data.holdout=5", "data", "`data.holdout` is `5`"),
        ("data.split_seed=3", "data", "`data.split_seed` is `3`"),
        ("data.input=v / 8 - 1", "data", "`data.input`"),
        ("objective.unit=nats_per_image", "objective", "`objective.unit` is `nats_per_image`, before `nats_per_dim`"),
    ],
)
def test_another_division_mapping_or_objective_needs_consent(
    override: str, word: str, said: str, hvdsl: Hvdsl, folder: Path
) -> None:
    again = ("train", "--resume", "--out", folder / "run", "--steps", "4", "--set", override, *CPU)
    refused = hvdsl(*again)
    assert (refused.code, said in refused.err, f"--changed {word}" in refused.err) == (1, True, True), refused.err
    assert hvdsl(*again, "--changed", word).code == 0


def test_a_consent_to_nothing_is_a_usage_error(hvdsl: Hvdsl, folder: Path) -> None:
    assert hvdsl("train", "--resume", "--out", folder / "run", "--changed", "weather", *CPU).code == 2
    assert hvdsl("train", folder / "own.hv", "--out", folder / "new", "--changed", "data", *CPU).code == 2


def test_one_command_begins_and_goes_on(hvdsl: Hvdsl, folder: Path) -> None:
    out = folder / "auto"
    always = ("train", folder / "own.hv", "--data", folder / "a.npy", "--out", out, "--resume", "auto", *CPU)
    for steps in ("2", "4"):
        assert hvdsl(*always, "--steps", steps).code == 0
    assert [e["from_step"] for e in entries(out)] == [0, 2]


def test_a_spec_may_follow_resume_as_before(hvdsl: Hvdsl, folder: Path) -> None:
    result = hvdsl("train", "--resume", folder / "own.hv", "--out", folder / "run", "--steps", "4", *CPU)
    assert (result.code, result.err) == (0, "")


def test_going_on_from_an_earlier_checkpoint_puts_the_newer_ones_aside(hvdsl: Hvdsl, folder: Path) -> None:
    run = folder / "run"
    assert hvdsl("train", "--resume", "--out", run, "--steps", "5", *CPU).code == 0
    result = hvdsl("train", "--resume", "--checkpoint", "3", "--out", run, "--steps", "4", *CPU)
    assert result.code == 0
    assert "newer checkpoints are put aside in" in result.out
    assert (run / "checkpoints" / "aside-1" / "5" / "manifest.json").is_file()
    assert entries(run)[-1]["from_step"] == 3


@pytest.fixture
def heeds_hangups() -> Iterator[None]:
    """Tests under `nohup`, where a trainer goes on as it was asked to, see what happens elsewhere."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeds_hangups")
def test_a_stopped_run_says_once_and_unbroken_how_to_go_on(
    hvdsl: Hvdsl, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder / "x[/y] and [bold]"
    launch = Trainer.launch

    def stopped(self: Trainer, batch: object) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        launch(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "launch", stopped)
    result = hvdsl("train", folder / "own.hv", "--data", folder / "a.npy", "--out", out, *CPU)
    assert result.code == 128 + signal.SIGHUP
    line = f"stopped and saved at step 1; `hvdsl train --resume --out '{out}'` goes on\n"
    assert result.out.count(line) == 1
    assert "done" not in result.out


def test_a_checkpoint_is_saved_on_request_and_training_goes_on(
    hvdsl: Hvdsl, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Trainer.launch

    def asked(self: Trainer, batch: object) -> None:
        if self.optimization.step_number == 3:
            os.kill(os.getpid(), signal.SIGUSR1)
        launch(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "launch", asked)
    result = hvdsl("train", "--resume", "--out", folder / "run", "--steps", "6", *CPU)
    assert (result.code, "saved at step 4, as SIGUSR1 asks" in result.out) == (0, True)
    assert {path.name for path in (folder / "run" / "checkpoints").iterdir()} == {"4", "6"}


def test_a_second_trainer_is_refused(hvdsl: Hvdsl, folder: Path) -> None:
    from hvdsl.runtime.training.folder.run import Run

    with Run.open(folder / "run").lock():
        result = hvdsl("train", "--resume", "--out", folder / "run", "--steps", "4", *CPU)
        assert (result.code, f"process {os.getpid()}" in result.err) == (1, True)
        assert hvdsl("eval", folder / "run").code == 0  # who reads never asks


def test_too_little_memory_is_one_sentence_with_what_to_change(
    hvdsl: Hvdsl, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(self: Trainer, batch: object) -> None:
        torch.empty(1 << 60)

    monkeypatch.setattr(Trainer, "launch", hungry)
    result = hvdsl("train", folder / "own.hv", "--data", folder / "a.npy", "--out", folder / "big", *CPU)
    assert result.code == 1
    assert result.err.startswith("hvdsl: out of memory of the machine: ")
    assert all(option in result.err for option in ("--batch", "--precision bf16", "train.checkpointing=group"))


def test_a_run_begins_with_other_weights_and_says_which_match(hvdsl: Hvdsl, folder: Path) -> None:
    out = folder / "from"
    begin = ("train", folder / "own.hv", "--data", folder / "a.npy", "--out", out, *CPU)
    result = hvdsl(*begin, "--from", folder / "run", "--set", "train.optimizer.lr=1e-12", "--steps", "1")
    assert result.code == 0
    assert f"weights from {folder / 'run'}: " in result.out
    assert "as initialised" not in result.out
    begun = load_file(out / "checkpoints" / "1" / "model.safetensors")
    averages = load_file(folder / "run" / "checkpoints" / "3" / "ema.safetensors")
    assert all(torch.allclose(begun[name], averages[name], atol=1e-9) for name in averages)
    assert hvdsl("train", "--resume", "--out", out, "--steps", "2", *CPU).code == 0
    assert entries(out)[0]["weights"] == str(folder / "run")


def test_names_that_wrappers_made_are_unwrapped_and_what_does_not_fit_is_named(hvdsl: Hvdsl, folder: Path) -> None:
    weights = load_file(folder / "run" / "checkpoints" / "3" / "model.safetensors")
    first, second, *others = weights
    nested = {f"model.module.{name.replace('.', '._orig_mod.', 1)}": weights[name] for name in others}
    save_file(nested | {f"model.{second}": torch.zeros(2, 3), "optimizer.x": torch.zeros(1)}, folder / "w.safetensors")
    begin = ("train", folder / "own.hv", "--data", folder / "a.npy", "--out", folder / "nested", "--steps", "1", *CPU)
    result = hvdsl(*begin, "--from", folder / "w.safetensors")
    assert result.code == 0
    assert f"{len(others)} of the model's {len(weights)} tensors" in result.out
    assert f"not there, so as initialised: {first}" in result.out
    assert f"of another shape there, so as initialised: {second} [2, 3], here" in result.out
    assert "there and not in the model: optimizer.x" in result.out


def test_weights_of_nothing_that_the_model_has_are_refused(hvdsl: Hvdsl, folder: Path) -> None:
    save_file({"unknown": torch.zeros(1)}, folder / "w.safetensors")
    (folder / "w.pt").write_bytes(b"pickled")
    begin = ("train", folder / "own.hv", "--data", folder / "a.npy", "--out", folder / "none", *CPU)
    for source, said in (("w.safetensors", "has none of the model's tensors"), ("w.pt", "no run, checkpoint or .safe")):
        result = hvdsl(*begin, "--from", folder / source)
        assert (result.code, said in result.err) == (1, True), result.err
    assert not (folder / "none").exists()
    assert hvdsl(*begin, "--from", folder / "run", "--resume").code == 2


@pytest.mark.parametrize(
    ("begun", "way"), [(False, "the same command begins anew"), (True, "--resume --out .* goes on")]
)
def test_a_signal_before_training_ends_at_once_and_one_to_save_is_passed_over(
    begun: bool, way: str, hvdsl: Hvdsl, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(images: object) -> str:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr("hvdsl.workflows.train.dataset_digest", digest)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    run = folder / ("run" if begun else "new")
    given = ("--resume", "--steps", "5") if begun else (str(folder / "own.hv"), "--data", str(folder / "a.npy"))
    done = hvdsl("train", *given, "--out", run, *CPU)
    assert done.code == 143
    assert re.fullmatch(rf"hvdsl: stopped by SIGTERM while nothing was being trained: .*{way}\n", done.err)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == handlers
    assert run.exists() == begun
