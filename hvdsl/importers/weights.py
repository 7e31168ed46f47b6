"""Published weight files, read without executing anything in them."""

from __future__ import annotations

import pickle  # for its exception only: torch's restricted reader raises it
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hvdsl.importers.names import WeightsError


class _Record:
    """What stands for an `argparse.Namespace` in a training checkpoint: its attributes, and no behaviour."""


def read_weights(path: Path, entry: str = "") -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file, or of a `.th`/`.pt` file through torch's restricted reader.

    That reader runs nothing: it makes tensors, plain values and records of options, and refuses whatever else a file
    asks for. `entry` names the state dict within a training checkpoint; a file that is a state dict is taken as it is.

    Raises:
        WeightsError: not readable, or it holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([(_Record, "argparse.Namespace")]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist: give the published weights file") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path} cannot be read as tensors ({_reason(error)}): nothing else in it is ever loaded"
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get(entry), dict):
        loaded = loaded[entry]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in loaded.items()):
        raise WeightsError(f"{path} is not a state dict: it should hold named tensors only")
    return loaded


def _reason(error: Exception) -> str:
    """Why a file was refused: the name that it asked for, where torch says it, else the first line."""
    asked = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
    if asked is not None:
        return f"it asks for `{asked[1]}`"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
