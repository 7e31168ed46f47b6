"""Adamax whose update can be left out on the device, in few operations for all parameters together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, overload

import torch
from torch import Tensor

_CACHED = 2**15  # elements, of each of a parameter, its gradient and two moments: 512 KiB in float32


class Adamax(torch.optim.Optimizer):
    """Adamax, with or without bias correction, whose update can be left out on the device.

    `m <- b1 m + (1 - b1) g`, `u <- max(b2 u, |g| + eps)`, `p <- p - lr m / (u (1 - b1^t))`: Kingma & Ba 2015, section
    7.1. IAF-VAE trains without the division by `1 - b1^t` (Kingma et al. 2016), which makes the first steps as small
    as the moments still are. Where `found_inf` is 1 nothing changes, as in torch's fused optimizers; torch's own
    Adamax knows no such thing.

    On a CPU parameters are updated in parts that stay in its cache. Elsewhere gradients are joined, so that masking
    them and scaling what is subtracted are one operation each for all parameters.

    Args:
        weight_decay: L2 weight, added to the gradient.
        bias_correction: Whether to divide.

    Attributes:
        found_inf: 1 where the next update is left out, 0 where it is made; a scalar on the parameters' device.
        joined: Whether gradients are joined; by default where the parameters are on no CPU.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.bias_correction = bias_correction
        self.found_inf: Tensor | None = None
        self.joined: bool = self.param_groups[0]["params"][0].device.type != "cpu"
        self._apart = False  # whether some parameter was left out of steps that others took part in

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        super().load_state_dict(state_dict)
        counts = [state["step"].double() for state in self.state.values() if "step" in state]
        self._apart = bool(counts) and bool((torch.stack(counts) != counts[0]).any())

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update from the gradients as they stand, which it uses up."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: Mapping[str, Any]) -> None:
        self._begin(parameters, group)
        applied = applied_of(self.found_inf, parameters[0].device)
        rates = self._rates(parameters, applied, group)
        zero = torch.zeros((), dtype=parameters[0].dtype, device=parameters[0].device)
        if self.joined and not self._apart:
            gradients, together = _joined([p.grad for p in parameters if p.grad is not None])
            if group["weight_decay"] != 0:
                torch._foreach_add_(gradients, parameters, alpha=group["weight_decay"])
            torch.where(applied, together, zero, out=together)
            m, u = self._moments(parameters, gradients, applied, group)
            torch._foreach_copy_(gradients, m)
            torch._foreach_div_(gradients, u)
            together.mul_(rates[0])
            torch._foreach_sub_(parameters, gradients)
            return
        for chunk in _chunks(parameters):
            ps = parameters[chunk]
            g = [p.grad for p in ps if p.grad is not None]
            if group["weight_decay"] != 0:
                torch._foreach_add_(g, ps, alpha=group["weight_decay"])
            for gradient in g:
                torch.where(applied, gradient, zero, out=gradient)
            m, u = self._moments(ps, g, applied, group)
            torch._foreach_addcmul_(ps, torch._foreach_div(m, u), rates[chunk], value=-1)

    def _moments(
        self, parameters: list[Tensor], g: list[Tensor], applied: Tensor, group: Mapping[str, Any]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Move the moments by gradients, which are 0 where the update is left out and are used up; m and u."""
        m, u = ([self.state[p][key] for p in parameters] for key in ("exp_avg", "exp_inf"))
        b1, b2 = group["betas"]
        one = torch.ones((), dtype=g[0].dtype, device=g[0].device)
        torch._foreach_mul_(m, torch.where(applied, b1 * one, one))
        torch._foreach_add_(m, g, alpha=1 - b1)
        torch._foreach_mul_(u, torch.where(applied, b2 * one, one))
        torch._foreach_abs_(g)
        torch._foreach_add_(g, group["eps"])
        torch._foreach_maximum_(u, g)  # of a masked step u or eps, which u is never below
        return m, u

    def _begin(self, parameters: list[Tensor], group: Mapping[str, Any]) -> None:
        new = [p for p in parameters if not self.state[p]]
        known = sum(bool(self.state.get(p)) for p in group["params"])
        self._apart = self._apart or (known not in (0, len(parameters)) if new else known != len(parameters))
        for p in new:
            state = self.state[p]
            if self.bias_correction:
                state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_inf"] = torch.full_like(p, group["eps"])  # never below it

    def _rates(self, parameters: list[Tensor], applied: Tensor, group: Mapping[str, Any]) -> list[Tensor]:
        """What each parameter's m / u is multiplied with, 0 where the update is left out; counts the step."""
        first = parameters[0]
        rate = torch.as_tensor(group["lr"], dtype=torch.float64, device=first.device)
        rate = torch.where(applied, rate, torch.zeros_like(rate))
        if not self.bias_correction:
            return [rate.to(first.dtype)] * len(parameters)
        counts = [self.state[p]["step"] for p in parameters]
        torch._foreach_add_(counts, [applied.float()] * len(counts))
        count = torch.stack(counts).double().clamp_min(1)  # 0 only where nothing was ever applied, and the rate is 0
        return list((rate / (1 - group["betas"][0] ** count)).to(first.dtype).unbind())


def applied_of(found_inf: Tensor | None, device: torch.device) -> Tensor:
    """Whether an update is made, from what says that it is left out; yes where nothing says so."""
    return torch.ones((), dtype=torch.bool, device=device) if found_inf is None else found_inf == 0


def _joined(tensors: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Copies of dense tensors as views of one vector that holds all their numbers, with that vector."""
    together = torch.cat([t.as_strided((t.numel(),), (1,)) for t in tensors])
    views, start = [], 0
    for t in tensors:
        views.append(together.as_strided(t.shape, t.stride(), start))
        start += t.numel()
    return views, together


def _chunks(parameters: list[Tensor]) -> Iterator[slice]:
    """Parameters that are updated together: on accelerators all, on a CPU so many as stay in its cache meanwhile."""
    if parameters[0].device.type != "cpu":
        yield slice(0, len(parameters))
        return
    start, elements = 0, 0
    for end, p in enumerate(parameters, 1):
        elements += p.numel()
        if elements >= _CACHED or end == len(parameters):
            yield slice(start, end)
            start, elements = end, 0
