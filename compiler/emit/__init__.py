"""Emission: from a graph to the source of a Python module that a person would be glad to have written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from hvdsl.compiler.emit.module import module_text, priors_text, steps_text
from hvdsl.compiler.emit.modules.classes import check_classes
from hvdsl.compiler.emit.standalone import standalone
from hvdsl.compiler.model import Model
from hvdsl.grammar import print_text

__all__ = ["check_classes", "emit", "emit_priors", "emit_steps", "standalone"]


def emit(model: Model) -> str:
    """Write the PyTorch module of a model and of its priors as their graphs are. Equal models give equal bytes.

    Of priors over codes from a file it has these alone, as table `PRIORS`.

    Raises:
        SpecError: HV08xx, with every operation that cannot be emitted.
    """
    if model.is_of_codes:
        return emit_priors(model)
    settings = model.settings
    digest = _digest(model)
    return module_text(model.graph, model.priors, model.likelihood, settings.data, settings.title, digest, _version())


def emit_priors(model: Model) -> str:
    """Write a module of a model's second-stage priors alone."""
    settings = model.settings
    return priors_text(settings.model, model.priors, settings.title, _digest(model), _version())


def emit_steps(model: Model, latents: Sequence[str] | None = None) -> str:
    """Write a module of the forms in which second-stage priors are drawn position by position, as table `STEPS`.

    Its classes take a prior that `emit` or `emit_priors` wrote. Those of all latents, or of the `latents` named.

    Raises:
        SpecError: HV0801, for a prior without such a form; `check` has then raised it before.
    """
    settings, wanted = model.settings, list(model.priors) if latents is None else latents
    return steps_text(settings.model, model.priors, wanted, settings.title, _digest(model), _version())


def _digest(model: Model) -> str:
    return hashlib.sha256(print_text(model.resolved).encode()).hexdigest()


def _version() -> str:
    try:
        return version("hvdsl")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "(not installed)"
