"""Gradients before the update: clipping, the rule by which an update is left out, and what to say where all are."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Quantile
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.tensors import in_layout_of

STREAK_LIMIT = 50
DOUBTFUL = 3
"""Skipped updates in a row after which nothing is saved any more, since the weights may be what is wrong."""
WINDOW = 1000
WINDOW_SHARE = 0.2


class TrainingStalledError(HvdslError):
    """So many updates are skipped that training goes nowhere."""


def add_gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Add the gradients of `loss`, where it has any, to those that are there: all with one operation."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    held, more = [], []
    for p, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            held.append(p.grad)
            more.append(in_layout_of(gradient, p.grad))
    torch._foreach_add_(held, more)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The global L2 norm of all gradients, before any clipping; a scalar."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def clip_gradients(parameters: list[nn.Parameter], norm: Tensor, limit: float | None, each: float | None) -> None:
    """Scale all gradients by `min(1, limit / (norm + 1e-6))`, then hold each element within `[-each, each]`."""
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    if each is not None:
        nn.utils.clip_grad_value_(parameters, each)


class RecentNorms:
    """A threshold for gradient norms: a multiple of a quantile of those of recent steps, skipped ones among them.

    It is computed on the device, without being read. In the first steps, up to a tenth of those that count, nothing is
    above it.
    """

    def __init__(self, rule: Quantile) -> None:
        self._rule = rule
        self._norms = torch.full((rule.over,), math.nan)

    def __call__(self, norm: Tensor) -> Tensor:
        """The threshold before this norm, which counts from the next one on."""
        self._norms = self._norms.to(norm.device)
        bound, seen = self.bound(), norm.detach().float()
        self._norms = torch.cat([self._norms[1:], torch.where(seen.isfinite(), seen, math.nan).reshape(1)])
        return bound

    def bound(self) -> Tensor:
        """The threshold of the next norm."""
        enough = self._norms.isfinite().sum() >= max(20, self._rule.over // 10)
        return torch.where(enough, self._rule.times * torch.nanquantile(self._norms, self._rule.q), math.inf)

    def state(self) -> list[float | None]:
        """The norms as JSON."""
        return [norm if math.isfinite(norm) else None for norm in self._norms.tolist()]

    def load(self, norms: Sequence[float | None]) -> None:
        """Continue from `state()`. Raises ValueError or TypeError where it is not one."""
        values = [math.nan if norm is None else float(norm) for norm in norms][-self._rule.over :]
        self._norms = torch.tensor([math.nan] * (self._rule.over - len(values)) + values)


class SkipGuard:
    """Decides which updates are left out, counts them, and stops a run that has stalled.

    An update is left out when the loss or the gradient norm is not finite, or when the norm is not strictly below
    `limit` (VDVAE, Child 2021): a number, or a multiple of a quantile of recent norms, which follows where training
    goes. A fixed limit can freeze training without a word, so 50 in a row, or more than a fifth of a full window of
    1,000 steps, is an error.
    """

    def __init__(self, limit: float | Quantile | None = None) -> None:
        self.limit = limit
        self._recent = RecentNorms(limit) if isinstance(limit, Quantile) else None
        self.skipped = 0
        self.streak = 0
        self.longest_streak = 0
        self._window: deque[bool] = deque(maxlen=WINDOW)
        self._not_finite = 0  # within the streak
        self._last_norm = math.nan
        self._last_loss = math.nan

    @property
    def threshold(self) -> float | None:
        """The limit of the next norm, read from the device where it follows recent norms; None where there is none."""
        if self._recent is not None:
            return float(self._recent.bound())
        return self.limit if isinstance(self.limit, float | int) else None

    @property
    def doubtful(self) -> bool:
        """Whether the weights may be broken: the loss is not finite, or updates were skipped again and again."""
        return self.streak >= DOUBTFUL or self.broken

    @property
    def broken(self) -> bool:
        """Whether the weights give no finite loss."""
        return self.streak > 0 and not math.isfinite(self._last_loss)

    @property
    def lost_numbers(self) -> bool:
        """Whether most of the streak was skipped for what is not finite."""
        return self.streak > 0 and self._not_finite > self.streak / 2

    def allows(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether the update may be applied: a scalar where loss and norm are, which the host need not read."""
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        if self._recent is not None:
            return finite & (norm < self._recent(norm))
        return finite & (norm < self.limit) if isinstance(self.limit, float | int) else finite

    def record(self, applied: bool, norm: float, loss: float = 0.0) -> None:
        """Count one step; `loss` and `norm` as it had them.

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
        self._last_norm, self._last_loss = norm, loss
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
        } | ({} if self._recent is None else {"norms": self._recent.state()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.skipped = int(state["skipped"])
        self.streak = int(state["streak"])
        self.longest_streak = int(state["longest_streak"])
        self._not_finite = int(state["not_finite"])
        self._window = deque((c == "1" for c in state["window"]), maxlen=WINDOW)
        if self._recent is not None and "norms" in state:
            self._recent.load(state["norms"])

    @property
    def _limit(self) -> str:
        if isinstance(self.limit, Quantile):
            return f"{self.limit.times:g} times the {self.limit.q:g} quantile of {self.limit.over} norms"
        return f"{self.limit:g}"

    def _advice(self) -> str:
        if self.limit is None or self.lost_numbers:
            return (
                ", since the loss or its gradient was NaN or infinite: lower `train.optimizer.lr`, "
                "lengthen `train.warmup`, set `train.clip`, or train in `fp32`; "
                "and look at the data for values that are not finite"
            )
        return (
            f", since the gradient norm (last {self._last_norm:.4g}) is not below `train.skip_above` ({self._limit}): "
            "raise `train.skip_above` (it is in the unit of the objective), "
            "lower `train.optimizer.lr` or lengthen `train.warmup`"
        )


MOST = 2000
"""Tensors that a report lists at most, in the order in which they were computed."""


@dataclass(frozen=True, slots=True)
class TensorReport:
    """What a tensor holds: the largest magnitude among its finite values, and how many are not finite."""

    name: str
    shape: tuple[int, ...]
    largest: float
    not_finite: int

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> TensorReport:
        values = tensor.detach().float()
        finite = values.isfinite()
        kept = torch.where(finite, values, torch.zeros_like(values)).abs()
        return cls(name, tuple(tensor.shape), float(kept.max()) if kept.numel() else 0.0, int((~finite).sum()))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A forward and backward pass on the batch that the last step was skipped for.

    Attributes:
        first: What is not finite and was computed before all others that are not; None where all is.
        images: Names of the batch's images.
    """

    first: str | None
    loss: float
    outputs: Sequence[TensorReport]
    parameters: Sequence[TensorReport]
    gradients: Sequence[TensorReport]
    images: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def diagnose_stall(model: nn.Module, loss: Callable[[], Tensor], images: Sequence[str]) -> Diagnosis:
    """Compute a loss again and look at every tensor on the way.

    Args:
        loss: The objective of the batch; it goes through `model`.
    """
    parameters = [TensorReport.of(name, p) for name, p in model.named_parameters()]
    outputs: list[TensorReport] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for i, tensor in enumerate(_tensors(output)):
                if len(outputs) < MOST:
                    outputs.append(TensorReport.of(f"{name}[{i}]" if i else name, tensor))

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        value = loss()
        torch.autograd.backward(value)
        gradients = [TensorReport.of(n, p.grad) for n, p in model.named_parameters() if p.grad is not None]
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
    first = next((f"the parameter `{t.name}`" for t in parameters if t.not_finite), None)
    number = float(value.detach())
    first = first or next((f"the output of `{t.name}`" for t in outputs if t.not_finite), None)
    if first is None and not math.isfinite(number):
        first = "the loss, of finite outputs: a likelihood or a rate"
    first = first or next((f"the gradient of `{t.name}`" for t in reversed(gradients) if t.not_finite), None)
    return Diagnosis(first, number, outputs, parameters, gradients, images)


def at_initialisation(loss: float, groups: Sequence[str], rates: Sequence[float]) -> str:
    """What to say where not even the first update could be made, and which group does it.

    Args:
        loss: Of the first step.
        groups: Names of the latent groups.
        rates: Nats per image of each in the first step; none where they are not known.
    """
    if rates and len(rates) == len(groups):
        worst = max(range(len(rates)), key=lambda i: rates[i] if math.isfinite(rates[i]) else math.inf)
        culprit = (
            f", and group {groups[worst]} has the largest rate ({rates[worst]:.3g} nats per image): initialise what "
            "gives its posterior and prior smaller"
        )
    else:
        culprit = ": initialise the last layers of what is added to a stream smaller"
    return (
        f"training diverges at initialisation: no update was ever made, the first loss is {loss:.4g}"
        f"{culprit}, with `init = scaled(0.1)` or `init = zeros` in its last convolution"
    )


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from _tensors(item)
    elif isinstance(output, list | tuple):
        for item in output:
            yield from _tensors(item)
