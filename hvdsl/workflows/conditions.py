"""What a user says of images besides their pixels: classes by number or name, numbers, files, tensors."""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hvdsl.compiler.assembly.pixels import V, parse_pixel_map
from hvdsl.compiler.graph import Graph
from hvdsl.compiler.model import Model
from hvdsl.compiler.settings import LABEL, Data
from hvdsl.compiler.settings import ConditionSettings as DeclaredCondition
from hvdsl.errors import HvdslError, UsageError
from hvdsl.runtime.data import DataError, Splits
from hvdsl.runtime.data.conditions import made
from hvdsl.runtime.data.dataset import Dataset, Images
from hvdsl.runtime.data.fields import ClassField
from hvdsl.runtime.data.folder import ImageFiles
from hvdsl.runtime.inference.inference import some
from hvdsl.runtime.latents import Condition
from hvdsl.runtime.latents.conditions import Rows, absent, as_tensors, conditions_of, fields_of, scored_of
from hvdsl.runtime.training.batches import read_with_fields
from hvdsl.workflows.images import ImagesLike, dataset_of, raw_pixels

GivenValue = int | float | str | os.PathLike[str] | Sequence[int | float | str] | NDArray[np.generic] | Tensor
"""Classes by number or name, or numbers, taken in turn; a tensor `(N, …)`; images as files or a folder of them."""

NOTHING = "none"  # says that a condition is not given
MOST = 12  # classes that a line names


def names_of_classes(splits: Splits) -> dict[str, Sequence[str]]:
    """The names of classes that the training data has, by field."""
    fields = {name: field.classes for name, field in splits.train.fields.items()}
    return {name: names for name, names in fields.items() if names}


def fields_read(graphs: Iterable[Graph]) -> set[str]:
    """Return the names of the fields that graphs read."""
    return {str(n.args["name"]) for graph in graphs for n in graph.nodes if n.args.get("source") == "field"}


def check_fields(model: Model, splits: Splits) -> str:
    """Check the fields that any stage of a spec needs, and say in one line what they are; empty where there are none.

    Raises:
        DataError: the data has no such field, an image lacks it that may not, or it is not what the spec declares.
    """
    data = model.settings.data
    read = fields_read((model.graph, *model.priors.values()))
    texts = [text for text in (data.target, data.weight) if text is not None]
    names = [field.name for field in data.given]
    read |= {symbol for text in texts for symbol in parse_pixel_map(text, (V, *names)).symbols} - {V}
    lines = []
    for name in (field.name for field in data.conditions if field.name in read):
        parts = (splits.train, splits.validation)
        for part in parts:
            read_with_fields(part, [0], [name])
        field, absent = splits.train.fields.get(name), [part.absent(name) for part in parts]
        if field is None:
            continue
        if absent[0] == len(splits.train):
            called = splits.train.names([0])[0]
            raise DataError(f"no image has a value of `{name}` in {field.place}: images are called as {called}")
        line = f"`{name}` from {field.place}"
        if field.classes and field.classes != splits.classes:
            line += f", which are {', '.join(field.classes[:MOST])}" + (", …" if len(field.classes) > MOST else "")
        if sum(absent):
            line += f" ({sum(absent):,} of {sum(map(len, parts)):,} images have none)"
        lines.append(line)
    unread = data.classes is not None and LABEL not in read and isinstance(splits.train.fields.get(LABEL), ClassField)
    if unread and splits.train.images.label(0) is None:
        lines.append(f"the images have no `{LABEL}`, and nothing reads it: `classes = {data.classes}` can be left out")
    return "; ".join(lines)


def runtime_condition(field: DeclaredCondition) -> Condition:
    """A field of the spec's `data`, as the runtime knows conditions."""
    return Condition(field.name, field.shape, field.classes, field.drop)


def values_of(
    conditions: Iterable[Condition],
    given: Mapping[str, GivenValue],
    count: int,
    data: Data,
    names: Mapping[str, Sequence[str]],
    *,
    option: str = "--given",
    generating: bool = False,
) -> dict[str, Tensor]:
    """Return what is given for `count` images: classes `(N,)`, numbers `(N, C)`, images `(N, C, H, W)`.

    As `rows_of`, whose rows are taken in turn.
    """
    rows = rows_of(conditions, given, count, data, names, option=option, generating=generating)
    return some(rows, range(count))


