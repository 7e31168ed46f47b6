"""What a likelihood trains counts everywhere: in `check`, `info` and the built module."""

from __future__ import annotations

import pytest

import hvdsl
from hvdsl.compiler.analysis.summary import summary
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.source import Source
from tests.compiler.example_specs import SMALL


def test_a_likelihoods_own_scale_is_counted() -> None:
    head = next(line for line in SMALL.splitlines() if line.startswith("likelihood"))
    source = Source("small.hv", SMALL.replace(head, "likelihood discretized_logistic"))
    graph = check(source).graph
    found = summary(graph)
    built = sum(p.numel() for p in hvdsl.build(source).parameters())
    assert found.likelihood_parameters == 1
    assert found.parameters == graph.parameter_count() == built
    assert found.encoder_parameters + found.decoder_parameters + 1 == found.parameters


def test_a_bin_is_as_wide_as_the_target_is_spaced() -> None:
    head = next(line for line in SMALL.splitlines() if line.startswith("likelihood"))
    likelihood = check(Source("small.hv", SMALL.replace(head, "likelihood discretized_normal"))).likelihood
    assert dict(likelihood.options)["bin"] == pytest.approx(2 / 15)  # 4 bits over [-1, 1]
