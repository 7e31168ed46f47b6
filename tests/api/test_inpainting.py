"""In-painting of continuous models: what the latents say that best explain the rest of an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvdsl
from hvdsl.grammar import print_text
from hvdsl.runtime.training.folder.weights import save_weights

from .conftest import Loaded

LEVEL = """hv 1
model level
data arrays { shape = 1x4x4, bits = 8, input = v / 127.5 - 1 }
encoder { 4: avg_pool(4)
          1: conv(1x1, 2) -> tap }
decoder {
  1: { z ~ normal(learned(zeros, 2)) posterior normal(skip)
       z }
  4: nearest(4) -> conv(1x1, logits)
}
likelihood discretized_logistic
objective { unit = nats_per_dim }
"""
HOLE = np.zeros((4, 4), bool)
HOLE[1:3, 1:3] = True


@pytest.fixture(scope="module")
def level(tmp_path_factory: pytest.TempPathFactory) -> hvdsl.Trained:
    """A model of images of one level each, which is its latent: x = z / 2."""
    compiled = hvdsl.compile(hvdsl.Source("level.hv", LEVEL))
    module = compiled.build(1)
    weights = dict(module.named_parameters())
    constants = {"conv.0.weight": 0.5, "conv.0.bias": 0.0, "log_scale": -3.0}
    with torch.no_grad():
        for ending, value in constants.items():
            [name] = [name for name in weights if name.endswith(ending) and not name.startswith("encoder")]
            weights[name].fill_(value)
    path = tmp_path_factory.mktemp("level") / "level.safetensors"
    save_weights(module, path, print_text(compiled.model.resolved), step=1)
    return hvdsl.load(path, device="cpu")


def test_a_hole_is_what_the_rest_says(level: hvdsl.Trained, tmp_path: Path) -> None:
    levels = torch.tensor([40, 128, 190], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 4, 4).clone()
    damaged = levels.clone()
    damaged[:, :, torch.from_numpy(HOLE)] = 255
    painted = level.reconstruct(damaged, mask=HOLE)
    assert painted.dtype == torch.uint8 and (painted.int() - levels.int()).abs().max() <= 6
    assert torch.equal(painted[:, :, torch.from_numpy(~HOLE)], levels[:, :, torch.from_numpy(~HOLE)])
    unchanged = level.reconstruct(damaged, mask=HOLE, steps=1)
    assert (unchanged.int() - levels.int()).abs().max() > 50
    Image.fromarray(HOLE.astype(np.uint8) * 255).convert("RGB").save(tmp_path / "hole.png")
    assert torch.equal(level.reconstruct(damaged, mask=tmp_path / "hole.png", batch=2), painted)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 4)), "paints nothing"),
        (np.ones((4, 4)), "paints everything"),
        (np.ones((5, 4)), "the mask is 5x4; the images are 4x4: resize it"),
        ("nowhere.png", "the mask nowhere.png cannot be read"),
    ],
)
def test_masks_that_do_not_serve_are_refused(level: hvdsl.Trained, mask: np.ndarray | str, message: str) -> None:
    with pytest.raises(hvdsl.Error, match=message):
        level.reconstruct(np.zeros((1, 4, 4), np.uint8), mask=mask)
    with pytest.raises(hvdsl.UsageError, match="leave out what says which are kept"):
        level.reconstruct(np.zeros((1, 4, 4), np.uint8), mask=mask, keep=1)


@pytest.mark.parametrize("name", ["families", "nvae", "flows"])
def test_latents_of_every_family_paint_in(name: str, loaded: Loaded) -> None:
    trained = loaded(name)
    data = trained.spec.model.settings.data
    images = torch.randint(0, 2**data.bits, (2, *data.shape), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    hole = torch.zeros(data.shape[1:], dtype=torch.bool)
    hole[2:5, 2:5] = True
    painted = trained.reconstruct(images, mask=hole.numpy(), steps=2)
    assert torch.equal(painted[:, :, ~hole], images[:, :, ~hole])
    assert not torch.equal(painted, images)


def test_codes_are_painted_in_by_priors(loaded: Loaded) -> None:
    with pytest.raises(hvdsl.Error, match=r"an error and no density|codes are painted in by `hvdsl sample`"):
        loaded("codes").reconstruct(np.zeros((1, 8, 8), np.uint8), mask=np.eye(8))
