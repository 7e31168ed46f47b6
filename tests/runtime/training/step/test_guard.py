"""Clipping and skipping."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hvdsl.runtime.training.step.guard import SkipGuard, TrainingStalledError, clip_gradients, gradient_norm


def parameters(*gradients: list[float]) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        p = nn.Parameter(torch.zeros(len(gradient)))
        p.grad = torch.tensor(gradient)
        made.append(p)
    return made


def test_the_norm_is_that_of_all_gradients_together() -> None:
    assert gradient_norm(parameters([3.0], [0.0, 4.0])).item() == 5.0


def test_clipping_scales_by_the_limit_over_the_norm_plus_a_millionth() -> None:
    ps = parameters([3.0], [4.0])
    clip_gradients(ps, gradient_norm(ps), limit=1.0, each=None)
    assert ps[1].grad is not None
    assert ps[1].grad.item() == pytest.approx(4.0 / (5.0 + 1e-6), rel=1e-7)


def test_clipping_leaves_small_gradients_alone() -> None:
    ps = parameters([3.0], [4.0])
    clip_gradients(ps, gradient_norm(ps), limit=6.0, each=None)
    assert [p.grad.item() for p in ps if p.grad is not None] == [3.0, 4.0]


def test_clip_each_comes_after_the_norm() -> None:
    ps = parameters([3.0], [4.0])
    clip_gradients(ps, gradient_norm(ps), limit=2.5, each=1.8)
    assert [p.grad.item() for p in ps if p.grad is not None] == pytest.approx([1.5, 1.8], abs=1e-6)


def test_the_limit_is_strict() -> None:
    guard = SkipGuard(limit=400.0)
    assert guard.allows(torch.tensor(1.0), torch.tensor(399.99))
    assert not guard.allows(torch.tensor(1.0), torch.tensor(400.0))
    assert not guard.allows(torch.tensor(1.0), torch.tensor(600.0))


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_not_finite_is_skipped_without_a_limit_too(loss: float, norm: float) -> None:
    assert not SkipGuard().allows(torch.tensor(loss), torch.tensor(norm))
    assert not SkipGuard(limit=10.0).allows(torch.tensor(loss), torch.tensor(norm))


def test_fifty_in_a_row_stop_the_run_and_name_the_setting() -> None:
    guard = SkipGuard(limit=10.0)
    for _ in range(49):
        guard.record(False, 20.0)
    guard.record(True, 5.0)
    assert (guard.skipped, guard.streak, guard.longest_streak) == (49, 0, 49)
    for _ in range(49):
        guard.record(False, 20.0)
    with pytest.raises(TrainingStalledError, match=r"last 50 updates .* 20\) is not below `train.skip_above` \(10\)"):
        guard.record(False, 20.0)


def test_a_run_of_nan_is_told_to_lower_the_rate() -> None:
    guard = SkipGuard(limit=10.0)
    with pytest.raises(TrainingStalledError, match=r"NaN or infinite: lower `train.optimizer.lr`"):
        for _ in range(50):
            guard.record(False, math.nan)


def test_more_than_a_fifth_of_a_full_window_stops_the_run() -> None:
    guard = SkipGuard(limit=10.0)
    for i in range(1000):
        guard.record(i % 5 != 0, 20.0)  # exactly a fifth
    assert guard.skipped == 200
    with pytest.raises(TrainingStalledError, match="of the last 1000 updates"):
        for _ in range(2):
            guard.record(False, 20.0)


def test_a_window_that_is_not_full_stops_nothing() -> None:
    guard = SkipGuard(limit=10.0)
    for i in range(999):
        guard.record(i % 2 == 0, 20.0)
    assert guard.skipped == 499


def test_the_state_carries_streak_and_window_over_a_resume() -> None:
    first, second = SkipGuard(limit=10.0), SkipGuard(limit=10.0)
    for _ in range(49):
        first.record(False, 20.0)
    second.load_state_dict(first.state_dict())
    with pytest.raises(TrainingStalledError):
        second.record(False, 20.0)
