"""The trip of a spec: read -> assemble -> elaborate -> CHECKS -> PASSES -> emit.

`assemble` reads the files, closes the spec and settles its settings; `elaborate` expands its recipes to graphs; each of
`CHECKS` says what is wrong with the whole; each of `PASSES` rewrites the model's graph; `emit` writes the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.compiler.assembly.assemble import Assembled, UnsettledError, assemble
from hvdsl.compiler.checks import CHECKS, OF_PRIORS
from hvdsl.compiler.diagnostics.names import NO_SECTION
from hvdsl.compiler.diagnostics.warnings import UNCHECKED_VARIANTS, VARIANT_OVER_ANOTHER
from hvdsl.compiler.elaboration.elaborate import elaborate
from hvdsl.compiler.model import Model
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Severity, SpecError
from hvdsl.grammar.source import Source

if TYPE_CHECKING:
    from hvdsl.compiler.passes import PASSES


__all__ = ["CHECKS", "PASSES", "check", "check_variants", "optimise", "write"]

MOST_VARIANTS = 16  # that are checked with a spec


def check(
    spec: str | Path | Source | tree.Spec,
    overrides: Sequence[str] = (),
    variant: str | None = None,
    base: Path | None = None,
) -> Model:
    """Return the model that a spec describes, everything about it known and checked; no tensor is made.

    `spec` is a file (`model.hv`, `model.hv@NAME`, the name of a shipped spec), a text, or a tree; `overrides`
    are `name=value` and `section.key=value`; `base` is the folder where `use` looks first for a text or tree.
    `Model.warnings` holds what is questionable and not allowed by a comment `# hv: allow HV0905` on its line.
    Raises `SpecError` with everything that is wrong.
    """
    try:
        closed = assemble(spec, overrides, variant, base)
    except UnsettledError as error:
        raise SpecError([*error.diagnostics, *_beside(error.closed)]) from None
    model = elaborate(closed)
    model = replace(model, warnings=(*model.warnings, *closed.unread))
    diagnostics = Diagnostics()
    for diagnostic in model.warnings:
        diagnostics.add(diagnostic)
    for rule in OF_PRIORS if model.is_of_codes else CHECKS:
        for diagnostic in rule(model):
            diagnostics.add(diagnostic)
    diagnostics.stop_if_failed()
    return replace(model, warnings=tuple(d for d in diagnostics if not _allowed(d)))


def check_variants(
    model: Model, spec: str | Path | Source | tree.Spec, overrides: Sequence[str] = (), base: Path | None = None
) -> tuple[Diagnostic, ...]:
    """Return what is wrong with the variants of a spec that is right itself: each is laid over it, alone.

    `model` is what `check` gave for the same arguments. Errors are told where they are, "in variant `NAME`", but a
    variant that is right when it is laid over another one is only warned of (HV0914). Of more than `MOST_VARIANTS` none
    is tried (HV0913), so that the work stays within a small multiple of one check.
    """
    if len(model.variants) > MOST_VARIANTS:
        first = model.variants[0]
        message = f"{len(model.variants)} variants were not checked"
        help = f"check one where it is chosen, as `@{first}` behind the name of the file"
        return (Diagnostic(UNCHECKED_VARIANTS, message, None, "", f"at most {MOST_VARIANTS}", help),)
    failed = {name: errors for name in model.variants if (errors := _errors(spec, overrides, name, base))}
    wrong: list[Diagnostic] = []
    tries = MOST_VARIANTS  # of pairs, so that the work stays bounded
    for name, errors in failed.items():
        below = [other for other in model.variants if other != name][:tries]
        over = next((other for other in below if not _errors(spec, overrides, f"{other}@{name}", base)), None)
        tries -= len(below) if over is None else below.index(over) + 1
        if over is None:
            wrong += [replace(d, message=f"{d.message}, in variant `{name}`") for d in errors]
            continue
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        message = f"variant `{name}` is wrong alone ({errors[0].message}{more}), and right over `{over}`"
        help = f"choose it as `@{over}@{name}` behind the name of the file"
        wrong.append(Diagnostic(VARIANT_OVER_ANOTHER, message, errors[0].span, help=help))
    return tuple(d for d in wrong if not _allowed(d))


def _errors(
    spec: str | Path | Source | tree.Spec, overrides: Sequence[str], variant: str, base: Path | None
) -> list[Diagnostic]:
    """What is wrong with a spec under one variant, or several, one laid over the other."""
    try:
        check(spec, overrides, variant, base)
    except SpecError as error:
        return [d for d in error.diagnostics if d.severity is Severity.ERROR]
    return []


def _beside(closed: Assembled | None) -> tuple[Diagnostic, ...]:
    """What is wrong in the rest of a spec whose settings are wrong."""
    if closed is None:
        return ()
    try:
        if elaborate(closed).is_of_codes:  # which needs no settings but `levels`
            return ()
    except SpecError as error:
        return tuple(d for d in error.diagnostics if d.code is not NO_SECTION)  # the first of all to be told
    raise TypeError("a spec with wrong settings was elaborated to the end")


def optimise(model: Model, level: int = 1, passes: Sequence[str] | None = None) -> Model:
    """Rewrite a model's graph by the passes of a level, or by those named, in the order of `PASSES`.

    `level` 0 is operation by operation what the spec says. Priors stay as they are.

    Raises:
        SpecError: HV0802 for an unknown pass, HV0804 for an unknown level.
    """
    from hvdsl.compiler.passes import chosen  # which `check` and `info` do not need

    if model.is_of_codes:
        return model
    graph = model.graph
    for step in chosen(level, passes):
        graph = step.rewrite(graph)
    return replace(model, graph=graph)


def write(model: Model, level: int = 1, passes: Sequence[str] | None = None) -> str:
    """Write the PyTorch module of a checked model, optimised as `optimise` does. Equal models give equal bytes.

    Raises:
        SpecError: as `optimise`; HV08xx with every operation that cannot be emitted.
    """
    from hvdsl.compiler.emit import emit  # which `check` and `info` do not need

    return emit(optimise(model, level, passes))


def __getattr__(name: str) -> object:
    if name == "PASSES":
        from hvdsl.compiler.passes import PASSES

        return PASSES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_ALLOW = re.compile(r"#\s*hv:\s*allow\s+(HV\d{4}(?:[\s,]+HV\d{4})*)")


def _allowed(diagnostic: Diagnostic) -> bool:
    """Whether a comment on the line where a warning begins names its code. Errors cannot be allowed."""
    span = diagnostic.span
    if span is None or diagnostic.severity is not Severity.WARNING:
        return False
    found = _ALLOW.search(span.source.line(span.line))
    return found is not None and diagnostic.code.id in found[1]
