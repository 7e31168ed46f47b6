"""`hvdsl explain NAME`: the longer story of a diagnostic or of a term of the objective; without a name, all of them."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from typing import TYPE_CHECKING

from hvdsl.cli.options.shared import add_json
from hvdsl.cli.output import print_json
from hvdsl.errors import HvdslError

if TYPE_CHECKING:
    from hvdsl.compiler.catalogue.objective_terms import ObjectiveTerm
    from hvdsl.grammar.diagnostics import Code


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="a diagnostic code such as HV0301, or a term of the objective such as `spectral` or a name that it is "
        "logged under; without one, all are listed",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from hvdsl.compiler.catalogue.objective_terms import TERMS, find_term
    from hvdsl.compiler.diagnostics import all_codes

    known = all_codes()
    if args.name is None and args.json:
        print_json(
            {"codes": [_code_data(code) for code in known.values()], "terms": [_term_data(term) for term in TERMS]}
        )
    elif args.name is None:
        print("\n".join(f"{code.id}  {code.title}" for code in known.values()))
        print("\nTerms of the objective:\n")
        print("\n".join(f"{term.name:<16}  {term.title}" for term in TERMS))
    elif code := known.get(args.name.upper()):
        print_json(_code_data(code)) if args.json else print(_code_story(code))
    elif term := find_term(args.name):
        print_json(_term_data(term)) if args.json else print(_term_story(term))
    else:
        names = {name.lower(): name for name in (*known, *(t.name for t in TERMS))}
        near = difflib.get_close_matches(args.name.lower(), names, n=1)
        hint = f"did you mean {names[near[0]]}?" if near else "`hvdsl explain` lists all of them"
        raise HvdslError(f"there is no diagnostic code or term of the objective `{args.name}`; {hint}")
    return 0


def _code_data(code: Code) -> dict[str, object]:
    """Return a diagnostic as JSON says it."""
    return {
        "code": code.id,
        "title": code.title,
        "severity": str(code.severity),
        "explanation": " ".join(code.explanation.split()),
        "bad": code.bad,
        "good": code.good,
    }


def _term_data(term: ObjectiveTerm) -> dict[str, object]:
    """Return a term of the objective as JSON says it."""
    logged = [{"name": value.name, "unit": value.unit, "meaning": value.meaning} for value in term.metrics]
    return {"term": term.name, "title": term.title, "story": " ".join(term.story.split()), "logged": logged}


def _term_story(term: ObjectiveTerm) -> str:
    """Return a term of the objective as a person reads it."""
    paragraphs = [f"{term.name}: {term.title}", _filled(term.story)]
    if term.logged:
        values = "\n".join(f"{v.name}: {v.meaning}" + (f" ({v.unit})" if v.unit != "–" else "") for v in term.metrics)
        paragraphs += ["Logged as:", _indented(values)]
    return "\n\n".join(paragraphs)


def _code_story(code: Code) -> str:
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
