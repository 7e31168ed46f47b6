"""`hvdsl explain CODE`: the longer story of a diagnostic; without a code, the list of all."""

from __future__ import annotations

import argparse
import difflib
import textwrap

from hvdsl.errors import HvdslError
from hvdsl.grammar.diagnostics import Code


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("code", metavar="CODE", nargs="?", help="such as HV0301; without one, all codes are listed")


def run(args: argparse.Namespace) -> int:
    from hvdsl.compiler.codes import all_codes

    known = all_codes()
    if args.code is None:
        print("\n".join(f"{code.id}  {code.title}" for code in known.values()))
        return 0
    code = known.get(args.code.upper())
    if code is None:
        near = difflib.get_close_matches(args.code.upper(), known, n=1)
        hint = f"did you mean {near[0]}?" if near else "`hvdsl explain` lists all of them"
        raise HvdslError(f"there is no diagnostic code `{args.code}`; {hint}")
    print(_story(code))
    return 0


def _story(code: Code) -> str:
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