def rows_of(
    conditions: Iterable[Condition],
    given: Mapping[str, GivenValue],
    count: int,
    data: Data,
    names: Mapping[str, Sequence[str]],
    *,
    option: str = "--given",
    generating: bool = False,
) -> dict[str, Rows]:
    """Return what is given for `count` images, which take it in turn; images of a folder are read when they are wanted.

    Args:
        names: Of classes, by field.
        option: What it is given by, for messages.
        generating: Images are made of latents, for which only some conditions are read.

    Raises:
        UsageError: there is no such condition, it is not read, or a value is none of it.
    """
    known = {condition.name: condition for condition in conditions}
    values: dict[str, Rows] = {}
    for name, value in given.items():
        if name not in known:
            there = ", ".join(f"`{n}`" for n in known)
            near = get_close_matches(name, known, 1)
            expected = f"it is conditioned on {there}" if there else "it has no conditions"
            expected += f"; did you mean `{near[0]}`?" if near else ""
            raise UsageError(f"{option} {name}: the model knows no `{name}`; {expected}")
        if generating and not known[name].generative:
            raise UsageError(
                f"{option} {name}: only the encoder reads `{name}`, so that it changes nothing of what is drawn: leave "
                "it out"
            )
        try:
            values[name] = _at_most(_value(known[name], value, data, names.get(name, ())), count)
        except (ValueError, DataError) as error:
            text = f"={value}" if isinstance(value, str | int | float | os.PathLike) else ""
            raise UsageError(f"{option} {name}{text}: {error}") from error
    return values


def _value(condition: Condition, value: GivenValue, data: Data, names: Sequence[str]) -> Rows:
    """Any number of values of one condition, one after the other."""
    if isinstance(value, Tensor | np.ndarray):
        return _tensor(condition, torch.as_tensor(value))
    if isinstance(value, str) and value == NOTHING:
        if not condition.droppable:
            raise ValueError(
                f"the model was never trained without it: write `given {condition.name} = … {{ drop = 0.1 }}` in "
                "`data`, and train"
            )
        return absent(condition, 1)
    if condition.shape[1:] != (1, 1):
        if not isinstance(value, str | os.PathLike):
            raise ValueError("give an image file, a folder of images, or a tensor")
        return _images(condition, Path(value), data)
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
    if condition.classes is not None:
        return torch.tensor([_class(condition, word, names) for word in words])
    numbers = [_number(condition, word) for word in words]
    width = condition.shape[0]
    if len(numbers) % width:
        raise ValueError(f"{len(numbers)} number{'' if len(numbers) == 1 else 's'}; each image has {width}")
    return torch.tensor(numbers).reshape(-1, width)


def _tensor(condition: Condition, value: Tensor) -> Tensor:
    value = value[:, None] if condition.stored == (1,) and value.dim() == 1 else value
    if tuple(value.shape[1:]) != condition.stored or value.dim() == 0 or len(value) == 0:
        shape = ", ".join(map(str, ("N", *condition.stored)))
        raise ValueError(f"a tensor {tuple(value.shape)}; expected ({shape})")
    if condition.classes is None:
        return value.detach().cpu().float()
    if value.is_floating_point() or int(value.min()) < -1 or int(value.max()) >= condition.classes:
        raise ValueError(f"classes are whole numbers from 0 to {condition.classes - 1}")
    return value.detach().cpu().long()


def _class(condition: Condition, word: object, names: Sequence[str]) -> int:
    text = str(word).strip()
    if text in names:
        return list(names).index(text)
    if text.isdecimal() and int(text) < (condition.classes or 0):
        return int(text)
    called = f", or {', '.join(names)}" if names else ""
    called += f"; did you mean `{near[0]}`?" if (near := get_close_matches(text, names, 1)) else ""
    raise ValueError(f"classes are whole numbers from 0 to {(condition.classes or 0) - 1}{called}")


def _number(condition: Condition, word: object) -> float:
    try:
        number = float(str(word))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number, not `{word}`")
    return number


class _ImageRows:
    """Image files as the values of a field, read when they are wanted.

    Args:
        binary: Whether everything but 0 is 1.
    """

    def __init__(self, images: Dataset, *, binary: bool) -> None:
        self._images, self._binary = images, binary

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        pixels = torch.from_numpy(self._images.batch(index.tolist()).astype(np.float32))
        return (pixels > 0).float() if self._binary else pixels


def _images(condition: Condition, place: Path, data: Data) -> Rows:
    """Image files as a field holds them: of the image's own depth where the field is made of it, else as they are.

    Raises:
        DataError: there are none, or one has other proportions than the field: scaled, it would show something else.
    """
    own = next((field for field in data.given if field.name == condition.name), None)
    of_image = own is not None and own.source == "image"
    changes = {
        "shape": condition.shape,
        "resize": condition.shape[1:],
        "crop": None,
        "pad": 0,
        "bits": data.bits if of_image else 8,
        "binarize": "none",
        "given": (),
        "weight": None,
        "target": None,
    }
    settings, (height, width) = data.model_copy(update=changes), condition.shape[1:]
    images = dataset_of(place, settings)
    assert images is not None  # what a path names
    for index in range(len(images)):
        high, wide = _stored_size(images.images, index)
        if high * width != wide * height:
            name = images.names([index])[0]
            raise DataError(f"{name} is {high}x{wide} and the field {height}x{width}: crop it to those proportions")
    return _ImageRows(images, binary=own is not None and own.source == "box")


