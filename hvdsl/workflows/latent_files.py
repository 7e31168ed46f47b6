"""Latents as files: an `.npz`, or a folder of `.npy` files that grows to any length in constant memory.

Of each group NAME there are the arrays `NAME`, what `decode` takes (z, after a flow where there is one; codes of a
discrete group), `NAME.mean` and `NAME.scale` of its posterior before a flow, `NAME.sample`, a value drawn from it, and
`NAME.rate`, `(N,)` nats; of each condition of the model `NAME.given`; `names` of the images; and in `metadata` what
they are of. `NAME`, mean and scale are given
the means of the groups before, sample and rate are given their samples, as in evaluation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from hvdsl.compiler.model import structure
from hvdsl.errors import HvdslError, UsageError
from hvdsl.runtime.codes.files import DIGEST, METADATA, NAMES, check_origin, read_tensors
from hvdsl.runtime.codes.levels import CodesError
from hvdsl.runtime.codes.store import autoencoder_digest
from hvdsl.runtime.data import Dataset
from hvdsl.runtime.ground.disk import new_folder, read_array, read_json, write_json, writing
from hvdsl.runtime.inference.inference import chunks
from hvdsl.runtime.latents.conditions import as_tensors, conditions_of
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.batches import read_with_fields
from hvdsl.workflows.calls import showing
from hvdsl.workflows.conditions import GivenValue, regiven
from hvdsl.workflows.groups import group_names, select_groups
from hvdsl.workflows.latents import Latents, infer
from hvdsl.workflows.open import Opened
from hvdsl.workflows.runs import class_names

Arrays = dict[str, NDArray[Any]]
FORMAT = 1
GIVEN = "given"  # what the arrays of conditions end in


def check_latents_output(text: str | os.PathLike[str]) -> Path:
    """Return the place that latents go to: an `.npz`, or a folder, which has no ending or a slash.

    Raises:
        UsageError: it has another ending.
    """
    path = Path(text)
    if path.suffix in ("", ".npz") or os.fspath(text).endswith(("/", os.sep)):
        return path
    raise UsageError(f"latents cannot be written as `{text}`: give a file that ends in .npz, or a folder")


def encode_images(
    opened: Opened,
    images: Dataset,
    output: str | os.PathLike[str],
    *,
    groups: str | None = None,
    batch: int = 64,
    seed: int = 0,
    console: Console | None = None,
    given: Mapping[str, GivenValue] | None = None,
) -> list[str]:
    """Write the latents of images to a file or folder; returns the groups that are in it.

    Args:
        given: what the images are conditioned on, in place of what they bring with them.

    Raises:
        HvdslError: there is no such group, or an image or the file does not do.
    """
    path, module = check_latents_output(output), opened.module
    own = as_vae(module).LATENTS
    names = group_names(own)
    places = list(range(len(own))) if groups is None else select_groups(own, groups, "--groups")
    about = {
        "format": str(FORMAT),
        "model": opened.spec.model.settings.model,
        DIGEST: model_digest(opened),
        "step": str(opened.step),
        "seed": str(seed),
        "groups": json.dumps([{**asdict(own[i]), "name": names[i]} for i in places]),
    }
    source = regiven(module, images, given, opened.spec.model.settings.data, class_names(opened.run))
    sink = _Folder(path) if path.suffix != ".npz" else _Archive(path)
    with sink, showing("images", console) as show:
        for indices in chunks(range(len(images)), batch):
            raw, fields = read_with_fields(source, indices, [c.name for c in conditions_of(module)])
            pixels, conditions = torch.from_numpy(raw.astype(np.float32)), as_tensors(fields)
            means = infer(module, pixels, sample=False, seed=seed, batch=batch, first=indices.start, given=conditions)
            drawn = infer(module, pixels, sample=True, seed=seed, batch=batch, first=indices.start, given=conditions)
            beside = {f"{name}.{GIVEN}": value for name, value in fields.items()}
            sink.add(indices, len(images), _arrays(means, drawn, places) | beside)
            show(indices.stop, len(images))
        sink.finish(about, images.names(range(len(images))))
    return [names[i] for i in places]


def read_latents(path: Path, opened: Opened, wanted: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return the latents of groups in a file or folder, as `decode` takes them.

    Args:
        wanted: which groups must be there; by default all that are.

    Raises:
        CodesError: it cannot be read, is of another model, or has not what is wanted.
    """
    names = group_names(as_vae(opened.module).LATENTS)
    sought = names if wanted is None else list(wanted)
    held, tensors, about = _read_folder(path, sought) if path.is_dir() else read_tensors(path, sought)
    check_origin(path, about, model_digest(opened))
    missing = [name for name in sought if name not in tensors]
    if not tensors or (wanted is not None and missing):
        what = f"latents of `{missing[0]}`" if wanted is not None else "latents of this model"
        shown = ", ".join(held[:8]) + (", …" if len(held) > 8 else "")
        raise CodesError(f"{path} has no {what}; it holds {shown or 'nothing'}")
    return tensors


