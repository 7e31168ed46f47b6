"""A short run of a small NVAE on data that ships, from the spec to samples."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hvdsl.cli.main import main
from hvdsl.runtime.training.folder.run import Run

SPEC = Path(__file__).with_name("small_nvae.hv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: Any) -> Any:
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("runs") / "nvae"
    assert main(["train", str(SPEC), "--out", str(folder), "--threads", "1", "--device", "cpu"]) == 0
    yield folder
    torch.set_num_threads(threads)


def test_the_loss_falls_and_every_group_is_used(trained: Any) -> None:
    rows = [row for row in Run.open(trained).metrics() if row.get("event", "train") == "train"]
    first, last = rows[0], rows[-1]
    assert last["negative_elbo_nats_per_dim"] < 0.85 * first["negative_elbo_nats_per_dim"]
    assert len(last["rate_per_group_nats_per_image"]) == 3
    assert min(last["rate_per_group_nats_per_image"]) > 0.01
    assert last["spectral_sum"] > 0
    assert first["weighted_spectral_nats_per_image"] > last["weighted_spectral_nats_per_image"]
    assert "rate_per_group_weight" in first  # while annealing
    assert last["beta"] == 1


def test_samples_and_reconstructions_are_written(trained: Any, tmp_path: Any) -> None:
    pictures = {}
    for passes in ("0", "5"):
        out = tmp_path / f"{passes}.png"
        assert (
            main(["sample", str(trained), "-n", "4", "--recalibrate", passes, "-o", str(out), "--device", "cpu"]) == 0
        )
        pictures[passes] = np.asarray(Image.open(out))
    assert (pictures["0"] != pictures["5"]).any()
    out = tmp_path / "reconstructions.png"
    assert main(["reconstruct", str(trained), "-o", str(out), "--device", "cpu"]) == 0
    assert np.asarray(Image.open(out)).std() > 0


def test_resuming_equals_going_straight_through(trained: Any, tmp_path: Any) -> None:
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    shutil.rmtree(again / "checkpoints" / "60")
    assert main(["train", "--resume", "--out", str(again), "--threads", "1", "--device", "cpu"]) == 0
    ends = [Run.open(folder).checkpoints().open(60) for folder in (trained, again)]
    for part in ("model", "optimizer", "penalties"):
        straight, resumed = (end.load(part) for end in ends)
        assert all(torch.equal(straight[name], resumed[name]) for name in straight), part
