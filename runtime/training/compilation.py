"""`torch.compile` of the recipes that a model repeats, from outside: source, parameters and names stay as they are."""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.layers import Recipe

MOST_VERSIONS = 64  # graphs of one class: one for each combination of shapes, training or not, gradients or not


class CompilationError(HvdslError):
    """This machine cannot run what `torch.compile` generates."""


def compile_recipes(model: nn.Module) -> int:
    """Compile each recipe that occurs at least twice and draws no latent; says how many instances that are.

    What draws keeps running as it is written, and so do a traversal's records, noise and conditions; the recipes inside
    it are compiled. Instances of one class share their graphs. Compilation itself happens when a graph is first
    needed, 5 to 15 seconds for each.

    Raises:
        CompilationError: there is no C++ compiler (on a CPU) or no Triton (on an accelerator).
    """
    _check_machine({p.device.type for p in model.parameters()})
    counts = Counter(type(module) for module in model.modules())
    recipes = list(_repeated(model, counts))
    compiled = {type(recipe): _compiled(type(recipe).forward) for recipe in recipes}
    for recipe in recipes:
        recipe.forward = MethodType(compiled[type(recipe)], recipe)
    return len(recipes)


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Static shapes: they are few and known, and generated code is better for them."""
    options: dict[str, Any] = {"dynamic": False, "recompile_limit": MOST_VERSIONS}
    compiled: Callable[..., Any] = torch.compile(forward, **options)
    return compiled


def _repeated(module: nn.Module, counts: Counter[type[nn.Module]]) -> Iterator[nn.Module]:
    """The outermost ones; they hold others, which become part of their graphs."""
    for child in module.children():
        cls = type(child)
        draws = "latents" in inspect.signature(cls.forward).parameters
        if isinstance(child, Recipe) and counts[cls] > 1 and not draws:
            yield child
        else:
            yield from _repeated(child, counts)


def _check_machine(devices: set[str]) -> None:
    compiler = os.environ.get("CXX", "g++")
    if "cpu" in devices and shutil.which(compiler) is None:
        raise CompilationError(
            f"optimisation level 2 needs a C++ compiler, and `{compiler}` is not installed: install it, name another "
            "in the environment variable CXX, or use level 1"
        )
    if devices - {"cpu"} and importlib.util.find_spec("triton") is None:
        raise CompilationError("optimisation level 2 needs Triton on an accelerator: install it, or use level 1")