def read_given(path: Path, opened: Opened) -> dict[str, Tensor]:
    """Return what the images of a file or folder of latents are conditioned on, as far as images made of them are.

    Raises:
        CodesError: it cannot be read.
    """
    names = {f"{c.name}.{GIVEN}": c.name for c in conditions_of(opened.module) if c.generative}
    _, tensors, _ = _read_folder(path, list(names)) if path.is_dir() else read_tensors(path, list(names))
    return {names[key]: value for key, value in tensors.items()}


def model_digest(opened: Opened) -> str:
    """Return the digest by which latents know their model: of its weights, and of what is computed of them."""
    return autoencoder_digest(opened.module, structure(opened.spec.model))


def _arrays(means: Latents, drawn: Latents, places: Sequence[int]) -> Arrays:
    arrays: Arrays = {}
    for place in places:
        group, sample = means[place], drawn[place]
        tensors = {"": group.value, ".mean": group.mean, ".scale": group.scale, ".sample": sample.value}
        tensors[".rate"] = sample.rate
        arrays |= {f"{group.name}{what}": t.numpy() for what, t in tensors.items() if t is not None}
    return arrays


class _Archive:
    """An `.npz`, written when all is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[Arrays] = []

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self._parts = []

    def add(self, indices: range, total: int, arrays: Arrays) -> None:
        self._parts.append(arrays)

    def finish(self, about: Mapping[str, str], names: Sequence[str]) -> None:
        whole = {key: np.concatenate([part[key] for part in self._parts]) for key in self._parts[0]}
        texts = {METADATA: np.array(json.dumps(about)), NAMES: np.array(list(names))}
        with writing(self._path) as file:
            np.savez(file, allow_pickle=False, **texts, **whole)


class _Folder:
    """A folder of memory-mapped `.npy` files, which is there when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.is_dir() and not (path / f"{METADATA}.json").is_file() and any(path.iterdir()):
            raise UsageError(f"{path} holds other files: give a new folder for latents")
        self._making = new_folder(path, replace=True)
        self._maps: dict[str, np.memmap[Any, Any]] = {}

    def __enter__(self) -> _Folder:
        self._folder = self._making.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._maps.clear()
        self._making.__exit__(*error)

    def add(self, indices: range, total: int, arrays: Arrays) -> None:
        for key, array in arrays.items():
            if key not in self._maps:
                self._maps[key] = np.lib.format.open_memmap(
                    self._folder / f"{key}.npy", "w+", array.dtype, (total, *array.shape[1:])
                )
            self._maps[key][indices.start : indices.stop] = array

    def finish(self, about: Mapping[str, str], names: Sequence[str]) -> None:
        for array in self._maps.values():
            array.flush()
        write_json(self._folder / f"{METADATA}.json", dict(about))
        write_json(self._folder / f"{NAMES}.json", {NAMES: list(names)})


def _read_folder(path: Path, wanted: Sequence[str]) -> tuple[list[str], dict[str, Tensor], dict[str, object]]:
    """Names of what a folder holds, what of it is wanted, and its metadata."""
    try:
        about = read_json(path / f"{METADATA}.json")
        held = sorted(file.stem for file in path.glob("*.npy"))
        arrays = {n: read_array(path / f"{n}.npy", "c") for n in wanted if n in held}
        return held, {name: torch.from_numpy(array) for name, array in arrays.items()}, about
    except FileNotFoundError as error:
        raise CodesError(f"{path} holds no latents: `hvdsl encode RUN -o {path}/` writes them") from error
    except (HvdslError, OSError, ValueError, TypeError, EOFError) as error:
        raise CodesError(f"{path} cannot be read as latents ({error})") from error
