"""An optimizer's moments as named tensors, so that they are stored like weights: `exp_avg/decoder.r4.…`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from hvdsl.runtime.training.checkpoint import CheckpointError
from hvdsl.runtime.training.optimizer import Adamax


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything the optimizer remembers, by the name of what is remembered and of its parameter."""
    found = {}
    for name, p in model.named_parameters():
        for key, value in optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor):
                found[f"{key}/{name}"] = value
    return found


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
