"""`hvdsl fmt FILE…`: the canonical form, in place."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.disk import write_output

WOULD_CHANGE = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="a .hv file, or - for standard input")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="change nothing; exit with 3 if a file would change")
    how.add_argument("--diff", action="store_true", help="change nothing; print what would change")


def run(args: argparse.Namespace) -> int:
    changed = [name for name in args.files if _format(name, args)]
    return WOULD_CHANGE if args.check and changed else 0


def _format(name: str, args: argparse.Namespace) -> bool:
    """Format one file as the options say; return whether it differs from its canonical form."""
    from hvdsl.grammar import format_text
    from hvdsl.grammar.source import Source

    if name != "-" and Path(name).suffix != ".hv":
        raise HvdslError(f"`{name}` is not a .hv file; only the text form has a canonical layout")
    text = sys.stdin.read() if name == "-" else _read(Path(name))
    canonical = format_text(Source("<stdin>" if name == "-" else name, text))
    differs = canonical != text
    if args.check:
        if differs:
            print(f"{name} would change", file=sys.stderr)
    elif args.diff:
        lines = difflib.unified_diff(
            text.splitlines(keepends=True), canonical.splitlines(keepends=True), name, f"{name} (formatted)"
        )
        sys.stdout.writelines(lines)
    elif name == "-":
        sys.stdout.write(canonical)
    elif differs:
        write_output(Path(name), canonical)
        print(f"formatted {name}", file=sys.stderr)
    return differs


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as failure:
        raise HvdslError(f"`{path}` is not UTF-8 text (byte {failure.start}); save it as UTF-8") from None
