"""Weights: a model's tensors by name, a file that holds them with their spec, a run's back into a model."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from hvdsl.runtime.ground.disk import write_file
from hvdsl.runtime.latents.noise import noise_scheme, set_noise_scheme
from hvdsl.runtime.training.folder.checkpoint import (
    NOISE_SCHEME,
    STEP,
    Checkpoint,
    CheckpointError,
    tensor_file,
    weights_metadata,
)
from hvdsl.runtime.training.folder.run import Run


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; what is shared appears once."""
    persistent = model.state_dict().keys()
    buffers = {name: b for name, b in model.named_buffers() if name in persistent}
    return dict(model.named_parameters()) | buffers


def load_weights(model: nn.Module, run: Run, *, use_ema: bool = True, step: int | None = None) -> Checkpoint:
    """Give `model` the weights of a run: the averages where there are some and `use_ema` asks for them.

    Args:
        step: Which checkpoint; the newest by default.

    Raises:
        CheckpointError: There is none, it is damaged, or it belongs to another model.
    """
    store = run.checkpoints()
    checkpoint = store.latest() if step is None else store.open(step)
    if checkpoint is None:
        raise CheckpointError(f"{run.folder} has no complete checkpoint: train it first with `hvdsl train`")
    scheme = checkpoint.noise_scheme
    part = "ema" if use_ema and "ema" in checkpoint else "model"
    copy_into(model, checkpoint.tensors(part, model_tensors(model)))
    set_noise_scheme(model, scheme)
    return checkpoint


def save_weights(
    module: nn.Module, path: str | os.PathLike[str], spec: str, *, step: int = 0, prior_of: str | None = None
) -> Path:
    """Write a module's weights as one safetensors file that is a model by itself; returns its path.

    Args:
        spec: The text of the resolved spec that the module is of.
        step: Steps that it was trained for.
        prior_of: The latent whose prior it is, where it is not the model.

    Raises:
        DiskError: It cannot be written; an earlier file of that name is as it was.
    """
    about = weights_metadata(spec, prior_of) | {STEP: str(step), NOISE_SCHEME: str(noise_scheme(module))}
    return write_file(path, tensor_file(model_tensors(module), about))


@torch.no_grad()
def copy_into(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy tensors over the model's own of the same names."""
    for name, tensor in model_tensors(model).items():
        tensor.copy_(tensors[name])
