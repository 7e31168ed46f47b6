"""Published weight files, read without executing anything in them."""

from __future__ import annotations

import pickle  # for its exception only: torch's restricted reader raises it
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hvdsl.importers.names import WeightsError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file, or of a `.th`/`.pt` state dict through torch's restricted reader.

    Raises:
        WeightsError: not readable, or it holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist: give the published weights file") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} cannot be read as tensors ({reason}): nothing else in it is ever loaded") from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in loaded.items()):
        raise WeightsError(f"{path} is not a state dict: it should hold named tensors only")
    return loaded
