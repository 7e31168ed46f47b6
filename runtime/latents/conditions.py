"""What images are known by besides their pixels, on its way from the data to a model's arguments.

A model declares in `GIVEN` what its `forward` takes by keyword, and in `SCORED` of what its `target` and `weight` are.
Classes are `(N,)` int64, -1 where there is none; numbers `(N, C)` or `(N, C, H, W)`, NaN where there are none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.latents.group import Condition

NONE = -1  # the class of an image without one


class Rows(Protocol):
    """Values of images, any of which may be asked for: a tensor `(N, …)`, or what reads them when they are wanted."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor: ...


def conditions_of(model: nn.Module) -> tuple[Condition, ...]:
    """What a model's `forward` takes besides the image, in its order."""
    return tuple(getattr(model, "GIVEN", ()))


def scored_of(model: nn.Module) -> tuple[Condition, ...]:
    """The fields that a model's `target` and `weight` are of."""
    return tuple(getattr(model, "SCORED", ()))


def target_images(model: nn.Module) -> tuple[str, ...]:
    """The images that `target` is of where they are several, `v` or fields; else none."""
    return tuple(getattr(model, "TARGET_OF", ()))


def fields_of(model: nn.Module) -> tuple[str, ...]:
    """The names of everything that has to stand beside an image where it is scored, or beside its codes."""
    beside = [c for c in getattr(model, "CONDITIONS", ()) if isinstance(c, Condition)]
    return tuple(dict.fromkeys(c.name for c in (*conditions_of(model), *scored_of(model), *beside)))


def arguments_of(model: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The keyword arguments of a model's `forward`.

    Raises:
        HvdslError: a condition is missing, or not of its shape.
    """
    return {c.argument or c.name: checked_condition(c, given) for c in conditions_of(model)}


def checked_condition(condition: Condition, given: Mapping[str, Tensor]) -> Tensor:
    """The value of one condition.

    Raises:
        HvdslError: it is missing, or not of its shape.
    """
    value = given.get(condition.name)
    if value is None:
        there = ", ".join(f"`{name}`" for name in given) or "nothing"
        raise HvdslError(f"the model is conditioned on `{condition.name}`, and is given {there}")
    if tuple(value.shape[1:]) != condition.stored:
        shape = ", ".join(map(str, ("N", *condition.stored)))
        raise HvdslError(f"`{condition.name}` is {tuple(value.shape)}; expected ({shape})")
    return value


def target_of(model: nn.Module, v: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """What the likelihood scores: of the raw pixels `v`, or of fields in their place or beside them."""
    target: Callable[..., Tensor] = model.target  # type: ignore[assignment]
    return target(v, **_own(model, target, given, v))


def check_target(model: nn.Module, v: Tensor, given: Mapping[str, Tensor], names: Sequence[str] = ()) -> None:
    """Refuse images whose target, where it is of several images, is no number; of one image `check` refuses it.

    Args:
        names: What the images are called, for messages.

    Raises:
        HvdslError: it is not finite for one of them.
    """
    if not target_images(model):
        return
    finite = torch.isfinite(target_of(model, v, given)).flatten(1).all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0, 0])
        name = names[first] if names else f"image {first + 1} of {len(v)}"
        of = " and ".join(f"`{image}`" for image in target_images(model))
        raise HvdslError(
            f"the `target` of {name}, which is of {of}, is NaN or infinite somewhere: write an expression in "
            "`data` that is a finite number for all that these images hold, or leave the image out"
        )


def weight_of(model: nn.Module, given: Mapping[str, Tensor]) -> Tensor | None:
    """How much each pixel counts, `(N, 1, H, W)`; None where all count alike.

    Raises:
        HvdslError: a weight is below 0, or those of an image are all 0.
    """
    weigh: Callable[..., Tensor] | None = getattr(model, "weight", None)
    if weigh is None:
        return None
    weight = weigh(**_own(model, weigh, given, None))
    if bool((weight < 0).any()) or not bool(torch.isfinite(weight).all()):
        raise HvdslError("a `weight` of pixels is below 0 or no number: write an expression of at least 0 in `data`")
    if bool((weight.flatten(1).sum(1) == 0).any()):
        raise HvdslError("the `weight` of all pixels of an image is 0, so that nothing of it is scored: leave it out")
    return weight


def _own(
    model: nn.Module, method: Callable[..., Any], given: Mapping[str, Tensor], like: Tensor | None
) -> dict[str, Tensor]:
    """Of the fields, those that a method takes, as floats."""
    names = {c.argument or c.name: c for c in scored_of(model)}
    taken = [name for name in inspect.signature(method).parameters if name in names]
    values = {name: checked_condition(names[name], given) for name in taken}
    return {name: value.float() if like is None else value.to(like) for name, value in values.items()}


def absent(condition: Condition, count: int) -> Tensor:
    """The value of a condition that is not given, for so many images."""
    if condition.classes is not None:
        return torch.full((count,), NONE)
    return torch.full((count, *condition.stored), torch.nan)


def blank(condition: Condition, count: int) -> Tensor:
    """A value of the right form for a condition that will not be read."""
    return torch.full_like(absent(condition, count), 0 if condition.classes is None else NONE)


def without(conditions: Sequence[Condition], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with everything left out that may be."""
    known = {c.name: c for c in conditions if c.droppable}
    return {n: absent(known[n], len(value)).to(value.device) if n in known else value for n, value in given.items()}


def as_tensors(given: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Arrays as tensors: classes int64, numbers float32."""
    kinds = {name: np.int64 if value.ndim == 1 else np.float32 for name, value in given.items()}
    return {name: torch.from_numpy(np.asarray(value, kinds[name])) for name, value in given.items()}


def dropped(
    conditions: Sequence[Condition], given: Mapping[str, NDArray[Any]], chance: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """The same with droppable conditions left out where an image's `chance`, in [0, 1), is below their rate.

    An image has one chance, so that conditions of one rate are left out together: what is learned for guidance is the
    model without any of them.
    """
    remaining = dict(given)
    for condition in conditions:
        if condition.droppable and condition.name in remaining:
            value = remaining[condition.name].copy()
            value[chance < condition.drop] = NONE if condition.classes is not None else np.nan
            remaining[condition.name] = value
    return remaining
