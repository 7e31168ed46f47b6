"""Samples as files; a folder of them grows image by image, and goes on where it was left."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from hvdsl.errors import UsageError
from hvdsl.runtime.codes.files import check_suffix, write_arrays
from hvdsl.runtime.ground.disk import clear_remains, read_json, write_json
from hvdsl.runtime.inference.image_files import ImageFolder, ImageOutput, file_names, write_images
from hvdsl.runtime.training.folder.run import Run
from hvdsl.workflows.latent_files import model_digest
from hvdsl.workflows.open import Opened, first_stage
from hvdsl.workflows.sample import SampleOptions, draw_batches, draw_codes_alone, draw_samples
from hvdsl.workflows.stages import prior_folder

MOST_COLUMNS = 32  # of a page
RECORD = ".samples.json"
"""What a folder of samples says of itself: hidden, so that what reads a folder of images passes it over."""


def write_samples(opened: Opened, options: SampleOptions, output: ImageOutput, console: Console | None = None) -> str:
    """Draw images into files; returns what was written, in words.

    A folder is written batch by batch in constant memory. Where it holds a part of the same samples already, only the
    rest is drawn, and the whole is what one unbroken call would have written.

    Raises:
        HvdslError: as `draw_samples`; or the folder holds other files, or samples of another model or other options.
    """
    data = opened.spec.model.settings.data
    if output.form != "folder":
        return write_images(output, draw_samples(opened, options, console), data, columns=page_columns(options))
    record = _record(opened, options)
    _check(output.path, record)
    folder = ImageFolder(output.path, data, file_names((), options.n))
    before = sum(folder.holds([i]) for i in range(options.n))
    write_json(output.path / RECORD, record)
    clear_remains(output.path)
    batches = draw_batches(opened, options, console, wanted=lambda indices: not folder.holds(indices))
    for indices, images in batches:
        folder.write(indices, images)
    return folder.what(options.n) + (f", {before:,} of them from before" if before else "")


def write_sampled_codes(opened: Opened, options: SampleOptions, path: Path, console: Console | None = None) -> str:
    """Draw codes into an `.npz` or `.safetensors` file, with what they are given; returns what was written, in words.

    Raises:
        HvdslError: as `draw`, or the file cannot be written.
    """
    check_suffix(path)
    first, model = first_stage(opened), opened.spec.model
    codes, given = draw_codes_alone(opened, options, console)
    levels = [level for level in first.levels if level.name in codes]
    kinds = {level.name: np.min_scalar_type(level.classes - 1) for level in levels}
    arrays = {level.name: codes[level.name].numpy().astype(kinds[level.name]) for level in levels}
    arrays |= {name: values.cpu().numpy() for name, values in given.items()}
    write_arrays(path, arrays, levels, model.settings.model, first.digest)
    return f"codes of {options.n} images; " + "; ".join(f"{level.name}: {level}" for level in levels)


def page_columns(options: SampleOptions) -> int | None:
    """Return how many images stand beside each other on a page: what is given in turn stands in a column each."""
    turns = [len(options.label), *(value.count(",") + 1 for _, value in options.given if isinstance(value, str))]
    columns = max(turns)
    return columns if 1 < columns <= min(options.n, MOST_COLUMNS) else None


def _record(opened: Opened, options: SampleOptions) -> dict[str, Any]:
    """What decides the images of a folder, whatever their number."""
    stated = {f.name: _spelled(getattr(options, f.name)) for f in fields(options) if f.name != "n"}
    run = opened.run
    priors = {} if run is None else {name: _prior_step(run, name) for name in opened.spec.model.priors}
    sampled = opened.spec.model.settings.sample
    return {
        "model": model_digest(opened),
        "step": opened.step,
        "use_ema": opened.use_ema,
        "temperature of the spec": sampled.temperature,
        "priors": priors,
        **stated,
    }


def _prior_step(run: Run, latent: str) -> int | None:
    folder = prior_folder(run, latent)
    checkpoint = Run.open(folder).checkpoints().latest() if folder.exists() else None
    return None if checkpoint is None else checkpoint.step


def _spelled(value: object) -> object:
    """An option as JSON; files and tensors by what is in them."""
    match value:
        case Path():
            return hashlib.sha256(value.read_bytes()).hexdigest() if value.is_file() else str(value)
        case Tensor():
            return hashlib.sha256(value.cpu().contiguous().numpy().tobytes()).hexdigest()
        case np.ndarray():
            return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        case tuple() | list():
            return [_spelled(part) for part in value]
        case dict():
            return {str(key): _spelled(part) for key, part in value.items()}
    return value


def _check(folder: Path, record: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but these samples. Raises UsageError."""
    if not folder.is_dir() or not any(path.name != RECORD for path in folder.iterdir() if path.suffix != ".tmp"):
        return
    if not (folder / RECORD).is_file():
        raise UsageError(f"{folder} holds files already, and no samples that could be gone on with: give a new folder")
    noted = read_json(folder / RECORD)
    for name in record:
        if noted.get(name) != record[name]:
            there, here = noted.get(name), record[name]
            what = "another model" if name == "model" else f"`{name}` {there}, and this call has {here}"
            raise UsageError(f"{folder} holds samples of {what}: give a new folder")
