"""Weights to begin a run with: another run's, a checkpoint's, or those of one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.training.folder.checkpoint import MANIFEST, Checkpoint, CheckpointStore, content_is_whole
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.weights import model_tensors

WRAPPERS = frozenset({"module", "model", "net", "network", "state_dict", "ema_model", "ema"})
"""First parts of names that DistributedDataParallel, Lightning and the like put before a model's own."""
COMPILED = "_orig_mod"
"""What `torch.compile` puts into names, at any place."""
_NAMED = 3  # tensors that a line names; the others it counts


@dataclass(frozen=True, slots=True)
class Match:
    """Which of a model's tensors were found in a source.

    Attributes:
        taken: By the model's names.
        missing: Names of the model's that the source has not.
        reshaped: Names with the shapes there and here.
        unused: Names in the source that the model has not.
    """

    source: Path
    taken: Mapping[str, Tensor]
    missing: list[str]
    reshaped: list[str]
    unused: list[str]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.reshaped)

    def lines(self) -> list[str]:
        """What to say of it."""
        total = len(self.taken) + len(self.missing) + len(self.reshaped)
        count = sum(tensor.numel() for tensor in self.taken.values())
        lines = [f"weights from {self.source}: {len(self.taken)} of the model's {total} tensors ({count:,} numbers)"]
        for names, what in (
            (self.missing, "not there, so as initialised"),
            (self.reshaped, "of another shape there, so as initialised"),
            (self.unused, "there and not in the model"),
        ):
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                lines.append(f"  {what}: {', '.join(names[:_NAMED])}{more}")
        return lines


def take_weights(module: nn.Module, source: Path) -> Match:
    """Copy into a module what of its tensors a source has, by name; averaged weights where there are some.

    Names are matched as they are, then without what wrappers put before or into them.

    Raises:
        HvdslError: The source cannot be read, or has none of the module's tensors.
    """
    own, there = model_tensors(module), _read(source)
    names = {_unwrapped(name, own): name for name in there}
    taken = {name: there[names[name]] for name in own if name in names and there[names[name]].shape == own[name].shape}
    match = Match(
        source,
        taken,
        [name for name in own if name not in names],
        [
            f"{name} {list(there[names[name]].shape)}, here {list(tensor.shape)}"
            for name, tensor in own.items()
            if name in names and name not in taken
        ],
        [theirs for name, theirs in names.items() if name not in own],
    )
    if not taken:
        first = next(iter(there), "nothing")
        raise HvdslError(
            f"{source} has none of the model's tensors: it holds {len(there)}, as `{first}`, and the model has "
            f"`{next(iter(own))}`; published weights are imported by `hvdsl import`"
        )
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    return match


def _unwrapped(name: str, own: Mapping[str, Tensor]) -> str:
    """A name without what wrappers add to it."""
    if name in own:
        return name
    parts = [part for part in name.split(".") if part != COMPILED]
    while ".".join(parts) not in own and len(parts) > 1 and parts[0] in WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def _read(source: Path) -> dict[str, Tensor]:
    if (source / MANIFEST).is_file() and source.name.isdigit():
        return _of_checkpoint(CheckpointStore(source.parent).open(int(source.name)))
    if source.is_dir():
        checkpoint = Run.open(source).checkpoints().latest()
        if checkpoint is None:
            raise HvdslError(f"{source} has no complete checkpoint, and so no weights to begin with")
        return _of_checkpoint(checkpoint)
    if source.suffix != ".safetensors":
        raise HvdslError(
            f"{source} is no run, checkpoint or .safetensors file: published weights of another form are imported by "
            "`hvdsl import`"
        )
    try:
        tensors = load_file(source)
        if content_is_whole(source):
            return tensors
        raise HvdslError(f"{source} is damaged: its content is not what the SHA-256 in its metadata says")
    except (SafetensorError, OSError, ValueError) as error:
        raise HvdslError(f"{source} cannot be read as safetensors ({error})") from error


def _of_checkpoint(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return checkpoint.load("ema" if "ema" in checkpoint else "model")
