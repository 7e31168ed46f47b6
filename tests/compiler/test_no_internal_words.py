"""Diagnostics speak of specs: no word of ours, nor a library's own sentence, in any of what one-token mutants give."""

from __future__ import annotations

import random
import re

from hvdsl.compiler.pipeline import check
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source
from tests.compiler.example_specs import SMALL

OTHERS = [
    "x",
    "z",
    "width",
    "layer",
    "skip",
    "tap",
    "none",
    "yes",
    "zeros",
    "normal",
    "concat",
    "channels",
    "res",
    "3",
    "0.5",
    "-1",
    "3x3",
    "(1,2)",
    "[1]",
    "relu",
    "{",
    "relu",
    "}",
    '"a"',
    "sqrt",
    "standard(4)",
    "adam",
    "learned(zeros)",
    "count",
    "1e400",
    "objective",
    "pi",
    "v",
    "index",
]
FORBIDDEN = re.compile(
    r"\w\(\w+=|object at 0x|pydantic|Input should|yaml|lark|Traceback|None\b|True\b|False\b|<class|Term\(|Edge|Enum"
    r"|something else|dict|\bNode\b|INVALID"
)


def mutants(count: int) -> list[str]:
    tokens = re.findall(r"[\w.]+|\s+|->|[^\w\s]", SMALL)
    places = [i for i, token in enumerate(tokens) if not token.isspace()]
    rng = random.Random(5)
    made = []
    for _ in range(count):
        i = rng.choice(places)
        made.append("".join([*tokens[:i], rng.choice(OTHERS), *tokens[i + 1 :]]))
    return made


def said(text: str) -> tuple[Diagnostic, ...]:
    try:
        return check(Source("mutant.hv", text)).warnings
    except SpecError as error:
        return error.diagnostics


def test_no_internal_word_in_any_diagnostic() -> None:
    seen: set[str] = set()
    for text in mutants(400):
        for d in said(text):
            seen.add(d.code.id)
            for sentence in (d.message, d.found, d.expected, d.help):
                assert not FORBIDDEN.search(sentence), (d.code.id, sentence, text)
    assert len(seen) > 15  # mutants reach many kinds of mistake
