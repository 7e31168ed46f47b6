"""Each shipped spec trains two steps through the command line, narrow, on data in the form that its release has."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hvdsl import specs
from hvdsl.compiler.pipeline import check

from .conftest import Hvdsl

SHORT = ("train.log_every=1", "train.evaluate_every=none", "train.sample_every=none")
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
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", COUNT) + bytes(i % 10 for i in range(COUNT))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


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


def pngs(size: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for i, image in enumerate(pictures(size, size)):
            Image.fromarray(image).save(folder / f"{i:05}.png", compress_level=0)

    return write


def arrays(size: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for part in ("train", "valid"):
            np.save(folder / f"{part}.npy", pictures(size, size))

    return write


def binary(folder: Path) -> None:
    np.savez(folder / "images.npz", **{part: pictures(28, 28)[..., 0] for part in ("train", "validation", "test")})


def morphomnist(folder: Path) -> None:
    images, i = pictures(28, 28)[..., 0], np.arange(COUNT)
    beside = {"thickness": 1 + i / 2, "intensity": 100 + 9.5 * i, "digit": i % 10}
    fields = {f"{part}_{name}": values for part in ("train", "test") for name, values in beside.items()}
    np.savez(folder / "morphomnist.npz", train=images, test=images, **fields)


def ships(folder: Path) -> None:
    """`digits` and `photos` need no files."""


@dataclass(frozen=True)
class Preset:
    """Where a spec's data lies, what makes it narrow, and whether that is still long."""

    data: Callable[[Path], None]
    overrides: tuple[str, ...] = ()
    slow: bool = False


FP32 = "train.precision=fp32"
LADDER = ("w=4", "train.patience=none", "train.keep=2")  # two steps are not validated
VDVAE = ("width=8", "zdim=2")
NVAE = ("c=4", "zdim=2", FP32)
LARGE_NVAE = ("c=2", "zdim=2", "most=4", "least=2", FP32)
CODES = ("ch=4", "inner=2", "codes=8", "dim=4")
PRESETS = {
    "biva_cifar10": Preset(cifar10, ("c=2",), slow=True),
    "chvae_morphomnist": Preset(morphomnist, ("width=[else: 4]", "zdim=2")),
    "evdvae_cifar10": Preset(cifar10, VDVAE),
    "iaf_cifar10": Preset(cifar10, ("h=4", "zdim=2")),
    "ladder_mnist": Preset(binary, LADDER),
    "ladder_mnist@narrow": Preset(binary, ("widths=[else: 4]", *LADDER[1:]), slow=True),
    "ladder_mnist@twelve": Preset(binary, LADDER),
    "lvae_mnist": Preset(mnist),
    "lvae_mnist@iwae": Preset(mnist),
    "lvae_mnist@unshared": Preset(mnist),
    "nvae_celeba64": Preset(lambda f: lmdb(f, [jpeg(i) for i in pictures(218, 178)]), NVAE, slow=True),
    "nvae_celebahq256": Preset(lambda f: lmdb(f, [i.tobytes() for i in pictures(256, 256)]), LARGE_NVAE, slow=True),
    "nvae_cifar10": Preset(cifar10, NVAE, slow=True),
    "nvae_cifar10@no_flows": Preset(cifar10, NVAE, slow=True),
    "nvae_digits": Preset(ships, ("c=4",)),
    "nvae_ffhq256": Preset(pngs(256), LARGE_NVAE, slow=True),
    "nvae_imagenet32": Preset(lambda f: lmdb(f, [i.tobytes() for i in pictures(32, 32)]), NVAE, slow=True),
    "nvae_mnist": Preset(mnist, NVAE),
    "nvae_mnist@small": Preset(mnist, ("c=4", "zdim=2"), slow=True),
    "vdvae_cifar10": Preset(cifar10, (*VDVAE, "data.holdout=5")),
    "vdvae_digits": Preset(ships, VDVAE),
    "vdvae_digits_conditional": Preset(ships, ("w=4",)),
    "vdvae_ffhq1024": Preset(pngs(1024), ("w=[else: 4]", "zdim=1", "data.holdout=1"), slow=True),
    "vdvae_ffhq256": Preset(arrays(256), (*VDVAE, "data.holdout=2"), slow=True),
    "vdvae_imagenet32": Preset(arrays(32), (*VDVAE, "data.holdout=2"), slow=True),
    "vdvae_imagenet64": Preset(arrays(64), (*VDVAE, "data.holdout=2"), slow=True),
    "vdvae_mnist": Preset(mnist, VDVAE),
    "vdvae_mnist@small": Preset(mnist, ("w=[else: 8]", "zdim=2"), slow=True),
    "vdvae_photos": Preset(ships, ("w=[else: 4]", "zdim=[else: 2]")),
    "vdvae_photos_inpainting": Preset(ships, ("w=[else: 4]", "zdim=[else: 2]")),
    "vdvae_photos_upscaling": Preset(ships, ("w=[else: 4]", "zdim=[else: 2]")),
    "vqvae2_256": Preset(pngs(256), (*CODES, "hidden=16"), slow=True),
    "vqvae2_ffhq1024": Preset(pngs(1024), (*CODES, "hidden=16", "units_top=4", "units=4"), slow=True),
    "vqvae2_mnist": Preset(mnist, CODES),
    "vqvae2_mnist@small": Preset(mnist, CODES, slow=True),
    "vqvae2_photos": Preset(ships, CODES),
    "vqvae_cifar10": Preset(cifar10, ("ch=4", "codes=8", "dim=4")),
}


def test_every_shipped_spec_is_among_them() -> None:
    assert {name.partition("@")[0] for name in PRESETS} == set(specs.names())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if preset.slow else ()) for name, preset in PRESETS.items()]
)
def test_it_trains_two_steps_of_every_stage(name: str, hvdsl: Hvdsl, tmp_path: Path) -> None:
    preset, data, run = PRESETS[name], tmp_path / "data", tmp_path / "run"
    data.mkdir()
    preset.data(data)
    place = ("--data", data) if any(data.iterdir()) else ()
    overrides = [part for setting in (*preset.overrides, *SHORT) for part in ("--set", setting)]
    machine = ("--threads", "1", "--device", "cpu")
    result = hvdsl(
        *("train", name, *place, "--out", run, "--steps", "2", "--batch", "2", "--stage", "all"), *machine, *overrides
    )
    assert result.code == 0, result.err
    stages = [run, *sorted(path for path in run.glob("priors/*") if path.is_dir())]
    for stage in stages:
        rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
        steps = [row for row in rows if row["event"] == "train"]
        assert steps[-1]["step"] == 2
        assert all(math.isfinite(row["objective"]) for row in steps)
    if name == "chvae_morphomnist":
        edited = hvdsl("edit", run, "--data", data, "--set-given", "thickness=6", "-o", tmp_path / "edit.png")
        assert edited.code == 0 and (tmp_path / "edit.png").exists(), edited.err
    model = check(name, preset.overrides)
    assert len(stages) == 1 + len(model.priors)
    if model.settings.objective.spectral:
        assert (run / "checkpoints" / "2" / "penalties.safetensors").exists()
