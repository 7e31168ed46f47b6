"""The longer stories of diagnostics and of terms of the objective, for people and for programs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from hvdsl.grammar.diagnostics import Code

if TYPE_CHECKING:
    from hvdsl.compiler.catalogue.objective_terms import ObjectiveTerm


def code_data(code: Code) -> dict[str, object]:
    """Return a diagnostic as JSON says it."""
    return {
        "code": code.id,
        "title": code.title,
        "severity": str(code.severity),
        "explanation": " ".join(code.explanation.split()),
        "bad": code.bad,
        "good": code.good,
    }


def term_data(term: ObjectiveTerm) -> dict[str, object]:
    """Return a term of the objective as JSON says it."""
    logged = [{"name": value.name, "unit": value.unit, "meaning": value.meaning} for value in term.metrics]
    return {"term": term.name, "title": term.title, "story": " ".join(term.story.split()), "logged": logged}


def term_story(term: ObjectiveTerm) -> str:
    """Return a term of the objective as a person reads it."""
    paragraphs = [f"{term.name}: {term.title}", _filled(term.story)]
    if term.logged:
        values = "\n".join(f"{v.name}: {v.meaning}" + (f" ({v.unit})" if v.unit != "–" else "") for v in term.metrics)
        paragraphs += ["Logged as:", _indented(values)]
    return "\n\n".join(paragraphs)


def code_story(code: Code) -> str:
    """Return a diagnostic as a person reads it, with its examples."""
    paragraphs = [f"{code.severity} {code.id}: {code.title}", _filled(code.explanation)]
    if code.bad:
        paragraphs += ["This gives it:", _indented(code.bad)]
    if code.good:
        paragraphs += ["This is right:", _indented(code.good)]
    return "\n\n".join(paragraphs)


def _filled(text: str) -> str:
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(p.split()), 100, break_on_hyphens=False) for p in paragraphs)


def _indented(example: str) -> str:
    return textwrap.indent(textwrap.dedent(example).strip("\n"), "    ")
