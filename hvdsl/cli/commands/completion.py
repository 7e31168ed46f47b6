"""`hvdsl completion bash|zsh|fish`: a script that completes commands, options, their words, and shipped specs."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.output.completion import SHELLS, commands_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=[*SHELLS], help="the shell to write for; its first line says where it goes")


def run(args: argparse.Namespace) -> int:
    from hvdsl.cli.main import build_parser
    from hvdsl.compiler.assembly.files import shipped

    specs = sorted(path.stem for path in shipped().glob("*.hv"))
    commands = list(commands_of(build_parser()))
    sys.stdout.write(SHELLS[args.shell](commands, specs))
    return 0
