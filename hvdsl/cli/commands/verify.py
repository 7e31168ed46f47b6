"""`hvdsl verify RUN`: is every file of a run what it should be, and which checkpoint is the newest good one?"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from hvdsl.cli.options.shared import add_json, path

if TYPE_CHECKING:
    from hvdsl.workflows.verify import Check, Verification


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=path, help="a run folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from hvdsl.cli.output import print_json
    from hvdsl.workflows.verify import verify

    found = verify(args.run, Console(stderr=True))
    good = all(one.good for one in found)
    if args.json:
        print_json({"ok": good, "runs": [one.as_json() for one in found]})
    else:
        for one in found:
            _show(one)
    return 0 if good else 1


def _show(found: Verification) -> None:
    from hvdsl.render.numbers import in_bytes

    def line(check: Check) -> str:
        size = "" if not check.good or check.bytes is None else f", {check.files} files, {in_bytes(check.bytes)}"
        return f"{'good' if check.good else 'DAMAGED':<8} {check.path:<{longest}}  {check.about}{size}"

    longest = max((len(check.path) for check in found.checks), default=0)
    print(found.run)
    print("\n".join(line(check) for check in found.checks))
    if found.newest_good is None:
        print("there is no good checkpoint")
    elif found.newest_good == found.newest:
        print(f"newest checkpoint, good: step {found.newest_good}")
    else:
        again = f"hvdsl train --resume --checkpoint {found.newest_good} --out {shlex.quote(str(found.run))}"
        print(f"newest good checkpoint: step {found.newest_good}; `{again}` goes on from it")
