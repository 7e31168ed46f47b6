"""A model's tensors by name, and a run's weights back into a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hvdsl.runtime.ground.noise import SCHEMES
from hvdsl.runtime.latents.noise import set_noise_scheme
from hvdsl.runtime.training.checkpoint import Checkpoint, CheckpointError
from hvdsl.runtime.training.run import Run


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
    scheme = scheme_of(checkpoint)
    part = "ema" if use_ema and "ema" in checkpoint else "model"
    copy_into(model, checkpoint.tensors(part, model_tensors(model)))
    set_noise_scheme(model, scheme)
    return checkpoint


def scheme_of(checkpoint: Checkpoint) -> int:
    """The noise scheme of the run that a checkpoint is of; one that names none is of the first.

    Raises:
        CheckpointError: The scheme is none that is known here.
    """
    scheme = checkpoint.state.get("noise_scheme", 1)
    if scheme not in SCHEMES:
        raise CheckpointError(
            f"{checkpoint.path / 'manifest.json'} names the noise scheme {scheme!r}; known are "
            f"{', '.join(map(str, SCHEMES))}: it is damaged, or of a newer version"
        )
    return int(scheme)


@torch.no_grad()
def copy_into(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy tensors over the model's own of the same names."""
    for name, tensor in model_tensors(model).items():
        tensor.copy_(tensors[name])
