"""Three levels of codes, any ratio between them, priors that are given the class: from labelled images to samples."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvdsl.cli.main import main
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.source import Source
from hvdsl.runtime.codes.store import CodeStore
from hvdsl.runtime.data.open import open_splits
from hvdsl.runtime.training.folder.run import Run
from hvdsl.workflows.conditions import check_fields

from .conftest import Hvdsl

SPEC = """hv 1
model classes_tiny
use "pixelsnail.hv"
data arrays { shape = 1x12x12, bits = 8, input = v / 127.5 - 1, classes = 2 }
default codebook { start = kmeans, decay = 0.8, expire = 0.2 }
encoder {
  12: conv(4x4, 8, stride = 2) -> relu
   6: conv(3x3, 8) -> relu -> tap -> conv(4x4, 8, stride = 2) -> relu
   3: tap -> avg_pool(3)
   1: tap
}
decoder {
   1: { z_top ~ codebook(4, 4) posterior nearest_code(skip -> conv(1x1, 4)); x = z_top }
   3: {
    above = nearest(3)
    z_middle ~ codebook(6, 4) posterior nearest_code(concat(above, skip) -> conv(1x1, 4))
    x = concat(above, z_middle)
  }
   6: {
    above = nearest(2)
    z_bottom ~ codebook(8, 4) posterior nearest_code(concat(above, skip) -> conv(1x1, 4))
    x = concat(above, z_bottom) -> conv(3x3, 8) -> relu
  }
  12: upconv(4x4, logits)
}
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
train { steps = 80, batch = 16, optimizer = adam(lr = 5e-3), log_every = 80 }
prior z_top { stem(8, 3) + (label -> conv(1x1, 8)) -> elu -> conv(1x1, 4) }
prior z_middle given z_top {
  default conv { norm = weight(start = from_batch(1)) }
  cond = (z_top -> condition(4, 1, up = 3)) + (label -> conv(1x1, 4))
  stem(8, 3) -> causal_gated(8, 3, cond) * 2 -> elu -> conv(1x1, 6)
}
prior z_bottom given z_top, z_middle {
  default conv { norm = weight }
  cond = concat(z_top -> condition(4, 1, up = 6), z_middle -> condition(4, 1, up = 2))
  stem(16, 3) -> attentive(1, inner = 8, k = 3, cond = cond, heads = 2) -> elu -> conv(1x1, 8)
}
train z_top    { steps = 30, batch = 16, optimizer = adam(lr = 1e-1), precision = bf16, ema = 0.8 }
train z_middle {
  steps = 15, batch = 16, optimizer = adam(lr = 2e-2), precision = fp16, accumulate = 2, ema = 0.8, skip_above = 1000
  checkpointing = group, clip = 1, log_every = 1
}
train z_bottom { steps = 10, batch = 16, optimizer = adam(lr = 1e-2), precision = bf16 }
"""
CPU = ("--device", "cpu", "--threads", "1")
LEVELS = {"z_top": ((1, 1), 4), "z_middle": ((3, 3), 6), "z_bottom": ((6, 6), 8)}


def labelled(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Dark pictures of class 0, bright ones of class 1: blocks of 4x4 of like brightness."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    blocks = random.integers(0, 100, (count, 3, 3)) + 150 * labels[:, None, None]
    return blocks.repeat(4, 1).repeat(4, 2).astype(np.uint8), labels


def write_data(path: Path, **changed: np.ndarray) -> Path:
    train, test = labelled(72, 0), labelled(8, 1)
    arrays = {"train": train[0], "train_labels": train[1], "test": test[0], "test_labels": test[1]}
    np.savez(path, **(arrays | changed))  # type: ignore[arg-type]  # the stub takes one keyword's type for all
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all its stages."""
    folder = tmp_path_factory.mktemp("classes")
    (folder / "tiny.hv").write_text(SPEC)
    data = write_data(folder / "data.npz")
    command = ["train", str(folder / "tiny.hv"), "--stage", "all", "--out", str(folder / "run"), "--data", str(data)]
    assert main([*command, *CPU]) == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def brightness(hvdsl: Hvdsl, run: Path, to: Path, *options: str) -> list[float]:
    """Means of four samples."""
    result = hvdsl("sample", run, "-n", "4", "-o", to, *options, *CPU)
    assert result.code == 0, result.err
    with Image.open(to) as picture:
        page = np.asarray(picture.convert("L"), float)
    border = (page.shape[0] - 2 * 12) // 3
    starts = [border, 12 + 2 * border]
    return [page[y : y + 12, x : x + 12].mean() for y in starts for x in starts]


