"""Codes in one file, for other people's models and from them: `.npz`, or `.safetensors`.

An array per level, `(N, H, W)` (`(N, depth, H, W)` in residual quantization), perhaps `label` `(N,)`, -1 where an
image has none; and what they are: in `.npz` the JSON text in the array `metadata`, in `.safetensors` the file's
metadata.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as dump_tensors
from torch import Tensor

from hvdsl.runtime.codes.levels import CodesError, Level, check_fit
from hvdsl.runtime.codes.store import CodeStore, columns
from hvdsl.runtime.ground.disk import DiskError, writing
from hvdsl.runtime.latents.conditions import NONE

SUFFIXES = (".npz", ".safetensors")
Arrays = dict[str, NDArray[Any]]
METADATA, DIGEST, NAMES = "metadata", "autoencoder_sha256", "names"


def write_codes(path: Path, store: CodeStore, model: str, names: Sequence[str] = ()) -> None:
    """Write every code of a store, in its smallest type, and the names of the images, in their order.

    Raises:
        CodesError: Another suffix, or the file cannot be written.
    """
    arrays = {level.name: _stored(store, level) for level in store.levels}
    write_arrays(path, arrays, store.levels, model, store.identity.autoencoder, names)


def write_arrays(
    path: Path, arrays: Arrays, levels: Sequence[Level], model: str, autoencoder: str, names: Sequence[str] = ()
) -> None:
    """Write codes and what stands beside them; as `write_codes`.

    Args:
        autoencoder: The digest of the model that they are for; empty where that is not known.
    """
    check_suffix(path)
    about = {"model": model, "levels": json.dumps([level.as_json() for level in levels])}
    about |= {DIGEST: autoencoder} if autoencoder else {}
    if names and path.suffix != ".npz":
        about[NAMES] = json.dumps(list(names))
    try:
        with writing(path) as file:
            if path.suffix == ".npz":
                texts = {METADATA: np.array(json.dumps(about)), **({NAMES: np.array(names)} if names else {})}
                np.savez(file, allow_pickle=False, **texts, **arrays)
            else:
                # Signed: torch computes little with unsigned numbers of more than a byte.
                signed = {name: a.astype(np.promote_types(a.dtype, np.int8)) for name, a in arrays.items()}
                file.write(dump_tensors({name: torch.from_numpy(a) for name, a in signed.items()}, about))
    except DiskError as error:
        raise CodesError(str(error)) from error


def _stored(store: CodeStore, level: Level) -> NDArray[np.integer[Any]]:
    """The codes of a level; -1 where an image has no class."""
    codes = np.ascontiguousarray(store.matrix[:, columns(store.levels)[level.name]]).reshape(-1, *level.shape)
    if not level.optional:
        return codes
    signed = codes.astype(np.promote_types(codes.dtype, np.int8))
    return np.where(signed == level.classes, np.array(NONE, signed.dtype), signed)


def read_codes(path: Path, levels: Sequence[Level], autoencoder: str) -> dict[str, Tensor]:
    """The codes of `levels` in a file, int64 `(N, …)`; others in it are left alone.

    Args:
        autoencoder: The digest of the model that they are for. A file that says of which it is must say this one; one
            from elsewhere, without metadata, is taken at its shapes.

    Raises:
        CodesError: Not readable, or not the codes of these levels and this model.
    """
    wanted = [level.name for level in levels]
    names, tensors, about = read_tensors(path, wanted)
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise CodesError(f"{path} has no codes of `{missing[0]}`; it holds {', '.join(names) or 'nothing'}")
    check_fit(tensors, levels, str(path))
    check_origin(path, about, autoencoder)
    return {name: tensor.long() for name, tensor in tensors.items()}


def check_origin(path: Path, about: Mapping[str, object], autoencoder: str) -> None:
    """Refuse a file whose metadata `about` say that it is of another model. Raises CodesError."""
    noted = about.get(DIGEST, autoencoder)
    if noted != autoencoder:
        raise CodesError(
            f"the codes in {path} are of another model: they were made by {about.get('model', 'one')} with digest "
            f"{str(noted)[:12]}, this one has {autoencoder[:12]}; use the run and checkpoint that made them"
        )


def read_tensors(path: Path, wanted: Sequence[str]) -> tuple[list[str], dict[str, Tensor], dict[str, object]]:
    """Names of what a file holds, what of it is wanted, and its metadata; whole numbers are int64, others float32.

    Raises:
        CodesError: Not readable.
    """
    names, arrays, about = read_code_arrays(path, wanted)
    kinds = {name: np.float32 if array.dtype.kind == "f" else np.int64 for name, array in arrays.items()}
    return names, {name: torch.from_numpy(a.astype(kinds[name])) for name, a in arrays.items()}, about


def read_code_arrays(path: Path, wanted: Sequence[str]) -> tuple[list[str], Arrays, dict[str, object]]:
    """Names of what a file holds, what of it is wanted, and its metadata; numbers are of the type that they have there.

    Raises:
        CodesError: Not readable.
    """
    check_suffix(path)
    try:
        return (_read_npz if path.suffix == ".npz" else _read_safetensors)(path, wanted)
    except FileNotFoundError as error:
        raise CodesError(f"{path} does not exist: `hvdsl codes` or `hvdsl encode RUN -o {path}` writes it") from error
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


def _read_npz(path: Path, wanted: Sequence[str]) -> tuple[list[str], Arrays, dict[str, object]]:
    """Names of what a file holds, what of it is wanted, and its metadata."""
    with np.load(path, allow_pickle=False) as file:
        held = [name for name in file.files if name != METADATA]
        about = json.loads(str(file[METADATA])) if METADATA in file.files else {}
        if not isinstance(about, dict):
            raise ValueError(f"`{METADATA}` is no JSON object")
        return held, {name: _numbers(file[name]) for name in held if name in wanted}, about


def _read_safetensors(path: Path, wanted: Sequence[str]) -> tuple[list[str], Arrays, dict[str, object]]:
    """The same of a `.safetensors` file."""
    with safe_open(path, framework="np") as file:
        held, about = list(file.keys()), dict(file.metadata() or {})
        return held, {name: _numbers(file.get_tensor(name)) for name in wanted if name in held}, about


def _numbers(array: object) -> NDArray[Any]:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        raise ValueError("codes are whole numbers")
    return array


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def check_suffix(path: Path) -> None:
    """Refuse a file that is neither `.npz` nor `.safetensors`. Raises CodesError."""
    if path.suffix not in SUFFIXES:
        raise CodesError(f"{path} is neither .npz nor .safetensors: codes are written and read in these")
