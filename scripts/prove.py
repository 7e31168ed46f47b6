"""Run the commands that stand behind the figures and pictures of README.md and docs/.

A figure has its command beside it, in a comment of the document:

    <!-- $ hvdsl info vdvae_cifar10 => 39,145,700 -->      the output has to contain this text
    <!-- $ python count.py => 1.73 ± 0.05 -->               or a number within these limits
    <!-- $ hvdsl viz graph SPEC -o docs/images/x.svg -->    or the command has to succeed
    <!-- $$ make demo => 1.73 ± 0.05 -->                    two signs: a long one, run with --all

`scripts/prove.sh` runs this with the project's own Python. It exits with 1 if a command fails or gives other figures.
What reads data that do not ship (`--data mnist.npz`) is told and left out where they are not in the project's folder.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMENT = re.compile(r"<!-- (\$\$?) (.*?)(?: => (.*?))? -->")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
DATA = re.compile(r"--data (\S+)")
LIMITS = re.compile(r"(-?[\d.]+) ± ([\d.]+)")


@dataclass(frozen=True)
class Claim:
    """A command in a document, and what it has to give."""

    page: str
    command: str
    expected: str
    long: bool

    def holds(self, output: str) -> bool:
        """Whether the output has the expected text, or a number within the limits."""
        limits = LIMITS.fullmatch(self.expected)
        if limits is None:
            return self.expected in output
        value, allowed = float(limits[1]), float(limits[2])
        return any(abs(float(number) - value) <= allowed for number in NUMBER.findall(output))

    def absent(self) -> str:
        """The data that the command reads and that are not there, or nothing."""
        data = DATA.search(self.command)
        return data[1] if data and not (ROOT / data[1]).exists() else ""


def claims() -> list[Claim]:
    """All of README.md and docs/, each command once."""
    found: dict[tuple[str, str], Claim] = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for sign, command, expected in COMMENT.findall(page.read_text("utf-8")):
            name = str(page.relative_to(ROOT))
            found.setdefault((command, expected), Claim(name, command, expected, sign == "$$"))
    return list(found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="the long ones, too")
    parser.add_argument("--list", action="store_true", help="run nothing, list them")
    args = parser.parse_args()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    failed = 0
    for claim in claims():
        if args.list or (claim.long and not args.all):
            print(f"{'        ' if args.list else 'not run '} {claim.page}: {claim.command} => {claim.expected}")
            continue
        if absent := claim.absent():
            print(f"no data  {claim.page}: {claim.command} => {claim.expected}  (there is no {absent})")
            continue
        started = time.monotonic()
        done = subprocess.run(
            claim.command, shell=True, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        held = done.returncode == 0 and claim.holds(done.stdout + done.stderr)
        failed += not held
        verdict = "holds   " if held else "FAILS   "
        print(f"{verdict} {claim.page}: {claim.command} => {claim.expected}  ({time.monotonic() - started:.1f} s)")
        if not held:
            print((done.stdout + done.stderr)[-2000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
