"""train, eval, sample, reconstruct: one small run from spec to pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from hvdsl.cli.main import main

from .conftest import TINY, Hvdsl


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three steps on the shipped digits."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.hv").write_text(TINY)
    assert main(["train", str(folder / "tiny.hv"), "--out", str(folder / "run"), "--seed", "1", "--threads", "1"]) == 0
    return folder / "run"


def test_a_run_folder_says_what_was_trained(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"spec.hv", "resolved.hv", "model.py", "graph.json", "environment.json", "metrics.jsonl"} <= names
    assert (trained / "spec.hv").read_text() == TINY
    assert "seed = 1" in (trained / "resolved.hv").read_text()
    assert (trained / "checkpoints" / "3").is_dir()


def test_eval_gives_every_promised_number(hvdsl: Hvdsl, trained: Path) -> None:
    result = json.loads(hvdsl("eval", trained, "--json", "--baselines").out)
    promised = {"bits_per_dim", "nats_per_dim", "distortion", "rate", "rate_per_group", "images"}
    assert promised <= result.keys()
    assert len(result["rate_per_group"]) == 3
    assert 0 < result["histogram_bits_per_dim"] < 4.1
    assert result["nats_per_dim"] == pytest.approx(result["distortion"] + result["rate"])


def test_sample_and_reconstruct_write_pictures(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    assert hvdsl("sample", trained, "-n", "4", "-o", tmp_path / "s.png").code == 0
    assert hvdsl("reconstruct", trained, "-n", "2", "--depths", "3", "-o", tmp_path / "r.png").code == 0
    assert hvdsl("eval", trained, "-o", tmp_path / "rates.png").code == 0
    for name in ("s.png", "r.png", "rates.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 50


def test_a_run_is_never_overwritten(hvdsl: Hvdsl, trained: Path) -> None:
    result = hvdsl("train", trained / "spec.hv", "--out", trained)
    assert result.code == 1
    assert "--resume" in result.err


def test_a_run_goes_on_with_resume(hvdsl: Hvdsl, trained: Path) -> None:
    assert hvdsl("train", "--resume", "--out", trained, "--steps", "4", "--threads", "1").code == 0
    assert (trained / "checkpoints" / "4").is_dir()


def test_resuming_with_another_model_is_refused(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.hv"
    other.write_text(TINY.replace("let width = 8", "let width = 12"))
    result = hvdsl("train", other, "--resume", "--out", trained)
    assert result.code == 1
    assert "is not the model" in result.err


@pytest.mark.parametrize("arguments", [["train"], ["train", "--resume"], ["eval", "RUN", "--device", "nonsense"]])
def test_options_that_contradict_are_usage_errors(hvdsl: Hvdsl, trained: Path, arguments: list[str]) -> None:
    assert hvdsl(*(str(trained) if word == "RUN" else word for word in arguments)).code == 2


def test_a_folder_that_is_no_run_is_one_sentence(hvdsl: Hvdsl, tmp_path: Path) -> None:
    result = hvdsl("eval", tmp_path)
    assert result.code == 1
    assert "not a run folder" in result.err
