"""One token is missing: what is said is said of its place, and what follows is read as it stands."""

from __future__ import annotations

from functools import cache

import pytest

from hvdsl.grammar import read_text
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from tests.grammar.slips import KINDS, Slip, shipped, wrong_lines


@cache
def every_slip() -> tuple[Slip, ...]:
    return tuple(shipped())


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_token_spoils_no_other_lines(kind: str) -> None:
    cases = [slip for slip in every_slip() if slip.kind == kind][::9]
    results = [wrong_lines(slip) for slip in cases]
    assert len(results) > 10
    assert sum(wrong > 0 for _, wrong in results) <= 0.03 * len(results)
    assert max(messages - 1 for messages, _ in results) <= 3


def test_two_slips_far_apart_are_told_in_one_run() -> None:
    text = "hv 1\nmodel m\ncell a { relu conv(3x3, 8) }\nencoder {\n  8: a tap\n  4 a -> tap\n}\nlet b = 1 2\n"
    with pytest.raises(SpecError) as caught:
        read_text(Source("m.hv", text))
    lines = [Source("m.hv", text).position(d.span.start)[0] for d in caught.value.diagnostics if d.span]
    assert lines == [3, 5, 6, 8]
