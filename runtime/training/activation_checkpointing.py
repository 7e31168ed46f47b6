"""Activation checkpointing from outside: recipes compute their activations again in the backward pass (Chen 2016)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from hvdsl.runtime.layers import BatchNorm2d


def checkpoint_groups(model: nn.Module) -> int:
    """Recompute each recipe instance that stands directly in a row or a prior; says how many there are.

    Latent noise is fixed when it is first drawn, dropout's generator is restored and batch norms move their running
    statistics the first time only, so gradients and statistics are bitwise those without checkpointing. Outside
    training, or where no gradient is wanted, nothing is recomputed.
    """
    recipes = list(_outermost_recipes(model))
    for recipe in recipes:
        recipe.forward = _recomputed(recipe, recipe.forward)
    return len(recipes)


def _outermost_recipes(module: nn.Module) -> Iterator[nn.Module]:
    """Numbered siblings that are in no others and are made of others; single operations are not worth recomputing."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (m for m in child if next(m.children(), None) is not None)
        else:
            yield from _outermost_recipes(child)


def _recomputed(module: nn.Module, forward: Any) -> Any:
    norms = [part for part in module.modules() if isinstance(part, BatchNorm2d)]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_held(norms)

    @functools.wraps(forward)
    def wrapped(*args: Any) -> Any:
        if not module.training:
            return forward(*args)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts)

    return wrapped


@contextmanager
def _statistics_held(norms: list[BatchNorm2d]) -> Iterator[None]:
    """Batch norms whose running statistics stay as they are while the second forward pass runs."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
