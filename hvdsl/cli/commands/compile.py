"""`hvdsl compile SPEC -o model.py`: the spec as a PyTorch module that a person can read."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.files import write_file
from hvdsl.cli.options import add_level, add_output, add_spec, checked
from hvdsl.cli.report import report
from hvdsl.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_output(parser, "where to write the module (default: standard output)")
    add_level(parser)
    parser.add_argument(
        "--standalone", action="store_true", help="inline the layers that it uses: the file needs torch alone"
    )


def run(args: argparse.Namespace) -> int:
    from hvdsl.compiler.emit import emit

    model = checked(args.spec, args.overrides)
    report(model.warnings)
    source = emit(model, 1 if args.level is None else args.level)
    if args.level == 2:
        if args.standalone:
            raise UsageError("-O2 compiles where hvdsl builds the module, which no standalone file does; use -O1")
        print("note: the source at -O2 is that of -O1; `train -O2` and `hvdsl.build(level=2)` compile", file=sys.stderr)
    if args.standalone:
        from hvdsl.compiler.emit.standalone import standalone

        source = standalone(source)
    if args.output is None:
        sys.stdout.write(source)
    else:
        write_file(args.output, source)
        print(f"wrote {args.output} ({source.count(chr(10))} lines)", file=sys.stderr)
    return 0
