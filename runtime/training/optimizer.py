"""Optimizers from their settings: torch's own wherever torch has the update that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import L2
from hvdsl.compiler.settings import Optimizer as OptimizerSettings
from hvdsl.errors import HvdslError


class PlainAdamax(torch.optim.Optimizer):
    """Adamax without bias correction, as IAF-VAE trains (Kingma et al. 2016).

    `m <- b1 m + (1 - b1) g`, `u <- max(b2 u, |g| + eps)`, `p <- p - lr m / u`: the update of Kingma & Ba 2015
    (section 7.1) without the division by `1 - b1^t`, which makes the first steps as small as the moments still are.

    Args:
        weight_decay: L2 weight, added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update from the gradients as they stand."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)
        return loss

    def _update(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_inf"] = torch.zeros_like(p)
        b1, b2 = group["betas"]
        if group["weight_decay"] != 0:
            gradient = gradient.add(p, alpha=group["weight_decay"])
        state["exp_avg"].lerp_(gradient, 1 - b1)
        torch.maximum(state["exp_inf"].mul_(b2), gradient.abs().add_(group["eps"]), out=state["exp_inf"])
        p.addcdiv_(state["exp_avg"], state["exp_inf"], value=-group["lr"])


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer for every parameter of `model`.

    `weight_decay` as a plain number is decoupled, whatever the optimizer (Loshchilov & Hutter 2019: each weight shrinks
    by `lr * decay` before the update); `l2(w)` is added to the gradient. With `decay_only = weights` only parameters
    named `weight` of two or more dimensions decay.

    Raises:
        HvdslError: Bias correction is switched off for anything but Adamax.
    """
    decay, decoupled = _decay(settings)
    if not settings.bias_correction and settings.kind != "adamax":
        raise HvdslError(
            f"`{settings.kind}` has no form without bias correction: "
            "use `adamax(bias_correction = no)` or remove `bias_correction`"
        )
    groups = _groups(model, decay, settings.decay_only == "weights")
    lr, betas, eps = settings.lr, settings.betas, settings.eps
    if settings.kind in ("adam", "adamw"):
        if decoupled:
            return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)
        return torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps)
    shrink = [(group["params"], group["weight_decay"]) for group in groups] if decoupled else []
    if decoupled:
        for group in groups:
            group["weight_decay"] = 0.0
    optimizer: torch.optim.Optimizer
    if settings.kind == "sgd":
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=settings.momentum)
    elif settings.bias_correction:
        optimizer = torch.optim.Adamax(groups, lr=lr, betas=betas, eps=eps)
    else:
        optimizer = PlainAdamax(groups, lr=lr, betas=betas, eps=eps)
    if decay and decoupled:
        _decouple(optimizer, shrink)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next update, for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _decay(settings: OptimizerSettings) -> tuple[float, bool]:
    """The weight of the decay, and whether it is decoupled."""
    if isinstance(settings.weight_decay, L2):
        return settings.weight_decay.weight, False
    return settings.weight_decay, True


def _groups(model: nn.Module, decay: float, only_weights: bool) -> list[dict[str, Any]]:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not only_weights:
        return [{"params": [p for _, p in named], "weight_decay": decay}]
    decays = {name for name, p in named if name.rpartition(".")[2] == "weight" and p.dim() > 1}
    groups = [
        {"params": [p for name, p in named if name in decays], "weight_decay": decay},
        {"params": [p for name, p in named if name not in decays], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _decouple(optimizer: torch.optim.Optimizer, shrink: list[tuple[list[Tensor], float]]) -> None:
    """Shrink weights before each update of an optimizer that has no decoupled decay of its own."""

    @torch.no_grad()
    def before(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rate = optimizer.param_groups[0]["lr"]
        for parameters, decay in shrink:
            for p in parameters:
                if p.grad is not None:
                    p.mul_(1 - rate * decay)

    optimizer.register_step_pre_hook(before)
