"""The learning rate as a pure function of the step, so that nothing about it has to be saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Train
from hvdsl.errors import HvdslError

# The one-cycle policy (Smith & Topin 2018) starts at a 25th of the peak and ends at a 10,000th of that start.
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1e-4 / 25
ONE_CYCLE_WARM = 0.3


@dataclass(frozen=True, slots=True)
class Clock:
    """What turns durations into steps.

    Attributes:
        per_epoch: Steps in one epoch.
        total: Steps in the whole run; None trains until stopped.
    """

    per_epoch: int
    total: int | None

    @classmethod
    def of(cls, train: Train, per_epoch: int) -> Clock:
        """The clock of a run; `steps` wins over `epochs` where a spec gives both."""
        if train.steps is not None:
            return cls(per_epoch, train.steps)
        return cls(per_epoch, None if train.epochs is None else train.epochs * per_epoch)

    def steps(self, duration: Duration) -> int:
        """The duration as a whole number of steps.

        Raises:
            HvdslError: It is a fraction of a run that has no end.
        """
        if duration.unit == "steps":
            return round(duration.n)
        if duration.unit == "epochs":
            return round(duration.n * self.per_epoch)
        if self.total is None:
            raise HvdslError(
                f"`fraction({duration.n:g})` needs a run with an end, "
                "but `train` gives neither `steps` nor `epochs`: add one of them"
            )
        return round(duration.n * self.total)

    def every(self, duration: Duration | None) -> int | None:
        """An interval in steps, at least 1; None where the duration is absent or zero."""
        if duration is None or duration.n == 0:
            return None
        return max(1, self.steps(duration))


class LearningRate:
    """`rate(step)` for step = 0, 1, …: the warm-up, then the schedule.

    During a warm-up of n steps, step i has the base rate times i / n (so the first update has rate 0); from step n on
    the schedule rules. Cosine falls from the base rate to `floor` over `over` steps after `after`:
    `floor + (base - floor) (1 + cos(pi t)) / 2`. With `per = epoch` it changes at the start of an epoch only and
    reaches the floor in the last one.
    """

    def __init__(self, train: Train, clock: Clock) -> None:
        self._schedule = train.schedule
        self._base = train.optimizer.lr
        self._clock = clock
        self._warmup = clock.steps(train.warmup)
        self._start = self._warmup if train.schedule.after is None else clock.steps(train.schedule.after)
        if train.schedule.kind in ("cosine", "one_cycle"):
            self._length = self._length_of_fall()

    def __call__(self, step: int) -> float:
        if step < self._warmup:
            return self._base * step / self._warmup
        if self._schedule.kind == "constant" or step < self._start:
            return self._base
        if self._schedule.kind == "exponential":
            factor = 1.0 if self._schedule.factor is None else self._schedule.factor
            return max(self._schedule.floor, self._base * factor ** (step - self._start))
        if self._schedule.kind == "cosine":
            return _cosine(self._base, self._schedule.floor, self._fallen(step))
        return self._one_cycle(step)

    def _length_of_fall(self) -> int:
        if self._schedule.over is not None:
            return max(1, self._clock.steps(self._schedule.over))
        if self._clock.total is None:
            raise HvdslError(
                f"the `{self._schedule.kind}` schedule needs an end: "
                "give `train` `steps` or `epochs`, or the schedule `over`"
            )
        length = self._clock.total - self._start
        if self._schedule.per == "epoch":
            length -= self._clock.per_epoch  # the floor belongs to the last epoch, not to the one after it
        return max(1, length)

    def _fallen(self, step: int) -> float:
        """How much of the fall lies behind, 0 to 1."""
        if self._schedule.per == "epoch":
            step = step // self._clock.per_epoch * self._clock.per_epoch
        return min(1.0, max(0, step - self._start) / self._length)

    def _one_cycle(self, step: int) -> float:
        warm = ONE_CYCLE_WARM if self._schedule.warm is None else self._schedule.warm
        done = self._fallen(step)
        if done < warm:
            return self._base * (ONE_CYCLE_START + (1 - ONE_CYCLE_START) * done / warm)
        end = max(self._schedule.floor, self._base * ONE_CYCLE_END)
        return _cosine(self._base, end, (done - warm) / (1 - warm) if warm < 1 else 1.0)


def _cosine(high: float, low: float, t: float) -> float:
    """Half a cosine from `high` at t = 0 to `low` at t = 1."""
    return low + (high - low) * (1 + math.cos(math.pi * t)) / 2
