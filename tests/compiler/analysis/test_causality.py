"""Priors that see their own or a later position are refused, with the step that leaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl.compiler.analysis.summary import prior_summary
from hvdsl.compiler.graph import Graph
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source

SPEC = """hv 1
model small
data images {{ shape = 1x6x8, bits = 8, input = v / 255 }}
encoder {{ 6x8: conv(3x3, 8) -> tap }}
decoder {{ 6x8: {{ z ~ codebook(16, 4) posterior nearest_code(skip -> conv(1x1, 4)); x = z -> conv(1x1, logits) }} }}
likelihood mse
objective {{ unit = mean_square }}
prior z {{ {body} -> conv(1x1, 16) }}
"""
ATTEND = "h = conv(3, 8, mask = causal(exclude)); attention(h, h, h, causal = {})"

CAUSAL = [
    "conv(3, 8, mask = causal(exclude)) -> elu -> conv(3, 8, mask = causal(all))",
    "conv((2, 3), 8, pad = (1, 0, 1, 1)) -> shift(down = 1)",
    "conv(1x1, 8) -> shift(right = 1)",
    "shift(right = 1) -> conv(3, 8, mask = causal(upto))",
    "shift(down = 1) -> elu -> conv((1, 3), 8) -> shift(down = 1)",
    ATTEND.format("strict"),
    ATTEND.format("inclusive"),
]
NOT_STEPWISE = [  # causal, but a step needs what lies between it and its shift
    "conv(3, 8) -> shift(down = 2)",
    "h = conv(1x1, 8); attention(h, h, h, causal = strict) -> shift(right = 1)",
    # and these read, of a map that is computed position by position, what comes later
    "shift(down = 1) -> conv((1, 3), 8)",
    "shift(down = 2) -> elu -> conv(3, 8)",
    "shift(right = 3) -> conv((1, 3), 8) -> shift(right = 1)",
]
LEAKS = [
    ("conv(3, 8, mask = causal(all)) -> elu", "own", "`conv`", "tap (0, 0)"),
    (
        "conv(3, 8, mask = causal(exclude)) -> elu -> conv(3, 8)",
        "later",
        "`conv`",
        "1 row below and 1 column to the right",
    ),
    ("conv(3, 8) -> shift(down = 1)", "later", "`conv`", "tap (1, 1)"),
    ("shift(right = 1) -> shift(right = -1) -> elu", "own", "`shift`", "1 column to the right: tap (0, 1)"),
    ("h = conv(1x1, 8); attention(h, h, h, causal = inclusive)", "own", "`conv`", "tap (0, 0)"),
    ("conv(3, 8, mask = causal(exclude, mirror = yes))", "later", "`conv`", "tap (1, 1)"),
    ("h = shift(right = 1); h + (h -> global_pool)", "later", "`global_pool`", "the whole map"),
    ("h = shift(right = 1); attention(h, h, h)", "later", "`attention`", "the whole map"),
]


def prior(body: str) -> Graph:
    return check(Source("small.hv", SPEC.format(body=body))).priors["z"]


def refusal(body: str) -> Diagnostic:
    with pytest.raises(SpecError) as caught:
        prior(body)
    return caught.value.diagnostics[0]


@pytest.mark.parametrize("body", CAUSAL)
def test_causal_priors_are_accepted(body: str) -> None:
    assert prior(body).name == "z"


@pytest.mark.parametrize("body", NOT_STEPWISE)
def test_a_causal_prior_without_a_form_for_one_position_is_refused_as_such(body: str) -> None:
    diagnostic = refusal(body)
    assert diagnostic.code.id == "HV0801"
    assert "each with its own `shift`" in (diagnostic.expected or "")


@pytest.mark.parametrize(("body", "what", "step", "tap"), LEAKS)
def test_a_leak_is_reported_with_its_step_and_tap(body: str, what: str, step: str, tap: str) -> None:
    diagnostic = refusal(body)
    assert diagnostic.code.id == "HV0509"
    assert what in diagnostic.message
    assert step in diagnostic.found and tap in diagnostic.found, diagnostic.found
    assert diagnostic.span is not None and step.strip("`") in diagnostic.span.text


def test_the_summary_counts_what_is_seen_and_finds_the_hole() -> None:
    narrow = prior_summary(prior("conv(3, 8, mask = causal(exclude))")).sight
    assert (narrow.position, narrow.earlier, narrow.seen, narrow.rows_above, narrow.hole) == ((3, 4), 28, 4, 1, (3, 2))
    attentive = prior_summary(prior(ATTEND.format("inclusive"))).sight
    assert (attentive.seen, attentive.hole) == (27, (2, 7))


@pytest.mark.parametrize(("spec", "seen"), [("vqvae2_256", [527, 1848]), ("vqvae2_ffhq1024", [527, 2079, 5052])])
def test_shipped_priors(spec: str, seen: list[int]) -> None:
    assert [prior_summary(graph).sight.seen for graph in check(Path(spec)).priors.values()] == seen