def _stored_size(images: Images, index: int) -> tuple[int, int]:
    """Height and width of a stored image, by the head of its file where that is known."""
    header = images.records[index].header if isinstance(images, ImageFiles) else None
    if header is not None:
        return header.height, header.width
    height, width = images.image(index, 0).values.shape[:2]
    return height, width


def _at_most(values: Rows, count: int) -> Rows:
    if len(values) > count:
        raise ValueError(f"{len(values)} values for {count} image{'' if count == 1 else 's'}")
    return values


def stored_images(
    module: nn.Module, images: Dataset, places: Sequence[int], given: Container[str] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return some images of a data set as whole or real numbers `(N, C, H, W)`, and the fields that the model needs.

    Args:
        given: The names of fields that are given otherwise.

    Raises:
        HvdslError: an image cannot be read, or a field is missing.
    """
    raw, fields = read_with_fields(images, places, [name for name in fields_of(module) if name not in given])
    return torch.from_numpy(raw if raw.dtype.kind == "f" else raw.astype(np.int32)), as_tensors(fields)


class Regiven:
    """A data set whose images are given something else than what they are."""

    def __init__(self, images: Dataset, values: Mapping[str, Rows]) -> None:
        self.name, self._images, self._values = images.name, images, values

    def __len__(self) -> int:
        return len(self._images)

    def names(self, indices: Sequence[int]) -> list[str]:
        return self._images.names(indices)

    def batch(self, indices: Sequence[int], epoch: int = 0, step: int = 0) -> NDArray[Any]:
        return self._images.batch(indices, epoch, step)

    def conditioned(
        self, indices: Sequence[int], fields: Sequence[str], epoch: int = 0, step: int = 0
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        own = [name for name in fields if name not in self._values]
        pixels, given = self._images.conditioned(indices, own, epoch, step)
        places = torch.as_tensor(list(indices))
        chosen = {name: values for name, values in self._values.items() if name in fields}
        return pixels, given | {name: values[places % len(values)].numpy() for name, values in chosen.items()}


def regiven(
    module: nn.Module,
    images: Dataset,
    given: Mapping[str, GivenValue] | None,
    data: Data,
    names: Mapping[str, Sequence[str]],
    others: Iterable[Condition] = (),
) -> Dataset | Regiven:
    """Return a data set whose images are `given` something in place of what they are.

    Args:
        others: what else may be given than what the module reads: what priors do.

    Raises:
        UsageError: there is no such condition, or a value is none of it.
    """
    values = rows_of((*_known(module), *others), given or {}, len(images), data, names)
    return Regiven(images, values) if values else images


def known_values(
    module: nn.Module,
    given: Mapping[str, GivenValue] | None,
    count: int,
    data: Data,
    names: Mapping[str, Sequence[str]],
) -> dict[str, Tensor]:
    """Return what is given of anything that stands beside `count` images; see `values_of`."""
    return values_of(_known(module), given or {}, count, data, names)


def _known(module: nn.Module) -> list[Condition]:
    """All that stands beside an image: what the model is given, and what its target and weight are of."""
    return list({c.name: c for c in (*scored_of(module), *conditions_of(module))}.values())


def images_with_fields(
    module: nn.Module,
    images: ImagesLike,
    data: Data,
    given: Mapping[str, GivenValue] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return images as raw pixel values, and all fields that the model needs beside them.

    What is `given` comes first; then what stands with the images where they are files; what is made of the image; what
    may be left out is left out.

    Raises:
        HvdslError: the images do not fit, or a field is missing.
    """
    conditions = {c.name: c for c in _known(module)}
    wanted = [name for name in fields_of(module) if name not in (given or {})]
    dataset = dataset_of(images, data, names or {}) if wanted else None
    if dataset is not None:
        raw, arrays = read_with_fields(dataset, range(len(dataset)), wanted)
        pixels = torch.from_numpy(raw.astype(np.float32))
        fields = {name: torch.from_numpy(value) for name, value in arrays.items()}
    else:
        pixels = raw_pixels(images, data)
        fields = {name: _made(conditions[name], pixels, data) for name in wanted}
    fields |= values_of(conditions.values(), given or {}, len(pixels), data, names or {})
    return pixels, fields


def _made(condition: Condition, pixels: Tensor, data: Data) -> Tensor:
    own = next((field for field in data.given if field.name == condition.name), None)
    rows = [] if own is None else [made(data, own, p.numpy(), 0, i) for i, p in enumerate(pixels)]
    if own is not None and own.source in ("image", "box"):
        return torch.stack([torch.from_numpy(row) for row in rows if row is not None])
    if condition.droppable:
        return absent(condition, len(pixels))
    raise HvdslError(
        f"the model is conditioned on `{condition.name}`, which the images do not bring with them: give it, as "
        f'`given = {{"{condition.name}": …}}`'
    )
