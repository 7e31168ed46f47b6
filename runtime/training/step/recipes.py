"""Recipes of a model treated from outside, source, parameters and names staying as they are.

Activation checkpointing computes their activations again in the backward pass (Chen et al. 2016); optimisation level 2
has `torch.compile` on those that a model repeats.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hvdsl.errors import HvdslError
from hvdsl.runtime.layers import BatchNorm2d, Own, Recipe
from hvdsl.runtime.layers.norms import statistics_held
from hvdsl.runtime.training.step.fast_paths import compilation_cache


def checkpoint_groups(model: nn.Module, names: Collection[str] | None = None) -> int:
    """Recompute each recipe instance that is in no other, if it holds parameters; says how many there are.

    Latent noise is fixed when it is first drawn, dropout's generator is restored and batch norms move their running
    statistics the first time only, so gradients and statistics are bitwise those without checkpointing. Outside
    training, or where no gradient is wanted, nothing is recomputed. A shared instance that some use calls with
    parameters of its own is left alone: recomputation would find the instance's parameters in their place.

    Args:
        names: Of those to recompute, as in `named_modules`; None: all.

    Raises:
        ValueError: One of the names is of no such instance.
    """
    called_otherwise = {id(part.shared) for part in model.modules() if isinstance(part, Own)}
    recipes = list(_outermost_recipes(model, called_otherwise))
    if names is not None:
        known = {id(recipe) for recipe in recipes}
        recipes = [model.get_submodule(name) for name in names]
        if not all(id(recipe) in known for recipe in recipes):
            raise ValueError(f"not all of {', '.join(names)} are recipe instances outside of others, with parameters")
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
            return nullcontext(), statistics_held(norms)

        return checkpoint(forward, self, *args, use_reentrant=False, context_fn=contexts)

    return wrapped


MOST_VERSIONS = 64  # graphs of one class: one for each combination of shapes, training or not, gradients or not


class CompilationError(HvdslError):
    """This machine cannot run what `torch.compile` generates."""


def compile_recipes(model: nn.Module) -> int:
    """Compile each recipe that occurs at least twice and draws no latent; says how many instances that are.

    What draws keeps running as it is written, and so do a traversal's records, noise and conditions; the recipes inside
    it are compiled. Instances of one class share their graphs. Compilation itself happens when a graph is first
    needed, 5 to 15 seconds for each; what it generates is kept in the user's folder for caches, unless
    `TORCHINDUCTOR_CACHE_DIR` names another.

    Raises:
        CompilationError: there is no C++ compiler (on a CPU) or no Triton (on an accelerator).
    """
    check_machine({p.device.type for p in model.parameters()})
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compilation_cache()))
    counts = Counter(type(module) for module in model.modules())
    recipes = list(_repeated(model, counts))
    compiled = {type(recipe): _compiled(type(recipe).forward) for recipe in recipes}
    for recipe in recipes:
        recipe.forward = MethodType(compiled[type(recipe)], recipe)
    return len(recipes)


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Static shapes: they are few and known, and generated code is better for them."""
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        options: dict[str, Any] = {"recompile_limit": MOST_VERSIONS}
        compiled: Callable[..., Any] = torch.compile(forward, dynamic=False, **options)
        return compiled
    return _limited(torch.compile(forward, dynamic=False), forward)


def _limited(compiled: Callable[..., Any], forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same limit while it is called, by the compiler's own settings: torch before 2.13 takes none of a function."""

    @functools.wraps(forward)
    def called(*args: Any, **kwargs: Any) -> Any:
        with torch._dynamo.config.patch(recompile_limit=MOST_VERSIONS):
            return compiled(*args, **kwargs)

    return called


def _repeated(module: nn.Module, counts: Counter[type[nn.Module]]) -> Iterator[nn.Module]:
    """The outermost ones; they hold others, which become part of their graphs."""
    for child in module.children():
        cls = type(child)
        draws = "latents" in inspect.signature(cls.forward).parameters
        if isinstance(child, Recipe) and counts[cls] > 1 and not draws:
            yield child
        else:
            yield from _repeated(child, counts)


def check_machine(devices: set[str]) -> None:
    """Refuse to compile where what is needed for it is not installed.

    Raises:
        CompilationError: it is named, with the way out.
    """
    compiler = os.environ.get("CXX", "g++")
    if "cpu" in devices and shutil.which(compiler) is None:
        raise CompilationError(
            f"optimisation level 2 needs a C++ compiler, and `{compiler}` is not installed: install it, name another "
            "in the environment variable CXX, or use level 1"
        )
    if devices - {"cpu"} and importlib.util.find_spec("triton") is None:
        raise CompilationError("optimisation level 2 needs Triton on an accelerator: install it, or use level 1")
