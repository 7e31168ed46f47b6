"""Change constants, signs and conditions one at a time, and see whether the tests of the folder notice.

    python scripts/mutants.py --count 50 --seed 8 --seconds 60

Works on a copy of the checkout. Prints a line per mutant: killed, survived, or timed out.
`--seconds` are of processor time.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True)
class Mutant:
    """One change: the text of the expression at a place of a file, before and after."""

    file: str
    line: int
    start: int
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: `{self.before}` becomes `{self.after}`"

    def apply(self, text: str) -> str:
        return text[: self.start] + f"({self.after})" + text[self.end :]


def mutants(root: Path, folder: str) -> Iterator[Mutant]:
    """Every change that this script knows, in the order of files and lines."""
    for path in sorted((root / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        offsets = [0]
        for line in lines:
            offsets.append(offsets[-1] + len(line))
        for node in _expressions(ast.parse(text)):
            changed = _changed(node)
            if changed is None or node.end_lineno is None or node.end_col_offset is None:
                continue
            start = offsets[node.lineno - 1] + _characters(lines[node.lineno - 1], node.col_offset)
            end = offsets[node.end_lineno - 1] + _characters(lines[node.end_lineno - 1], node.end_col_offset)
            yield Mutant(str(path.relative_to(root)), node.lineno, start, end, text[start:end], ast.unparse(changed))


def _characters(line: str, octets: int) -> int:
    return len(line.encode()[:octets].decode())


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Expressions of code: no annotations, no strings and what stands in them."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.JoinedStr):
                continue
            if isinstance(child, ast.expr):
                yield child
            if isinstance(child, ast.AST):
                yield from _expressions(child)


def _changed(node: ast.expr) -> ast.expr | None:
    changed = copy.deepcopy(node)
    match changed:
        case ast.Constant(value=bool(flag)):
            changed.value = not flag
        case ast.Constant(value=int(number)):
            changed.value = number + 1
        case ast.Constant(value=float(number)):
            changed.value = number * 2 if number else 1.0
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            changed.op = SWAPS[type(op)]()  # type: ignore[assignment]  # the table keeps their kinds
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            changed.ops = [SWAPS[type(op)]()]  # type: ignore[list-item]
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            return changed.operand
        case _:
            return None
    return changed


def tests_of(root: Path, file: str) -> Path:
    """The folder of tests that is nearest to a file."""
    place = root / "tests" / Path(file).parent
    while not place.is_dir():
        place = place.parent
    return place


def limited(seconds: int) -> Callable[[], None]:
    """Called in a child: processor time, so that a busy machine changes nothing."""
    return lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def checkout(into: Path) -> Path:
    leave = shutil.ignore_patterns(".*", "build", "dist", "runs", "demo", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, into, symlinks=True, ignore=leave)
    return into


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--count", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--seconds", type=int, default=60)
    arguments.add_argument("--folders", nargs="+", default=["runtime", "compiler"])
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = checkout(Path(place) / "hvdsl")
        everything = [mutant for folder in chosen.folders for mutant in mutants(root, folder)]
        drawn = random.Random(chosen.seed).sample(everything, chosen.count)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        survived = 0
        for mutant in drawn:
            path = root / mutant.file
            text = path.read_text(encoding="utf-8")
            path.write_text(mutant.apply(text), encoding="utf-8")
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                str(tests_of(root, mutant.file)),
            ]
            done = subprocess.run(
                command, cwd=root, env=environment, capture_output=True, check=False, preexec_fn=limited(chosen.seconds)
            )
            outcome = "survived" if done.returncode == 0 else "killed" if done.returncode == 1 else "timed out"
            path.write_text(text, encoding="utf-8")
            survived += outcome == "survived"
            print(f"{outcome:9}  {mutant}", flush=True)
        print(f"{survived} of {chosen.count} survived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
