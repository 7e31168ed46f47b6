"""Gradients before the update: clipping, and the rule by which an update is left out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.errors import HvdslError

STREAK_LIMIT = 50
WINDOW = 1000
WINDOW_SHARE = 0.2


class TrainingStalledError(HvdslError):
    """So many updates are skipped that training goes nowhere."""


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The global L2 norm of all gradients, before any clipping; a scalar."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def clip_gradients(parameters: list[nn.Parameter], norm: Tensor, limit: float | None, each: float | None) -> None:
    """Scale all gradients by `min(1, limit / (norm + 1e-6))`, then hold each element within `[-each, each]`."""
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    if each is not None:
        nn.utils.clip_grad_value_(parameters, each)


class SkipGuard:
    """Decides which updates are left out, counts them, and stops a run that has stalled.

    An update is left out when the loss or the gradient norm is not finite, or when the norm is not strictly below
    `limit` (VDVAE, Child 2021). A fixed limit can freeze training without a word, so 50 in a row, or more than a fifth
    of a full window of 1,000 steps, is an error.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.skipped = 0
        self.streak = 0
        self.longest_streak = 0
        self._window: deque[bool] = deque(maxlen=WINDOW)
        self._not_finite = 0  # within the streak
        self._last_norm = math.nan

    def allows(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether the update may be applied: a scalar where loss and norm are, which the host need not read."""
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        return finite if self.limit is None else finite & (norm < self.limit)

    def record(self, applied: bool, norm: float) -> None:
        """Count one step.

        Raises:
            TrainingStalledError: Too many were skipped; the message says what to change.
        """
        self._window.append(not applied)
        if applied:
            self.streak = self._not_finite = 0
            return
        self.skipped += 1
        self.streak += 1
        self.longest_streak = max(self.longest_streak, self.streak)
        self._not_finite += not math.isfinite(norm)
        self._last_norm = norm
        if self.streak >= STREAK_LIMIT:
            raise TrainingStalledError(f"the last {self.streak} updates were all skipped{self._advice()}")
        skipped = sum(self._window)
        if len(self._window) == WINDOW and skipped > WINDOW_SHARE * WINDOW:
            raise TrainingStalledError(f"{skipped} of the last {WINDOW} updates were skipped{self._advice()}")

    def state_dict(self) -> dict[str, Any]:
        """All that decides about later steps, as JSON."""
        return {
            "skipped": self.skipped,
            "streak": self.streak,
            "longest_streak": self.longest_streak,
            "not_finite": self._not_finite,
            "window": "".join("1" if skipped else "0" for skipped in self._window),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.skipped = int(state["skipped"])
        self.streak = int(state["streak"])
        self.longest_streak = int(state["longest_streak"])
        self._not_finite = int(state["not_finite"])
        self._window = deque((c == "1" for c in state["window"]), maxlen=WINDOW)

    def _advice(self) -> str:
        if self.limit is None or self._not_finite > self.streak / 2:
            return (
                ", since the loss or its gradient was NaN or infinite: lower `train.optimizer.lr`, "
                "lengthen `train.warmup`, set `train.clip`, or train in `fp32`; "
                "and look at the data for values that are not finite"
            )
        return (
            f", since the gradient norm (last {self._last_norm:.4g}) is not below `train.skip_above` ({self.limit:g}): "
            "raise `train.skip_above` (it is in the unit of the objective), "
            "lower `train.optimizer.lr` or lengthen `train.warmup`"
        )
