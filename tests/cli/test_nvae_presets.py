"""Each NVAE preset trains a step through the command line, narrow, on data in the form that its release reads."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from .conftest import Hvdsl

COUNT = 10  # a tenth is held out where a data set has no validation images


def pictures(height: int, width: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, height, width, 3), np.uint8)
    noise[:, height // 4 : height // 2] //= 4
    return noise


def mnist(folder: Path) -> None:
    images = pictures(28, 28)[..., 0]
    for part in ("train", "t10k"):
        head = bytes([0, 0, 8, 3]) + struct.pack(">3I", *images.shape)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())


def cifar10(folder: Path) -> None:
    records = b"".join(b"\7" + image.transpose(2, 0, 1).tobytes() for image in pictures(32, 32))
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(records)


def lmdb(folder: Path, values: list[bytes]) -> None:
    package = pytest.importorskip("lmdb")
    for split in ("train", "validation"):
        with package.open(str(folder / f"{split}.lmdb"), map_size=1 << 24) as store, store.begin(write=True) as writing:
            for i, value in enumerate(values):
                writing.put(str(i).encode(), value)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg")
    return file.getvalue()


def folder_of_pngs(folder: Path) -> None:
    for i, image in enumerate(pictures(256, 256)):
        Image.fromarray(image).save(folder / f"{i:05}.png")


LARGE = ("c=2", "most=1", "least=1", "train.precision=fp32")
PRESETS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "mnist": (mnist, ("c=4", "g=[8: 2, 4: 1]")),
    "cifar10": (cifar10, ("c=4", "groups=2")),
    "imagenet32": (lambda f: lmdb(f, [i.tobytes() for i in pictures(32, 32)]), ("c=4", "groups=2")),
    "celeba64": (
        lambda f: lmdb(f, [jpeg(i) for i in pictures(218, 178)]),
        ("c=4", "g=[32: 1, 16: 1, 8: 1]", "train.precision=fp32"),
    ),
    "celebahq256": (lambda f: lmdb(f, [i.tobytes() for i in pictures(256, 256)]), LARGE),
    "ffhq256": (folder_of_pngs, LARGE),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("mnist", "cifar10") else pytest.mark.slow) for name in PRESETS]
)
def test_a_preset_trains_a_step(name: str, hvdsl: Hvdsl, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    write, small = PRESETS[name]
    write(data)
    overrides = [part for setting in (*small, "train.warmup=1") for part in ("--set", setting)]
    machine = ("--threads", "1", "--device", "cpu")
    result = hvdsl(
        "train", f"nvae_{name}", "--data", data, "--out", run, "--steps", "1", "--batch", "2", *machine, *overrides
    )
    assert result.code == 0, result.err
    (row,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert math.isfinite(row["objective"])
    assert row["weighted_spectral_nats_per_image"] > 0
    assert row["weighted_batch_norm_gamma_nats_per_image"] > 0
    assert len(row["rate_per_group_weight"]) == len(row["rate_per_group_nats_per_image"]) > 1
    assert (run / "checkpoints" / "1" / "penalties.safetensors").exists()
