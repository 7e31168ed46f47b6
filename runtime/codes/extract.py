"""The codes of a data set, extracted once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.codes.levels import LABEL, CodesError, Level, code_levels, infer_codes
from hvdsl.runtime.codes.store import CodeStore, Identity, LabelledImages, Writing, data_digest, holds
from hvdsl.runtime.data.fields import TableField
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.inference.inference import chunks
from hvdsl.runtime.latents import Condition
from hvdsl.runtime.latents.conditions import as_tensors, conditions_of
from hvdsl.runtime.training.batches import read_with_fields


def stored_codes(
    model: nn.Module,
    images: LabelledImages,
    folder: Path,
    autoencoder: str,
    *,
    conditions: Sequence[Condition] = (),
    batch: int = 64,
    world: World | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CodeStore:
    """The codes of every image, from `folder` if they are there and of this autoencoder and data, else made anew.

    Each image is encoded once, in evaluation mode and without augmentation: give it the images as evaluation sees
    them. All processes call this; they share the work.

    Args:
        autoencoder: Its digest.
        conditions: Fields of the data that are stored beside the codes.
        progress: Called with the images done by this process, and how many it has to do.

    Raises:
        CodesError: There are no images, or the codes cannot be written; nothing half-written stays.
    """
    if len(images) == 0:
        raise CodesError(f"{images.name} has no images to take codes of")
    world = world or World()
    held, labelled = _held(images, conditions)
    levels = (*code_levels(model), *class_levels(held))
    fields = {c.name: c.stored for c in held if c.classes is None}
    stamped = [condition.name for condition in held if not (labelled and condition.name == LABEL)]
    identity = Identity(autoencoder, data_digest(images, labelled=labelled, fields=stamped))
    if not world.any(not holds(folder, identity, levels, fields)):
        store = CodeStore.open(folder)
        store.check()
        return store
    writing = Writing(folder, levels, len(images), fields)
    try:
        together(world, writing, lambda: writing.begin() if world.leads else None)
        together(world, writing, lambda: _write(writing, model, images, batch, world, progress))
        together(world, writing, lambda: writing.finish(identity) if world.leads else None)
    except KeyboardInterrupt:
        if world.leads:
            writing.discard()
        raise
    return CodeStore.open(folder)


def _held(images: LabelledImages, conditions: Sequence[Condition]) -> tuple[list[Condition], bool]:
    """The fields that images have, and whether `label` is among them as the class that all of them say themselves."""
    label = next((condition for condition in conditions if condition.name == LABEL), None)
    optional = label is not None and label.droppable
    own = label is not None and not optional and images.labels([0]) is not None
    source = getattr(images, "fields", {}).get(LABEL)
    elsewhere = isinstance(source, TableField) or (optional and source is not None)
    return [condition for condition in conditions if condition is not label or own or elsewhere], own


def _write(
    writing: Writing,
    model: nn.Module,
    images: LabelledImages,
    batch: int,
    world: World,
    progress: Callable[[int, int], None] | None,
) -> None:
    mine = world.share(len(images))
    classes = {level.name: level for level in writing.levels if not level.grid}
    wanted = dict.fromkeys((*(c.name for c in conditions_of(model)), *classes, *writing.fields))
    for indices in chunks(mine, batch):
        pixels, given = read_with_fields(images, indices, list(wanted))
        codes, _ = infer_codes(model, torch.from_numpy(pixels.astype(np.float32)), as_tensors(given))
        parts = [codes[level.name].flatten(1).cpu().numpy() for level in writing.levels if level.grid]
        parts += [_classes(images, level, given[name]) for name, level in classes.items()]
        writing.write(indices.start, np.concatenate(parts, 1), {name: given[name] for name in writing.fields})
        if progress is not None:
            progress(indices.stop - mine.start, len(mine))


def class_levels(conditions: Sequence[Condition]) -> tuple[Level, ...]:
    """The classes among fields, as levels that stand beside codes."""
    return tuple(Level(c.name, c.classes, (), optional=c.droppable) for c in conditions if c.classes is not None)


def _classes(images: LabelledImages, level: Level, values: NDArray[Any]) -> NDArray[np.int64]:
    """Classes as a column of codes; no class is the number after the last one, where it may be absent."""
    if (values < 0).any() and not level.optional:
        raise CodesError(
            f"some images of {images.name} have no `{level.name}`, which is stored beside their codes: say that it may "
            f"be absent, `given {level.name} = {level.classes} classes {{ drop = 0.1 }}`, or add it to all of them"
        )
    return np.where(values < 0, level.classes, values).astype(np.int64)[:, None]


def together(world: World, writing: Writing, work: Callable[[], None]) -> None:
    """Do a part of the work in all processes; if it fails in one, it fails in all, and nothing stays behind."""
    failure: OSError | HvdslError | None = None
    try:
        work()
    except (OSError, HvdslError) as error:
        failure = error
    if not world.any(failure is not None):
        return
    if world.leads:
        writing.discard()
    if isinstance(failure, OSError):
        free = shutil.disk_usage(writing.folder.parent).free if writing.folder.parent.exists() else 0
        raise CodesError(
            f"cannot write the codes in {writing.folder}: {failure.strerror or failure} ({free:,} bytes are free)"
        ) from failure
    raise failure or CodesError(f"another process could not write the codes in {writing.folder}")
