"""Batch-norm statistics measured again on prior samples."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.distributions import Normal
from hvdsl.runtime.inference.recalibrate import recalibrate_batch_norm
from hvdsl.runtime.latents import LatentGroup
from hvdsl.runtime.layers import BatchNorm2d, Conv2d, Dropout, initialize
from hvdsl.runtime.likelihoods import Bernoulli


class Vae(nn.Module):
    """An encoder and a decoder with a batch norm and dropout each."""

    LATENTS = (LatentGroup("z", "decoder.z", "normal", (2, 4, 4)),)

    def __init__(self, norm: Any = True) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Conv2d(1, 4, (3, 3)), *([BatchNorm2d(4)] if norm else []))
        self.before = Conv2d(2, 1, (1, 1))
        self.norm = BatchNorm2d(2, momentum=0.2) if norm else nn.Identity()
        self.dropout = Dropout(0.5)
        self.likelihood = Bernoulli()
        initialize(self, 0)

    def input(self, v: Any) -> Any:
        return v

    target = input

    def forward(self, x: Any, latents: Any) -> Any:
        posterior = Normal(self.encoder(x)) if latents.inferred else None
        z = latents[0].draw(Normal.standard((latents.batch, 2, 4, 4)), posterior)
        self.mode = self.dropout.training
        return self.before(F.silu(self.dropout(self.norm(z))))


def test_only_what_generation_runs_changes_and_towards_the_prior_at_its_temperature() -> None:
    model = Vae()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recalibrate_batch_norm(model, 40, temperature=0.5)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"norm.running_mean", "norm.running_var"}
    torch.testing.assert_close(model.norm.running_var, torch.full((2,), 0.25), rtol=0.1, atol=0)
    assert model.mode is False  # dropout stayed out of it


def test_modes_are_as_before_and_equal_seeds_give_equal_statistics() -> None:
    first, second = Vae(), Vae().eval()
    recalibrate_batch_norm(first, 3, seed=5)
    recalibrate_batch_norm(second, 3, seed=5)
    assert torch.equal(first.norm.running_var, second.norm.running_var)
    assert all(module.training for module in first.modules())
    assert not any(module.training for module in second.modules())


def test_a_model_without_batch_norm_is_refused() -> None:
    with pytest.raises(HvdslError, match="no batch norm to recalibrate"):
        recalibrate_batch_norm(Vae(norm=False), 1)
