"""The learning rate at a step."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Optimizer, Schedule, Train
from hvdsl.errors import HvdslError
from hvdsl.runtime.training.schedule import Clock, LearningRate

RECORDED = json.loads((Path(__file__).parent / "recorded" / "rates.json").read_text())


def rate(per_epoch: int = 10, base: float = 1.0, **settings: Any) -> LearningRate:
    train = Train(batch=4, optimizer=Optimizer(kind="adam", lr=base), **settings)
    return LearningRate(train, Clock.of(train, per_epoch))


def steps(n: float) -> Duration:
    return Duration(n=n)


def epochs(n: float) -> Duration:
    return Duration(unit="epochs", n=n)


def test_step_i_of_a_warm_up_of_n_has_rate_i_over_n() -> None:
    r = rate(steps=100, warmup=steps(4))
    assert [r(i) for i in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert rate(steps=10)(0) == 1.0


def test_warm_up_in_epochs_and_fractions() -> None:
    assert rate(epochs=10, warmup=epochs(2))(10) == 0.5
    assert rate(steps=50, warmup=Duration(unit="fraction", n=0.2))(5) == 0.5


def test_cosine_reproduces_the_recorded_rates() -> None:
    case = RECORDED["cosine_after_a_plateau"]
    schedule = Schedule(kind="cosine", floor=2e-4, after=steps(50_000), over=steps(750_000))
    r = rate(base=1e-3, steps=800_000, warmup=steps(100), schedule=schedule)
    assert [r(int(i)) for i in case["steps"]] == pytest.approx(case["rates"], abs=1e-9)


def test_cosine_falls_over_what_is_left_after_the_warm_up() -> None:
    r = rate(steps=110, warmup=steps(10), schedule=Schedule(kind="cosine", floor=0.2))
    assert r(10) == 1.0
    assert r(60) == pytest.approx(0.6)
    assert r(110) == r(500) == pytest.approx(0.2)


def test_cosine_per_epoch_is_constant_within_an_epoch_and_ends_at_the_floor() -> None:
    r = rate(per_epoch=7, epochs=12, warmup=epochs(5), schedule=Schedule(kind="cosine", floor=0.01, per="epoch"))
    by_epoch = [{r(i) for i in range(e * 7, e * 7 + 7)} for e in range(5, 12)]
    assert all(len(rates) == 1 for rates in by_epoch)
    expected = [0.01 + 0.99 * (1 + math.cos(math.pi * k / 6)) / 2 for k in range(7)]
    assert [rates.pop() for rates in by_epoch] == pytest.approx(expected)


def test_exponential_decays_per_step_down_to_its_floor() -> None:
    r = rate(steps=100, schedule=Schedule(kind="exponential", factor=0.5, floor=0.1))
    assert [r(i) for i in range(5)] == [1.0, 0.5, 0.25, 0.125, 0.1]


def test_one_cycle_rises_to_the_base_rate_and_falls_to_almost_nothing() -> None:
    r = rate(steps=100, schedule=Schedule(kind="one_cycle", warm=0.2))
    assert r(0) == pytest.approx(1 / 25)
    assert r(20) == pytest.approx(1.0)
    assert max(range(100), key=r) == 20
    assert r(99) < 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": Schedule(kind="cosine")},
        {"schedule": Schedule(kind="one_cycle")},
        {"warmup": Duration(unit="fraction", n=0.1)},
    ],
)
def test_what_needs_an_end_says_so_when_there_is_none(settings: dict[str, Any]) -> None:
    with pytest.raises(HvdslError, match=r"`?steps`? (or|nor) `epochs`"):
        rate(**settings)


NVAE = json.loads((Path(__file__).parents[2] / "golden" / "nvae_cells" / "tables.json").read_text())["lr_schedule"]


@pytest.mark.parametrize("row", NVAE)
def test_warm_up_and_cosine_per_epoch_are_the_recorded_ones_but_for_their_shortfall(row: dict[str, Any]) -> None:
    """The release never assigns the base rate after its warm-up, so that its cosine starts from the last rate of it."""
    recorded, warm = row["lr_used_at_each_iteration"], row["warmup_epochs"] * row["iters_per_epoch"]
    base, floor, per_epoch = row["base_lr"], row["min_lr"], row["iters_per_epoch"]
    schedule = Schedule(kind="cosine", floor=floor, per="epoch")
    ours = rate(per_epoch, base, epochs=row["epochs"], warmup=epochs(row["warmup_epochs"]), schedule=schedule)
    assert [ours(i) for i in range(warm)] == pytest.approx(recorded[:warm], rel=1e-12)
    short = base * (warm - 1) / warm
    for step in range(warm, len(recorded)):
        assert (ours(step) - floor) / (base - floor) == pytest.approx(
            (recorded[step] - floor) / (short - floor), abs=1e-9
        )
