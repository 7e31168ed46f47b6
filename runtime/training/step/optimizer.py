"""Optimizers from their settings: torch's own wherever torch has the update that is asked for.

Their moments are stored like weights: `exp_avg/decoder.r4.…`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.compiler.parameter_groups import grouped
from hvdsl.compiler.settings import L2, ParameterGroup
from hvdsl.compiler.settings import Optimizer as OptimizerSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.tensors import in_layout_of
from hvdsl.runtime.training.folder.checkpoint import CheckpointError
from hvdsl.runtime.training.step.adamax import Adamax, applied_of

Groups = Mapping[str, ParameterGroup]
"""By pattern of parameter names, the first that matches: how these are trained."""


def freeze(model: nn.Module, groups: Groups) -> None:
    """Let the parameters that are to be frozen take no gradient.

    Raises:
        HvdslError: a pattern is for no parameter.
    """
    named = dict(model.named_parameters())
    for pattern, names in grouped(named, groups).items():
        if not names:
            raise HvdslError(f"`train.groups`: the pattern `{pattern}` is for no parameter of the model")
        if groups[pattern].kind == "frozen":
            for name in names:
                named[name].requires_grad_(False)


def group_lines(model: nn.Module, groups: Groups) -> list[str]:
    """Say of each group how many parameters it has, and how they are trained."""
    named = dict(model.named_parameters())
    lines = []
    for pattern, names in grouped(named, groups).items():
        own = groups[pattern]
        values = {"rate": own.lr, "weight decay": own.weight_decay}
        how = [own.kind, *(f"{what} {value:g}" for what, value in values.items() if value is not None)]
        count = sum(named[name].numel() for name in names)
        lines.append(f"{pattern}: {', '.join(how)} ({count:,} parameters)")
    return lines


def build_optimizer(
    model: nn.Module, settings: OptimizerSettings, groups: Groups | None = None
) -> torch.optim.Optimizer:
    """The optimizer for every parameter of `model` that takes gradients.

    Where a group of parameters has a rate of its own, the schedule's rate is scaled to it in every step.

    `weight_decay` as a number is decoupled (Loshchilov & Hutter 2019: each weight shrinks by `lr * decay` before the
    update); `adam` takes none, since with it it is `adamw`. `l2(w)` is added to the gradient. With `decay_only =
    weights` only parameters named `weight` of two or more dimensions decay.

    Raises:
        HvdslError: Bias correction is switched off for anything but Adamax.
    """
    decay, decoupled = _decay(settings)
    if not settings.bias_correction and settings.kind != "adamax":
        raise HvdslError(
            f"`{settings.kind}` has no form without bias correction: "
            "use `adamax(bias_correction = no)` or remove `bias_correction`"
        )
    parts = _groups(model, settings, decay, groups or {})
    lr, betas, eps = settings.lr, settings.betas, settings.eps
    first: Tensor = parts[0]["params"][0]
    optimizer: torch.optim.Optimizer
    if settings.kind in ("adam", "adamw"):
        kind = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
        optimizer = kind(parts, lr=lr, betas=betas, eps=eps, fused=True, capturable=first.device.type == "cuda")
        return _with_rate_on_device(optimizer, first)
    shrink = [group["weight_decay"] for group in parts] if decoupled else []
    if decoupled:
        for group in parts:
            group["weight_decay"] = 0.0
    if settings.kind == "sgd":
        optimizer = torch.optim.SGD(parts, lr=lr, momentum=settings.momentum, fused=True)
        if settings.momentum:
            for p in (p for group in parts for p in group["params"]):
                # torch begins with a buffer of arbitrary numbers and relies on the first update being made.
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    else:
        optimizer = Adamax(parts, lr=lr, betas=betas, eps=eps, bias_correction=settings.bias_correction)
    if any(shrink):
        _decouple(optimizer, shrink)
    return _with_rate_on_device(optimizer, first)


def _with_rate_on_device(optimizer: torch.optim.Optimizer, first: Tensor) -> torch.optim.Optimizer:
    """Make the learning rate a number on the parameters' device, where a change of it waits for nothing."""
    # As exact as a number of Python's on the CPU; kernels elsewhere take float32.
    dtype = torch.float64 if first.device.type == "cpu" else torch.float32
    for group in optimizer.param_groups:
        group["lr"] = torch.full((), group["lr"], dtype=dtype, device=first.device)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next update, for all parameters: a number on their device, filled without waiting for it.

    A group with a rate of its own has it in proportion.
    """
    for group in optimizer.param_groups:
        group["lr"].fill_(rate * group["share"])


def update(optimizer: torch.optim.Optimizer, applied: Tensor) -> None:
    """Make the update, or leave parameters and moments as they are where `applied`, a scalar on their device, is no."""
    _align_gradients(optimizer)
    optimizer.found_inf = applied.logical_not().float()  # type: ignore[attr-defined]  # what fused optimizers read
    optimizer.step()


def _align_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Give gradients the strides of their parameters: fused kernels compare them, or read blindly."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.grad = in_layout_of(p.grad.detach(), p)


def _decay(settings: OptimizerSettings) -> tuple[float, bool]:
    """The weight of the decay, and whether it is decoupled."""
    if isinstance(settings.weight_decay, L2):
        return settings.weight_decay.weight, False
    return settings.weight_decay, True


def _groups(model: nn.Module, settings: OptimizerSettings, decay: float, groups: Groups) -> list[dict[str, Any]]:
    """Parameters of one rate and decay together, in the model's order: `share` is their part of the schedule's rate."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    patterns = {name: pattern for pattern, names in grouped(named, groups).items() for name in names}
    parts: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, p in named.items():
        own = groups[patterns[name]] if name in patterns else None
        decays = settings.decay_only == "all" or (name.rpartition(".")[2] == "weight" and p.dim() > 1)
        part = parts.get((patterns.get(name, ""), decays))
        if part is None:
            weight = decay if own is None or own.weight_decay is None else own.weight_decay
            share = 1.0 if own is None or own.lr is None else own.lr / settings.lr
            part = {"params": [], "weight_decay": weight if decays else 0.0, "share": share}
            parts[patterns.get(name, ""), decays] = part
        part["params"].append(p)
    # Those that decay first, as they always were.
    return sorted(parts.values(), key=lambda part: part["weight_decay"] == 0.0)


