"""From a spec to a checked model, its source, its module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check, write
from hvdsl.errors import UsageError
from hvdsl.grammar import tree
from hvdsl.grammar.source import Source

if TYPE_CHECKING:
    import networkx
    from torch import nn

Override = bool | int | float | str
Overrides = Mapping[str, Override]


@dataclass(frozen=True, slots=True, repr=False)
class Compiled:
    """A compiled spec: what the compiler knows of it, and the PyTorch module as source text.

    A notebook shows it as the drawing of its hierarchy and the table of `hvdsl info`.

    Attributes:
        model: settings, graphs, warnings.
        source: the text of the module; `module().Model` is its class.
        level: the optimisation level, 0, 1 or 2.
    """

    model: Model
    source: str
    level: int = 1

    def __repr__(self) -> str:
        model, data = self.model, self.model.settings.data
        of = "codes" if data.is_codes else "x".join(map(str, data.shape))
        return f"<hvdsl.Compiled {model.settings.model}: {of}, {model.parameter_count:,} parameters, {model.groups}>"

    def _repr_html_(self) -> str:
        from hvdsl.render.table import info_html

        return f"{info_html(self.info())}\n{self._repr_svg_()}"

    def _repr_svg_(self) -> str:
        from hvdsl.draw import draw

        return draw(self.model, ".svg").decode()

    @property
    def graph(self) -> networkx.MultiDiGraph[int]:
        """The operations as nodes and the tensors between them as edges, for networkx."""
        from hvdsl.compiler.analysis.export import to_networkx

        return to_networkx(self.model.graph)

    def info(self) -> dict[str, Any]:
        """What `hvdsl info --json` says: parameters, costs and latents, in all and per resolution."""
        return info(self.model)

    def steps(self) -> str:
        """The forms in which priors over codes are sampled, position by position, as the text of another module.

        Raises:
            hvdsl.UsageError: the spec has no prior.
        """
        if not self.model.priors:
            name = self.model.settings.model
            raise UsageError(f"--steps: `{name}` has no `prior`, and so nothing that is drawn step by step")
        from hvdsl.compiler.emit import emit_steps

        return emit_steps(self.model)

    def standalone(self, *, steps: bool = False) -> str:
        """The same module, and with `steps` also what `steps()` gives, as one file that needs torch alone."""
        from hvdsl.compiler.emit import standalone

        return standalone(self.source, self.steps() if steps else "")

    def module(self) -> ModuleType:
        """The source as a Python module; `module().Model` is the model's class. Imports torch."""
        from hvdsl.compiler.load import load_module

        return load_module(self.source, self.model.settings.model)

    def build(self, seed: int = 0) -> nn.Module:
        """The model, each parameter at its first value. Equal seeds give equal values.

        At level 2 its repeated recipes are handed to `torch.compile`, which works when they first run.

        Raises:
            hvdsl.Error: level 2, where there is no compiler for what `torch.compile` generates; or the spec has priors
                over codes from a file alone, whose classes are in `module().PRIORS`.
        """
        if self.model.is_of_codes:
            name = self.model.settings.model
            raise UsageError(f"`{name}` has priors over codes alone, and no model of images: see `module().PRIORS`")
        from hvdsl.runtime.layers import initialize
        from hvdsl.workflows.calls import no_global_effect

        with no_global_effect():
            model = cast("nn.Module", self.module().Model())
            initialize(model, seed)
        if self.level == 2:
            from hvdsl.runtime.training.step.recipes import compile_recipes

            compile_recipes(model)
        return model


def compile(  # the name is the API's; whoever needs Python's own has `builtins`
    spec: str | Path | Source,
    *,
    level: int = 1,
    passes: Iterable[str] | None = None,
    variant: str | None = None,
    overrides: Overrides | None = None,
) -> Compiled:
    """Compile a spec to PyTorch. Imports no torch.

    Examples:
        >>> hvdsl.compile("vdvae_digits", overrides={"width": 16})
        <hvdsl.Compiled vdvae_digits: 1x8x8, 26,630 parameters, 8 latent groups>

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
        hvdsl.SpecError: with everything that is wrong with the spec, or that cannot be emitted.
    """
    model = check(spec, spelled(overrides), variant)
    return compiled(model, level, passes)


def compiled(model: Model, level: int = 1, passes: Iterable[str] | None = None) -> Compiled:
    """Emit a checked model."""
    return Compiled(model, write(model, level, None if passes is None else tuple(passes)), level)


def build(
    spec: str | Path | Source,
    *,
    seed: int = 0,
    level: int = 1,
    variant: str | None = None,
    overrides: Overrides | None = None,
) -> nn.Module:
    """Compile a spec, load it and give its parameters their first values.

    The module's `forward(x, latents)` takes a mapped image `(N, C, H, W)` (or None, to generate) and a
    `hvdsl.runtime.latents.Traversal`, and returns the parameters of `module.likelihood`. Arguments and errors
    are those of `compile`.

    Examples:
        >>> model = hvdsl.build("vdvae_digits", seed=1)
    """
    return compile(spec, level=level, variant=variant, overrides=overrides).build(seed)


def checked(spec: str | Path | Source | tree.Spec, overrides: Sequence[str] = (), variant: str | None = None) -> Model:
    """Return the model that a spec and `NAME=VALUE` overrides describe.

    Raises:
        SpecError: with everything that is wrong.
    """
    return check(spec, overrides, variant)


def info(model: Model) -> dict[str, Any]:
    """Return what a model costs, per resolution and in all, as JSON says it."""
    from hvdsl.compiler.analysis.summary import condition_uses, prior_summary, summary
    from hvdsl.compiler.parameter_groups import group_summary

    priors = [prior_summary(graph).to_json() for graph in model.priors.values()]
    conditions = [condition.to_json() for condition in condition_uses(model)]
    if model.is_of_codes:
        levels = model.settings.data.levels.items()
        return {
            "title": model.settings.title,
            "name": model.settings.model,
            "parameters": model.parameter_count,
            "levels": [{"name": name, **level.model_dump(exclude={"kind"})} for name, level in levels],
            "conditions": conditions,
            "priors": priors,
        }
    return {
        "title": model.settings.title,
        **summary(model.graph).to_json(),
        "conditions": conditions,
        "parameter_groups": group_summary(model.graph, model.settings.train),
        "priors": priors,
    }


def spelled(overrides: Overrides | None) -> tuple[str, ...]:
    """Return overrides as the command line takes them, `NAME=VALUE`."""
    return tuple(f"{name}={_spelled(value)}" for name, value in (overrides or {}).items())


def _spelled(value: Override) -> str:
    """A value as a spec would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
