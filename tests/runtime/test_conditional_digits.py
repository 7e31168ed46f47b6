"""A class-conditional hierarchy draws the digit that it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hvdsl


@pytest.mark.slow
def test_drawn_digits_are_nearest_to_the_mean_of_their_class(tmp_path: Path) -> None:
    run = hvdsl.train("vdvae_digits_conditional", steps=300, out=tmp_path / "run", device="cpu", threads=1).run
    images = hvdsl.open_data("vdvae_digits_conditional").train
    pixels, given = images.conditioned(range(len(images)), ["label"])
    means = np.stack([pixels[given["label"] == c].mean(0) for c in range(10)]).reshape(10, -1)
    label = torch.arange(10).repeat_interleave(30)
    drawn = hvdsl.load(run, device="cpu").sample(300, given={"label": label}, mean=True).numpy().reshape(300, 1, -1)
    nearest = ((drawn - means) ** 2).sum(2).argmin(1)
    share = (nearest == label.numpy()).mean()
    assert share > 0.8, share
