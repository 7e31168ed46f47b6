"""Many passes over the same images: what depends on the images alone is computed once, and passes are filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from hvdsl.runtime.latents import Traversal

PASS = 2**20
"""Numbers in the largest map of a pass. Well below it the cost of each call shows; above it maps leave the cache."""


@contextmanager
def encoded_once(model: nn.Module, images: int) -> Iterator[None]:
    """Run the model's `encoder` for its `images` images once, and give every later pass what came of it.

    A pass may hold all images several times, one copy after the other. An encoder that draws latents itself, as BIVA's
    (Maaløe et al. 2019), runs in each pass, and a model without an `encoder` is left as it is.
    """
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, nn.Module):
        yield
        return
    model.encoder = _Once(encoder, images)
    try:
        yield
    finally:
        model.encoder = encoder


class _Once(nn.Module):
    """An encoder that keeps its features of the first batch, and repeats them for batches of several copies of it."""

    def __init__(self, encoder: nn.Module, images: int) -> None:
        super().__init__()
        self.encoder, self._images = encoder, images
        self._kept: Any = None
        self._shown: Any = None
        self._rows = 0

    def forward(self, *args: Any, **given: Any) -> Any:
        if any(isinstance(value, Traversal) for value in (*args, *given.values())):
            return self.encoder(*args, **given)
        rows = next(len(value) for value in (*args, *given.values()) if isinstance(value, Tensor))
        if self._kept is None:
            self._kept = self.encoder(*args, **given)
        if rows != self._rows:
            self._rows, self._shown = rows, _repeated(self._kept, rows // self._images)
        return self._shown


def _repeated(features: Any, times: int) -> Any:
    """Tensors `(N, ...)`, or lists and tuples of them, with all rows `times` times, one copy after the other."""
    if isinstance(features, list | tuple):
        return type(features)(_repeated(feature, times) for feature in features)
    if not isinstance(features, Tensor) or times == 1:
        return features
    return features.repeat(times, *(1 for _ in features.shape[1:]))


@contextmanager
def largest_map(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Listen to what the model's modules compute; gives how many numbers the largest of it has had so far."""
    largest = 1

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        yield lambda: largest
    finally:
        for hook in hooks:
            hook.remove()
