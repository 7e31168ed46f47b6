"""Write the documents that the code is the source of: operations, diagnostic codes, commands, terms of the objective.

`python scripts/generate_docs.py` rewrites them; with `--check` it names those that are stale and exits with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hvdsl.cli.main import COMMANDS, build_parser
from hvdsl.compiler.catalogue.objective_terms import TERMS
from hvdsl.compiler.catalogue.reference import markdown
from hvdsl.compiler.diagnostics import all_codes

DOCS = Path(__file__).parents[1] / "docs"
NOTE = "<!-- Written by scripts/generate_docs.py (`make docs`): do not edit. -->\n"
EXIT_CODES = (
    "Exit codes: 0 fine, 1 the input is wrong or the work failed, 2 usage, 3 `fmt --check` would change a file, "
    "70 a bug of ours, 130 interrupted by Ctrl-C. Training that is stopped by a signal finishes its step, saves, says "
    "how to go on, and ends with 128 and the signal's number: 129 SIGHUP, 130 SIGINT (a second one leaves at once, "
    "without saving), 143 SIGTERM. Of several processes all end alike, whichever the signal came to. SIGUSR1 saves and "
    "goes on."
)


def operations() -> str:
    return (
        f"# Operations\n\n{NOTE}\nWhat a spec can be built from. Values in signatures are defaults; shapes are "
        f"channels x height x width.\n\n{markdown()}"
    )


def codes() -> str:
    parts = [f"# Diagnostic codes\n\n{NOTE}\n`hvdsl explain CODE` tells the same in the terminal.\n"]
    for code in all_codes().values():
        parts.append(f"## {code.id}: {code.title}\n\n*{code.severity}.* {' '.join(code.explanation.split())}\n")
        if code.bad:
            parts.append(f"This gives it:\n\n```\n{_shown(code.bad)}\n```\n")
        if code.good:
            parts.append(f"This is right:\n\n```\n{_shown(code.good)}\n```\n")
    return "\n".join(parts)


def _shown(example: str) -> str:
    """An example as text: a control character by its number."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in example.strip())


def commands() -> str:
    os.environ["COLUMNS"] = "100"  # argparse wraps to the terminal
    parts = [f"# Commands\n\n{NOTE}\n{EXIT_CODES}\n"]
    for name, _, _ in COMMANDS:
        subparsers = next(a for a in build_parser(name)._actions if isinstance(a, argparse._SubParsersAction))
        parts.append(f"## hvdsl {name}\n\n```\n{subparsers.choices[name].format_help().strip()}\n```\n")
    return "\n".join(parts)


def objective() -> str:
    """The document as it is, with the table and the stories of the terms between its two marks."""
    text = (DOCS / "objective.md").read_text("utf-8")
    start, end = "(`make docs`) -->\n", "<!-- end of terms -->"
    before, _, rest = text.partition(start)
    rows = ["| name in `metrics.jsonl` | unit | what it is |", "|---|---|---|"]
    rows += [
        f"| `{value.name}` | {value.unit} | {value.meaning.replace('|', chr(92) + '|')} |"
        for term in TERMS
        for value in term.metrics
    ]
    stories = [f"**`{term.name}`**, {term.title}. {term.story}" for term in TERMS]
    written = "\n\n".join(["`hvdsl explain NAME` explains each term.", "\n".join(rows), *stories])
    return f"{before}{start}\n{written}\n\n{end}{rest.partition(end)[2]}"


DOCUMENTS: dict[str, Callable[[], str]] = {
    "operations.md": operations,
    "codes.md": codes,
    "commands.md": commands,
    "objective.md": objective,
}


def stale() -> list[str]:
    """Return the documents that differ from what the code says."""
    return [name for name, write in DOCUMENTS.items() if not _same(DOCS / name, write())]


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale")
    if parser.parse_args().check:
        found = stale()
        print(
            "\n".join(f"docs/{name} is stale: run `make docs`" for name in found) or "generated documents are current"
        )
        return 1 if found else 0
    for name, write in DOCUMENTS.items():
        (DOCS / name).write_text(write(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