def _decouple(optimizer: torch.optim.Optimizer, shrink: list[float]) -> None:
    """Shrink weights before each update of an optimizer that has no decoupled decay of its own.

    `shrink` has the decay of each of its groups.
    """

    @torch.no_grad()
    def before(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        applied = applied_of(getattr(optimizer, "found_inf", None), optimizer.param_groups[0]["lr"].device)
        for group, decay in zip(optimizer.param_groups, shrink, strict=True):
            if decay == 0:
                continue
            kept = torch.where(applied, 1 - group["lr"] * decay, torch.ones_like(group["lr"]))
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                torch._foreach_mul_(parameters, kept)

    optimizer.register_step_pre_hook(before)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything the optimizer remembers, by the name of what is remembered and of its parameter."""
    tensors = {}
    for name, p in model.named_parameters():
        for key, value in optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}/{name}"] = value
    return tensors


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], source: Path
) -> None:
    """Give the optimizer its memory back.

    Raises:
        CheckpointError: It is not the memory of this optimizer and of this model's parameters.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    places = {names[id(p)]: i for i, p in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for label, tensor in tensors.items():
        key, _, name = label.partition("/")
        if name in frozen:  # since then; its moments are nobody's any more
            continue
        if name not in places:
            raise CheckpointError(f"the optimizer in {source} belongs to another model: it remembers `{label}`")
        shape = torch.Size() if key == "step" else parameters[places[name]].shape
        if tensor.shape != shape:
            raise CheckpointError(
                f"the optimizer in {source} belongs to another model: "
                f"`{label}` is {list(tensor.shape)} there and {list(shape)} here"
            )
        if key != "step":  # in the parameter's own layout, which fused kernels rely on
            tensor = torch.empty_like(parameters[places[name]]).copy_(tensor)
        state.setdefault(places[name], {})[key] = tensor
    expected = _remembered(optimizer)
    for memory in state.values():
        if memory.keys() != expected:
            raise CheckpointError(
                f"the optimizer in {source} is of another kind: it remembers {_listed(memory)}, "
                f"this one {_listed(expected)}; resume with the `train.optimizer` that the run began with"
            )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _remembered(optimizer: torch.optim.Optimizer) -> set[str]:
    """What an optimizer keeps of each parameter once it has updated it."""
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer"} if optimizer.defaults["momentum"] else set()
    if isinstance(optimizer, Adamax):
        return {"exp_avg", "exp_inf"} | ({"step"} if optimizer.bias_correction else set())
    return {"step", "exp_avg", "exp_avg_sq"}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "nothing"
