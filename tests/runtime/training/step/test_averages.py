"""The moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hvdsl.runtime.training.step.averages import Ema


def model(value: float) -> nn.Module:
    made = nn.BatchNorm1d(1)
    nn.init.constant_(made.weight, value)
    return made


def test_each_update_moves_by_one_minus_the_rate() -> None:
    m = model(1.0)
    ema = Ema(m, 0.9)
    nn.init.constant_(m.weight, 2.0)
    ema.update(torch.tensor(True))
    ema.update(torch.tensor(True))
    assert ema.averages["weight"].item() == pytest.approx(2.0 - 0.9**2)


def test_a_step_that_was_left_out_moves_nothing() -> None:
    m = model(1.0)
    ema = Ema(m, 0.9)
    nn.init.constant_(m.weight, 2.0)
    ema.update(torch.tensor(False))
    assert ema.averages["weight"].item() == 1.0


def test_the_rate_is_a_float32() -> None:
    m = model(0.0)
    ema = Ema(m.double(), 0.9999)
    nn.init.constant_(m.weight, 1.0)
    ema.update(torch.tensor(True))
    assert ema.averages["weight"].item() == 1 - torch.tensor(0.9999).item()


def test_buffers_are_copied_not_averaged() -> None:
    m = model(1.0)
    ema = Ema(m, 0.9)
    m.get_buffer("running_mean").fill_(5.0)
    ema.update(torch.tensor(True))
    assert ema.buffers["running_mean"].item() == 5.0


def test_the_averages_are_in_force_only_inside_the_block() -> None:
    m = model(1.0)
    ema = Ema(m, 0.5)
    nn.init.constant_(m.weight, 2.0)
    weight = m.weight
    with ema.applied():
        assert m.weight.item() == 1.0
        assert m.weight is weight  # the optimizer's parameter, so nothing has to be rebuilt
    assert m.weight.item() == 2.0
    assert ema.averages["weight"].item() == 1.0


def test_an_error_inside_gives_the_weights_back() -> None:
    m = model(1.0)
    ema = Ema(m, 0.5)
    nn.init.constant_(m.weight, 2.0)
    with pytest.raises(KeyError), ema.applied():
        raise KeyError
    assert m.weight.item() == 2.0
