"""An optimizer's moments as named tensors, so that they are stored like weights: `exp_avg/decoder.r4.…`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvdsl.runtime.checkpoint import CheckpointError

# All that torch's Adam, AdamW, Adamax, SGD and our own optimizer remember of a parameter.
_KEYS = frozenset({"step", "exp_avg", "exp_avg_sq", "exp_inf", "momentum_buffer"})


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
        CheckpointError: A tensor is not of this model's parameters or not of its parameter's shape.
    """
    parameters = dict(model.named_parameters())
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for label, tensor in tensors.items():
        key, _, name = label.partition("/")
        if key not in _KEYS or name not in parameters:
            raise CheckpointError(f"the optimizer in {source} belongs to another model: it remembers `{label}`")
        if tensor.shape not in (parameters[name].shape, torch.Size()):
            raise CheckpointError(
                f"the optimizer in {source} belongs to another model: `{label}` is {list(tensor.shape)} there, "
                f"its parameter {list(parameters[name].shape)}"
            )
        by_parameter.setdefault(name, {})[key] = tensor
    optimizer.load_state_dict(
        {"state": _numbered(parameters, optimizer, by_parameter), "param_groups": _groups(optimizer)}
    )


def _numbered(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, by_parameter: dict[str, dict[str, Tensor]]
) -> dict[int, Any]:
    """The state by torch's own numbering: the position within the groups."""
    names = {id(p): name for name, p in parameters.items()}
    flat = [p for group in optimizer.param_groups for p in group["params"]]
    return {i: by_parameter[names[id(p)]] for i, p in enumerate(flat) if names[id(p)] in by_parameter}


def _groups(optimizer: torch.optim.Optimizer) -> Any:
    return optimizer.state_dict()["param_groups"]
