"""`hvdsl specs list|show|copy`: the models that come with hvdsl."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from hvdsl.cli.options.shared import add_json, path
from hvdsl.cli.output import print_json
from hvdsl.errors import HvdslError, UsageError
from hvdsl.runtime.ground.disk import write_output


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_json(actions.add_parser("list", help="list names and titles"))
    show = actions.add_parser("show", help="print a spec")
    show.add_argument("name", metavar="NAME")
    copy = actions.add_parser("copy", help="copy a spec, to start your own from it")
    copy.add_argument("name", metavar="NAME")
    copy.add_argument("to", metavar="PATH", type=path, nargs="?", help="a file or folder (default: here)")


def run(args: argparse.Namespace) -> int:
    from hvdsl.compiler.assembly.files import shipped

    if args.action == "list":
        titles = {path.stem: _title(path) for path in sorted(shipped().glob("*.hv"))}
        if args.json:
            print_json({"specs": [{"name": name, "title": title} for name, title in titles.items()]})
            return 0
        longest = max((len(name) for name in titles), default=0)
        print("\n".join(f"{name:<{longest}}  {title}" for name, title in titles.items()))
        return 0
    path = _spec(args.name)
    if args.action == "show":
        sys.stdout.write(path.read_text(encoding="utf-8"))
        return 0
    return _copy(path, args.to)


def _spec(name: str) -> Path:
    from hvdsl.compiler.assembly.files import locate, shipped

    path, variant = locate(name)
    if path.parent != shipped():
        raise HvdslError(f"`{name}` is a file, not a spec that comes with hvdsl; `hvdsl specs list` names those")
    if variant:
        raise UsageError(f"`{name}` names a variant, which is a part of a file; give `{path.stem}`")
    return path


def _copy(path: Path, to: Path | None) -> int:
    target = to or Path(path.name)
    if target.is_dir():
        target = target / path.name
    if target.exists():
        raise HvdslError(f"`{target}` exists already; give another name or remove it")
    write_output(target, path.read_bytes())
    print(f"copied to {target}", file=sys.stderr)
    return 0


def _title(path: Path) -> str:
    """Read the title without parsing: listing should not fail because one file has a mistake."""
    title = re.search(r'^title\s+"([^"]*)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    return title[1] if title else ""
