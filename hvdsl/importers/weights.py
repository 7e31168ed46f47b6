"""Published weight files, read without executing anything in them."""

from __future__ import annotations

import pickle  # for its exception only: torch's restricted reader raises it
import re
import struct
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hvdsl.importers.names import WeightsError

# torch's reader trusts the structure of a file and refuses only what it names: damage surfaces as almost anything.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


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
        _refuse_inflated(path)
        with torch.serialization.safe_globals([(_Record, "argparse.Namespace")]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of no concern to who asked for tensors
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist: give the published weights file") from error
    except _UNREADABLE as error:
        raise WeightsError(_refusal(path, error)) from error
    if isinstance(loaded, dict) and isinstance(loaded.get(entry), dict):
        loaded = loaded[entry]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in loaded.items()):
        raise WeightsError(f"{path} is not a state dict: it should hold named tensors only")
    return loaded


def _refuse_inflated(path: Path) -> None:
    """Refuse an archive that would unpack to more than its own length: `torch.save` never compresses."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        inside = sum(entry.file_size for entry in archive.infolist())
    length = path.stat().st_size
    if inside > length:
        raise WeightsError(f"{path} is refused: it is {length:,} bytes long and says that it holds {inside:,}")


def _refusal(path: Path, error: Exception) -> str:
    """Why a file was refused. torch's own words recommend to execute it, so they are not repeated."""
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused is not None:
        return f"{path} is refused: it asks for `{refused[1]}`, and nothing but tensors and plain values is ever read"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{path} cannot be read: {error.strerror}"
    return (
        f"{path} is damaged or of another form: it should be a .safetensors file, or named tensors as `torch.save` "
        "writes them; download it again"
    )
