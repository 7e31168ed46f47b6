"""Rewrites of the graph between elaboration and emission: each is a pure function from graph to graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hvdsl.compiler.diagnostics.emission import UNKNOWN_LEVEL, UNKNOWN_PASS
from hvdsl.compiler.graph import Graph
from hvdsl.compiler.passes.channels_last import channels_last
from hvdsl.compiler.passes.fuse_batch_norm import fuse_batch_norm
from hvdsl.compiler.passes.low_precision import cast_before_activations
from hvdsl.compiler.passes.split_concat import split_concat
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar.diagnostics import Diagnostic, SpecError

__all__ = ["LEVELS", "PASSES", "Pass", "chosen"]

LEVELS = (0, 1, 2)  # 2 has the passes of 1: `torch.compile` comes where the module is built


class Pass(NamedTuple):
    """A rewrite that keeps the mathematics and the name of every parameter. It is on from its `level` up."""

    name: str
    rewrite: Callable[[Graph], Graph]
    level: int


PASSES = (
    Pass("split_concat", split_concat, 1),
    Pass("fuse_batch_norm", fuse_batch_norm, 1),
    Pass("channels_last", channels_last, 1),
    Pass("low_precision", cast_before_activations, 1),
)


def chosen(level: int = 1, names: Sequence[str] | None = None) -> tuple[Pass, ...]:
    """Return the passes of a level, or those named, in the order of `PASSES`.

    Raises:
        SpecError: HV0802 for an unknown pass, HV0804 for an unknown level.
    """
    if level not in LEVELS:
        message = f"there is no optimisation level {level}"
        raise SpecError([Diagnostic(UNKNOWN_LEVEL, message, None, str(level), "0, 1 or 2")])
    known = [p.name for p in PASSES]
    for name in names or ():
        if name not in known:
            message = f"unknown pass `{name}`"
            expected = ", ".join(f"`{k}`" for k in known)
            raise SpecError([Diagnostic(UNKNOWN_PASS, message, None, f"`{name}`", expected, did_you_mean(name, known))])
    return tuple(p for p in PASSES if (p.level <= level if names is None else p.name in names))
