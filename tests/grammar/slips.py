"""Take away one token of a spec at a time, and count what its reader then says of lines that are right.

    python -m tests.grammar.slips [FOLDER …]

Reads the shipped specs and those of further folders. A line is right where it is neither the line that lost the token
nor one that holds a neighbour of it. The opening bracket whose partner was taken is a neighbour, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hvdsl.specs
from hvdsl.grammar import read_text
from hvdsl.grammar.diagnostics import Diagnostics, SpecError
from hvdsl.grammar.source import Source
from hvdsl.grammar.text.tokens import CLOSING, OPENING, Fragment, Token, tokenize

KINDS = ("->", "{", "}", "(", ")", ",", ":", "=")


@dataclass(frozen=True)
class Slip:
    """One token taken away: the text that is left, and the lines that a message may rightly speak of."""

    name: str
    kind: str
    text: str
    lines: frozenset[int]


def slips(source: Source, kinds: Sequence[str] = KINDS) -> Iterator[Slip]:
    """Every way of losing one token of these kinds."""
    text = source.text
    tokens = [token for token in tokenize(Fragment(source, text), Diagnostics()).tokens if token.text.strip()]
    partners = _partners(tokens)
    for i, token in enumerate(tokens):
        if token.text not in kinds:
            continue
        near = [token, *tokens[max(i - 1, 0) : i], *tokens[i + 1 : i + 2], tokens[partners.get(i, i)]]
        lines = {text.count("\n", 0, t.start) + 1 for t in near}
        blank = " " * (token.end - token.start)
        yield Slip(source.name, token.text, text[: token.start] + blank + text[token.end :], frozenset(lines))


def _partners(tokens: Sequence[Token]) -> dict[int, int]:
    open_, partners = [], {}
    for i, token in enumerate(tokens):
        if token.type in OPENING:
            open_.append(i)
        elif token.type in CLOSING:
            partners[i] = open_.pop()
            partners[partners[i]] = i
    return partners


def wrong_lines(slip: Slip) -> tuple[int, int]:
    """How many messages the slip gives, and how many of them are on lines that are right."""
    source = Source(slip.name, slip.text)
    try:
        read_text(source)
    except SpecError as error:
        lines = [source.position(d.span.start)[0] for d in error.diagnostics if d.span is not None]
        return len(lines), sum(line not in slip.lines for line in lines)
    return 0, 0


def shipped(*folders: Path) -> Iterator[Slip]:
    """The slips of the shipped specs and of those in further folders."""
    for folder in (Path(hvdsl.specs.__file__).parent, *folders):
        for path in sorted(folder.rglob("*.hv")):
            yield from slips(Source(path.name, path.read_text(encoding="utf-8")))


def main(folders: Sequence[str]) -> int:
    cases = list(shipped(*map(Path, folders)))
    print(f"{'token':6} {'cases':>6} {'elsewhere':>10} {'most':>5}")
    for kind in KINDS:
        results = [wrong_lines(slip) for slip in cases if slip.kind == kind]
        elsewhere = sum(wrong > 0 for _, wrong in results)
        print(f"{kind:6} {len(results):6} {elsewhere / len(results):9.1%} {max(n - 1 for n, _ in results):5}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
