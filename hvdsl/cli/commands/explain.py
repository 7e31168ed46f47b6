"""`hvdsl explain NAME`: the longer story of a diagnostic or of a term of the objective; without a name, all of them."""

from __future__ import annotations

import argparse
import difflib

from hvdsl.cli.options.shared import add_json
from hvdsl.cli.output.explanations import code_data, code_story, term_data, term_story
from hvdsl.cli.output.json import print_json
from hvdsl.errors import HvdslError


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
            {"codes": [code_data(code) for code in known.values()], "terms": [term_data(term) for term in TERMS]}
        )
    elif args.name is None:
        print("\n".join(f"{code.id}  {code.title}" for code in known.values()))
        print("\nTerms of the objective:\n")
        print("\n".join(f"{term.name:<16}  {term.title}" for term in TERMS))
    elif code := known.get(args.name.upper()):
        print_json(code_data(code)) if args.json else print(code_story(code))
    elif term := find_term(args.name):
        print_json(term_data(term)) if args.json else print(term_story(term))
    else:
        names = {name.lower(): name for name in (*known, *(t.name for t in TERMS))}
        near = difflib.get_close_matches(args.name.lower(), names, n=1)
        hint = f"did you mean {names[near[0]]}?" if near else "`hvdsl explain` lists all of them"
        raise HvdslError(f"there is no diagnostic code or term of the objective `{args.name}`; {hint}")
    return 0
