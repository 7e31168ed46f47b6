"""Diagnostics speak of specs: no word of ours, nor a library's own sentence, in any of what one-token mutants give."""

from __future__ import annotations

import random
import re

import pytest

from hvdsl.compiler.pipeline import check
from hvdsl.grammar import print_yaml, read_text, read_yaml
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
    "label",
    "given",
    "classes",
    "causal(exclude)",
    "weight",
    "~",
    ":",
    "@",
]
CODES = """hv 1
model codes
data digits {
  shape = 1x8x8, bits = 4, input = v / 7.5 - 1
  classes = 10
  given low = 1x4x4 { source = image, input = v / 7.5 - 1, drop = 0.1 }
}
group layer {
  q = concat(skip, low -> nearest(2)) -> conv(1x1, 4)
  z ~ codebook(16, 4) posterior nearest_code(q)
  (z -> conv(1x1, 8)) + (label -> conv(1x1, 8))
}
encoder { 8: conv(3x3, 8) -> tap }
decoder { 8: learned(zeros, 8) -> layer -> conv(1x1, logits) }
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
prior z { h = conv(3, 8, mask = causal(exclude)); h + (label -> conv(1x1, 8)) -> elu -> conv(1x1, 16) }
train { steps = 2, batch = 2, optimizer = adam(lr = 1e-3), groups = ["encoder": frozen] }
train z { steps = 2, batch = 2, optimizer = adam(lr = 1e-3) }
"""
FORBIDDEN = re.compile(
    r"\w\(\w+=|object at 0x|pydantic|Input should|yaml|lark|Traceback|None\b|True\b|False\b|<class|Term\(|Edge|Enum"
    r"|something else|dict|\bNode\b|INVALID|expected <|values are not allowed|could not find expected|node="
)


def mutants(text: str, count: int) -> list[str]:
    tokens = re.findall(r"[\w.]+|\s+|->|[^\w\s]", text)
    places = [i for i, token in enumerate(tokens) if not token.isspace()]
    rng = random.Random(5)
    made = []
    for _ in range(count):
        i = rng.choice(places)
        made.append("".join([*tokens[:i], rng.choice(OTHERS), *tokens[i + 1 :]]))
    return made


def said(text: str, yaml: bool = False) -> tuple[Diagnostic, ...]:
    try:
        return check(read_yaml(Source("mutant.yaml", text)) if yaml else Source("mutant.hv", text)).warnings
    except SpecError as error:
        return error.diagnostics


@pytest.mark.parametrize(
    ("text", "count", "kinds", "yaml"),
    [
        (SMALL, 300, 15, False),
        (CODES, 150, 12, False),
        (print_yaml(read_text(Source("codes.hv", CODES))), 120, 10, True),
    ],
    ids=["small", "codes", "yaml"],
)
def test_no_internal_word_in_any_diagnostic(text: str, count: int, kinds: int, yaml: bool) -> None:
    seen: set[str] = set()
    for mutant in mutants(text, count):
        for d in said(mutant, yaml):
            seen.add(d.code.id)
            for sentence in (d.message, d.found, d.expected, d.help):
                assert not FORBIDDEN.search(sentence.replace("mutant.yaml", "")), (d.code.id, sentence, mutant)
    assert len(seen) > kinds  # mutants reach many kinds of mistake
