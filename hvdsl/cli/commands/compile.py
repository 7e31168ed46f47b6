"""`hvdsl compile SPEC -o model.py`: the spec as a PyTorch module that a person can read."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.files import write_file
from hvdsl.cli.options import add_level, add_output, add_spec, checked
from hvdsl.cli.report import report
from hvdsl.compiler.emit import emit, emit_steps, standalone
from hvdsl.compiler.model import Model
from hvdsl.errors import UsageError


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
    model = checked(args.spec, args.overrides)
    report(model.warnings)
    source = emit(model, 1 if args.level is None else args.level)
    if args.level == 2:
        if args.standalone:
            raise UsageError("-O2 compiles where hvdsl builds the module, which no standalone file does; use -O1")
        print("note: the source at -O2 is that of -O1; `train -O2` and `hvdsl.build(level=2)` compile", file=sys.stderr)
    steps = _steps(args, model) if args.steps else None
    if args.standalone:
        source, steps = standalone(source, steps or ""), None
    if args.output is None:
        sys.stdout.write(source)
        return 0
    files = {args.output: source}
    if steps is not None:
        files[args.output.with_name(f"{args.output.stem}_steps.py")] = steps
    for path, text in files.items():
        write_file(path, text)
        print(f"wrote {path} ({text.count(chr(10))} lines)", file=sys.stderr)
    return 0


def _steps(args: argparse.Namespace, model: Model) -> str:
    if not model.priors:
        raise UsageError(f"--steps: `{model.settings.model}` has no `prior`, and so nothing that is drawn step by step")
    if args.output is None and not args.standalone:
        raise UsageError("--steps writes a file beside the module: say where with `-o NAME.py`, or add --standalone")
    return emit_steps(model)
