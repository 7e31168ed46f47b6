"""The public API: from a spec to source, to a module, to the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from hvdsl.compiler.emit import standalone
from hvdsl.compiler.load import load
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check, write
from hvdsl.grammar.source import Source

if TYPE_CHECKING:
    import networkx
    from torch import nn

Override = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled spec: what the compiler knows of it, and the PyTorch module as source text."""

    model: Model
    source: str
    level: int = 1

    @property
    def graph(self) -> networkx.MultiDiGraph[int]:
        """The operations as nodes and the tensors between them as edges, for networkx."""
        from hvdsl.compiler.analysis.export import to_networkx

        return to_networkx(self.model.graph)

    def standalone(self) -> str:
        """The same module as one file that needs torch alone."""
        return standalone(self.source)

    def module(self) -> ModuleType:
        """The source as a Python module; `module().Model` is the model's class. Imports torch."""
        return load(self.source, self.model.settings.model)

    def build(self, seed: int = 0) -> nn.Module:
        """The model, each parameter at its first value. Equal seeds give equal values.

        At level 2 its repeated recipes are handed to `torch.compile`, which works when they first run.

        Raises:
            CompilationError: level 2, where there is no compiler for what `torch.compile` generates.
        """
        from hvdsl.runtime.layers import initialize

        model = cast("nn.Module", self.module().Model())
        initialize(model, seed)
        if self.level == 2:
            from hvdsl.runtime.training.compilation import compile_recipes

            compile_recipes(model)
        return model


def compile(  # the name is the API's; whoever needs Python's own has `builtins`
    spec: str | Path | Source,
    *,
    level: int = 1,
    passes: Iterable[str] | None = None,
    variant: str | None = None,
    overrides: Mapping[str, Override] | None = None,
) -> Compiled:
    """Compile a spec to PyTorch. Imports no torch.

    Args:
        spec: a file (`model.hv`, `model.hv@VARIANT`), the name of a shipped spec, or a `Source` for text that
            is in no file.
        level: 0 computes operation by operation what the spec says; 1 applies rewrites that keep the
            mathematics and every parameter's name; 2 has the same source as 1, and `build` compiles the
            recipes that it repeats with `torch.compile`.
        passes: names of the rewrites to apply, in place of the level's own.
        variant: the variant of the spec, where it is not named behind an `@`.
        overrides: `let`s and settings, as `{"width": 64, "train.batch": 16}`.

    Raises:
        SpecError: with everything that is wrong with the spec, or that cannot be emitted.
    """
    model = check(spec, [f"{name}={_spelled(value)}" for name, value in (overrides or {}).items()], variant)
    return Compiled(model, write(model, level, None if passes is None else tuple(passes)), level)


def build(
    spec: str | Path | Source,
    *,
    seed: int = 0,
    level: int = 1,
    variant: str | None = None,
    overrides: Mapping[str, Override] | None = None,
) -> nn.Module:
    """Compile a spec, load it and give its parameters their first values.

    The module's `forward(x, latents)` takes a mapped image (or None, to generate) and a
    `hvdsl.runtime.latents.Traversal`, and returns the parameters of `module.likelihood`. Arguments and errors
    are those of `compile`.
    """
    return compile(spec, level=level, variant=variant, overrides=overrides).build(seed)


def _spelled(value: Override) -> str:
    """A value as a spec would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
