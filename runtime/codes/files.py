"""Codes in one file, for other people's models and from them: `.npz`, or `.safetensors`.

An array per level, `(N, H, W)` (`(N, depth, H, W)` in residual quantization), perhaps `label` `(N,)`; and what they
are: in `.npz` the JSON text in the array `metadata`, in `.safetensors` the file's metadata.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from hvdsl.runtime.codes.levels import CodesError, Level, check_fit
from hvdsl.runtime.codes.store import CodeStore, columns
from hvdsl.runtime.training.checkpoint import write_durably

SUFFIXES = (".npz", ".safetensors")
_METADATA = "metadata"


def write_codes(path: Path, store: CodeStore, model: str) -> None:
    """Write every code of a store, in its smallest type.

    Raises:
        CodesError: Another suffix, or the file cannot be written.
    """
    check_suffix(path)
    arrays = {
        level.name: np.ascontiguousarray(store.matrix[:, columns(store.levels)[level.name]]).reshape(-1, *level.shape)
        for level in store.levels
    }
    about = {
        "model": model,
        "autoencoder_sha256": store.identity.autoencoder,
        "levels": json.dumps([asdict(level) for level in store.levels]),
    }
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **{_METADATA: np.array(json.dumps(about))}, **arrays)
        else:
            # Signed: torch computes little with unsigned numbers of more than a byte.
            tensors = {
                name: torch.from_numpy(a.astype(np.promote_types(a.dtype, np.int8))) for name, a in arrays.items()
            }
            write_durably(temporary, dump_tensors(tensors, about))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CodesError(f"cannot write {path}: {error.strerror}") from error


def read_codes(path: Path, levels: Sequence[Level]) -> dict[str, Tensor]:
    """The codes of `levels` in a file, int64 `(N, …)`; others in it are left alone.

    Raises:
        CodesError: Not readable, or not the codes of these levels.
    """
    check_suffix(path)
    wanted = [level.name for level in levels]
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                held = [name for name in file.files if name != _METADATA]
                found = {name: _tensor(file[name]) for name in held if name in wanted}
        else:
            everything = load_tensors(path.read_bytes())
            held, found = list(everything), {name: everything[name] for name in wanted if name in everything}
    except FileNotFoundError as error:
        raise CodesError(f"{path} does not exist: `hvdsl codes RUN -o {path}` writes codes") from error
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        EOFError,
        MemoryError,
        SafetensorError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,  # a zip file in a form that Python does not read
        RuntimeError,  # an encrypted one
    ) as error:
        raise CodesError(f"{path} cannot be read as codes ({_reason(error)})") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise CodesError(f"{path} has no codes of `{missing[0]}`; it holds {', '.join(held) or 'nothing'}")
    check_fit(found, levels, str(path))
    return {name: tensor.long() for name, tensor in found.items()}


def _tensor(array: object) -> Tensor:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        raise ValueError("codes are whole numbers")
    return torch.from_numpy(array.astype(np.int64))


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def check_suffix(path: Path) -> None:
    """Refuse a file that is neither `.npz` nor `.safetensors`. Raises CodesError."""
    if path.suffix not in SUFFIXES:
        raise CodesError(f"{path} is neither .npz nor .safetensors: codes are written and read in these")
