"""Whatever the spec: its module is its graph, run node by node, and its names are the graph's."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings

import hvdsl
from hvdsl.grammar.source import Source
from tests.compiler.emit.random_specs import specs
from tests.compiler.emit.reference import interpret
from tests.compiler.emit.test_emitted_code import assert_same, images, shaken, walk


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(specs())
def test_random_specs_are_emitted_as_their_graphs_say(text: str) -> None:
    plain = hvdsl.compile(Source("random.hv", text), level=0)
    module = shaken(plain)
    named = {n.parameter_path(p.role): p.shape for n in plain.model.graph.nodes for p in n.parameters}
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == named
    assert sum(p.numel() for p in module.parameters()) == plain.model.graph.parameter_count()
    rewritten = hvdsl.compile(Source("random.hv", text)).build().double().eval()
    rewritten.load_state_dict(module.state_dict())
    with torch.no_grad():
        latents, expected, changed = (walk(module) for _ in range(3))
        output = module(images(), latents)
        assert_same((output,), (interpret(plain.model.graph, module, images(), expected),))
        assert_same((latents.rates,), (expected.rates,))
        assert_same((rewritten(images(), changed), changed.rates), (output, latents.rates))