def test_samples_are_of_the_class_that_is_asked_for(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    means = brightness(hvdsl, trained, tmp_path / "a.png", "--label", "0,1", "--temperature", "0.2")
    assert max(means[0::2]) < 120 < min(means[1::2]), means


def test_the_labels_stand_beside_the_codes_that_they_belong_to(trained: Path) -> None:
    store = CodeStore.open(trained / "codes/train")
    assert [(level.name, level.grid, level.classes) for level in store.levels] == [
        *((name, grid, classes) for name, (grid, classes) in LEVELS.items()),
        ("label", (), 2),
    ]
    top, label = store.matrix[:, 0], store.matrix[:, -1]
    assert set(top[label == 0]).isdisjoint(top[label == 1])  # dark pictures have other codes than bright ones


def test_the_rate_is_that_of_all_three_priors(hvdsl: Hvdsl, trained: Path) -> None:
    found = json.loads(hvdsl("eval", trained, "--json", *CPU).out)
    assert [level["shape"] for level in found["levels"]] == [[1, 1], [3, 3], [6, 6]]
    assert found["prior_bits_per_image"] == pytest.approx(sum(v["prior_bits_per_image"] for v in found["levels"]))
    assert found["prior_bits_per_dim"] == pytest.approx(found["prior_bits_per_image"] / 144)
    assert found["prior_bits_per_image"] < found["uniform_bits_per_image"]


def refusal(hvdsl: Hvdsl, *arguments: str | Path, code: int = 1) -> str:
    result = hvdsl(*arguments, *CPU)
    assert result.code == code, result.err
    [line] = [line for line in result.err.splitlines() if line.startswith("hvdsl: ")]
    return line


def test_classes_that_do_not_apply_are_refused(hvdsl: Hvdsl, run: Path, tmp_path: Path) -> None:
    sample = ("sample", run, "-n", "2", "-o", tmp_path / "x.png")
    assert "say which with `--label`" in refusal(hvdsl, *sample)
    assert "whole numbers from 0 to 1" in refusal(hvdsl, *sample, "--label", "0,2", code=2)
    codes = tmp_path / "codes.npz"
    assert hvdsl("codes", run, "--split", "test", "-o", codes, *CPU).code == 0
    with np.load(codes) as file:
        assert file["label"].tolist() == [0, 1] * 4
    fixed = (*sample, "--fix", f"z_top={codes}", "--fix", f"z_middle={codes}")
    assert "given the class" in refusal(hvdsl, *fixed, "--label", "0", code=2)
    assert hvdsl(*fixed, *CPU).code == 0  # the bottom is not given the class


def test_classes_that_the_images_do_not_have_are_told_before_training(hvdsl: Hvdsl, tmp_path: Path) -> None:
    data, spec, run = tmp_path / "plain.npz", tmp_path / "tiny.hv", tmp_path / "run"
    np.savez(data, images=labelled(72, 0)[0])
    spec.write_text(SPEC)
    told = refusal(hvdsl, "train", spec, "--stage", "all", "--out", run, "--data", data)
    assert "there is no `label` of image 0" in told and not run.exists()
    text = SPEC.replace(" + (label -> conv(1x1, 8))", "").replace(" + (label -> conv(1x1, 4))", "")
    model = check(Source("tiny.hv", text))
    assert "`classes = 2` can be left out" in check_fields(model, open_splits(model.settings.data, data))
    labels = write_data(tmp_path / "data.npz")
    assert "left out" not in check_fields(model, open_splits(model.settings.data, labels))


@pytest.mark.parametrize("wrong", [2, -1])
def test_wrong_labels_are_refused(hvdsl: Hvdsl, run: Path, tmp_path: Path, wrong: int) -> None:
    labels = labelled(72, 0)[1]
    labels[7] = wrong
    data = write_data(tmp_path / "wrong.npz", train_labels=labels, test_labels=np.full(8, wrong))
    shutil.rmtree(run / "priors")
    told = f"of class {wrong}, and `data.classes` is 2"
    assert told in refusal(hvdsl, "train", "--resume", "--out", run, "--stage", "z_top", "--data", data)
    assert told in refusal(hvdsl, "codes", run, "--split", "test", "-o", tmp_path / "c.npz", "--data", data)
    assert not (run / "priors").exists() and not (tmp_path / "c.npz").exists()


def test_a_prior_does_not_go_on_with_other_labels(hvdsl: Hvdsl, run: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "other.npz", train_labels=1 - labelled(72, 0)[1])
    again = ("train", "--resume", "--out", run, "--stage", "z_top", "--steps", "31", "--data", data)
    assert "trained on other codes: its data was" in refusal(hvdsl, *again)


def parts(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = Run.open(run / "priors/z_middle").checkpoints().latest()
    assert checkpoint is not None and checkpoint.step == 6
    assert checkpoint.state["scaler"]["scale"] > 0 and checkpoint.state["started_from_batch"] is True
    return {f"{part} {name}": t for part in ("model", "optimizer", "ema") for name, t in checkpoint.load(part).items()}


def test_half_precision_in_parts_resumes_bit_for_bit(hvdsl: Hvdsl, run: Path) -> None:
    """With loss scaling, accumulation, averaging, checkpointing, a start from a batch, and steps that are skipped."""
    train = ("train", "--resume", "--out", run, "--stage", "z_middle", *CPU)
    ends = []
    for pieces in ([6], [3, 6]):
        shutil.rmtree(run / "priors/z_middle")
        for steps in pieces:
            assert hvdsl(*train, "--steps", str(steps), "--set", "train.z_middle.skip_above=100").code == 0
        ends.append(parts(run))
    assert all(torch.equal(ends[1][name], tensor) for name, tensor in ends[0].items())
    assert any(line.get("skipped_steps") for line in Run.open(run / "priors/z_middle").metrics())


@pytest.mark.slow
def test_two_processes_extract_and_train_as_one_does(
    hvdsl: Hvdsl, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for folder in ("codes", "priors/z_top"):
        shutil.rmtree(run / folder)
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    options = ("--stage", "z_top", "--steps", "3", "--precision", "fp32", *CPU)
    assert hvdsl("train", "--resume", "--out", alone, *options).code == 0
    options = (*options, "--set", "train.z_top.accumulate=2")
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "hvdsl", "train", "--resume", "--out", str(run), *options]
    other = subprocess.Popen(command, env=os.environ | together | {"RANK": "1", "OMP_NUM_THREADS": "1"})
    for name, value in (together | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    assert hvdsl("train", "--resume", "--out", run, *options).code == 0
    assert other.wait(timeout=240) == 0
    one, two = (CodeStore.open(folder / "codes/train") for folder in (alone, run))
    assert one.identity == two.identity and (np.asarray(one.matrix) == two.matrix).all()
    ends = [Run.open(folder / "priors/z_top").checkpoints().latest() for folder in (alone, run)]
    for part in ("model", "ema"):
        a, b = (end.load(part) for end in ends if end is not None)
        assert all(torch.allclose(b[name], tensor, atol=1e-5) for name, tensor in a.items())
