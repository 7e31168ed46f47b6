"""`hvdsl compile SPEC -o model.py`: the spec as a PyTorch module that a person can read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hvdsl.cli.options.shared import add_level, add_output, add_spec
from hvdsl.cli.output import print_diagnostics
from hvdsl.errors import UsageError
from hvdsl.grammar.files import SUFFIXES
from hvdsl.runtime.ground.disk import write_output
from hvdsl.workflows.compiling import Compiled, checked, compiled


def configure(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_output(parser, "where to write the module (default: standard output)")
    add_level(parser)
    parser.add_argument(
        "--standalone", action="store_true", help="inline the layers that it uses: the file needs torch alone"
    )
    parser.add_argument(
        "--steps",
        action="store_true",
        help="also write the forms in which priors are sampled, position by position: NAME_steps.py beside NAME.py, or "
        "into the one file with --standalone",
    )


def run(args: argparse.Namespace) -> int:
    if args.output is not None and args.output.suffix in SUFFIXES:  # it may be the spec itself
        raise UsageError(f"a module cannot be written as `{args.output}`: give a file that ends in .py")
    model = checked(args.spec, args.overrides)
    print_diagnostics(model.warnings)
    result = compiled(model, 1 if args.level is None else args.level)
    if args.level == 2:
        if args.standalone:
            raise UsageError("-O2 compiles where hvdsl builds the module, which no standalone file does; use -O1")
        print("note: the source at -O2 is that of -O1; `train -O2` and `hvdsl.build(level=2)` compile", file=sys.stderr)
    if args.steps and args.output is None and not args.standalone:
        raise UsageError("--steps writes a file beside the module: say where with `-o NAME.py`, or add --standalone")
    files = _files(result, args)
    if args.output is None:
        sys.stdout.write(files[None])
        return 0
    for path, text in files.items():
        if path is not None:
            write_output(path, text)
            print(f"wrote {path} ({text.count(chr(10))} lines)", file=sys.stderr)
    return 0


def _files(result: Compiled, args: argparse.Namespace) -> dict[Path | None, str]:
    """The texts to write by their places; None is standard output."""
    if args.standalone:
        return {args.output: result.standalone(steps=args.steps)}
    files: dict[Path | None, str] = {args.output: result.source}
    if args.steps:
        files[args.output.with_name(f"{args.output.stem}_steps.py")] = result.steps()
    return files
