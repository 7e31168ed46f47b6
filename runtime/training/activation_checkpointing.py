"""Activation checkpointing from outside: recipes compute their activations again in the backward pass (Chen 2016)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from hvdsl.runtime.layers import BatchNorm2d, Own, Recipe


def checkpoint_groups(model: nn.Module) -> int:
    """Recompute each recipe instance that is in no other, if it holds parameters; says how many there are.

    Latent noise is fixed when it is first drawn, dropout's generator is restored and batch norms move their running
    statistics the first time only, so gradients and statistics are bitwise those without checkpointing. Outside
    training, or where no gradient is wanted, nothing is recomputed. A shared instance that some use calls with
    parameters of its own is left alone: recomputation would find the instance's parameters in their place.
    """
    called_otherwise = {id(part.shared) for part in model.modules() if isinstance(part, Own)}
    recipes = list(_outermost_recipes(model, called_otherwise))
    for recipe in recipes:
        recipe.forward = MethodType(_recomputed(_unbound(recipe)), recipe)  # bound: a copy's is its own
    return len(recipes)


def _outermost_recipes(module: nn.Module, left_alone: set[int]) -> Iterator[nn.Module]:
    for child in module.children():
        if id(child) in left_alone:
            continue
        if isinstance(child, Recipe):
            if next(child.parameters(), None) is not None:
                yield child
        else:
            yield from _outermost_recipes(child, left_alone)


def _unbound(module: nn.Module) -> Callable[..., Any]:
    """What `forward` runs, be it the class's or one that was put in its place, such as a compiled one."""
    forward: Any = module.forward
    function: Callable[..., Any] = forward.__func__
    return function


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def wrapped(self: nn.Module, *args: Any) -> Any:
        if not self.training:
            return forward(self, *args)
        norms = [part for part in self.modules() if isinstance(part, BatchNorm2d)]

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _statistics_held(norms)

        return checkpoint(forward, self, *args, use_reentrant=False, context_fn=contexts)

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
