"""`hvdsl compile SPEC -o model.py`: the spec as a PyTorch module that a person can read."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.files import write_file
from hvdsl.cli.options import add_output, add_spec, checked
from hvdsl.cli.report import report


def configure(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_output(parser, "where to write the module (default: standard output)")
    level = parser.add_mutually_exclusive_group()
    for n, meaning in enumerate(
        ("exactly what the spec says", "rewrites that keep the mathematics (default)", "also torch.compile")
    ):
        level.add_argument(f"-O{n}", action="store_const", const=n, dest="level", default=1, help=meaning)
    parser.add_argument(
        "--standalone", action="store_true", help="inline the layers that it uses: the file needs torch alone"
    )


def run(args: argparse.Namespace) -> int:
    from hvdsl.compiler.emit import emit

    model = checked(args.spec, args.overrides)
    report(model.warnings)
    source = emit(model, args.level)
    if args.standalone:
        from hvdsl.compiler.emit.standalone import standalone

        source = standalone(source)
    if args.output is None:
        sys.stdout.write(source)
    else:
        write_file(args.output, source)
        print(f"wrote {args.output} ({source.count(chr(10))} lines)", file=sys.stderr)
    return 0
