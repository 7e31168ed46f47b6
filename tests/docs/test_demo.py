"""The demo's pictures can be made of a run, and its baseline is one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import hvdsl

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo_pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_pictures", ROOT / "scripts" / "demo_pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_pictures"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> hvdsl.Trained:
    run = tmp_path_factory.mktemp("demo") / "run"
    small = {"w": 4, "train.evaluate_every": "none"}
    hvdsl.train("vdvae_digits_conditional", overrides=small, steps=1, batch=4, out=run, device="cpu", threads=1)
    return hvdsl.load(run, device="cpu")


def test_real_and_drawn_digits_stand_side_by_side(
    demo_pictures: ModuleType, trained: hvdsl.Trained, tmp_path: Path
) -> None:
    images = hvdsl.open_data(trained.spec).train
    demo_pictures.digits(trained, images, tmp_path / "digits.png", each=2)
    with Image.open(tmp_path / "digits.png") as page:
        pixels = np.asarray(page.convert("L"))
    assert pixels.shape[1] > 1000
    left, right = np.array_split(pixels, 2, axis=1)
    assert (left < 128).any() and (right < 128).any()


def test_counterfactuals_and_depths_are_drawn(
    demo_pictures: ModuleType, trained: hvdsl.Trained, tmp_path: Path
) -> None:
    images = hvdsl.open_data(trained.spec).test
    demo_pictures.counterfactuals(trained, images, tmp_path / "counterfactuals.png")
    demo_pictures.depths(trained, images, tmp_path / "depths.png")
    for name in ("counterfactuals", "depths"):
        with Image.open(tmp_path / f"{name}.png") as page:
            assert page.width > 600


def test_the_histogram_by_class_is_a_distribution(demo_pictures: ModuleType, trained: hvdsl.Trained) -> None:
    data = hvdsl.open_data(trained.spec)
    assert 2.0 < demo_pictures.histogram_by_class(data.train, data.test) < 2.2  # below the 4 bits of a level
