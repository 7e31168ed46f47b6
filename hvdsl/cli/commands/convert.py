"""`hvdsl convert FILE -o FILE`: text to YAML and back; only comments are lost."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options.shared import add_output
from hvdsl.errors import UsageError
from hvdsl.runtime.ground.disk import write_output

FORMS = {".hv": "hv", ".yaml": "yaml", ".yml": "yaml"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="a .hv or .yaml file, or the name of a shipped spec")
    add_output(parser, "where to write; the ending decides the form (default: standard output)")
    parser.add_argument(
        "--to", choices=("hv", "yaml"), help="the form to write (default: that of -o, otherwise the other one)"
    )


def run(args: argparse.Namespace) -> int:
    from hvdsl.compiler.assembly.files import locate
    from hvdsl.grammar import print_text, print_yaml, read

    path, variant = locate(args.spec)
    if variant:
        raise UsageError(f"`{args.spec}` names a variant; convert works on whole files, so give `{path}`")
    form = args.to or _form_of(args.output) or ("yaml" if path.suffix == ".hv" else "hv")
    spec = read(path)
    text = print_yaml(spec) if form == "yaml" else print_text(spec)
    if args.output is None:
        sys.stdout.write(text)
    else:
        write_output(args.output, text)
    return 0


def _form_of(output: Path | None) -> str | None:
    if output is None:
        return None
    if output.suffix not in FORMS:
        raise UsageError(f"cannot tell the form of `{output}`; end it in .hv or .yaml, or give --to")
    return FORMS[output.suffix]
