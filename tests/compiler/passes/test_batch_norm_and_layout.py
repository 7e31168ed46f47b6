"""Fused batch norms and channels-last regions: what they rewrite, and that level 1 computes what level 0 does."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

import hvdsl
from hvdsl.compiler.pipeline import check, optimise
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Traversal

SMALL = Path(__file__).parents[2] / "runtime" / "training" / "small_nvae.hv"
FRAME = """hv 1
model m
data digits {{ shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }}
{cells}
encoder {{ 8: conv(3x3, 4) -> {body} -> tap }}
decoder {{
  8: learned(zeros, 4) -> {{ z ~ normal(conv(1x1, 4)) posterior normal(skip -> conv(1x1, 4)); x + (z -> conv(1x1, 4)) }}
  -> conv(1x1, logits)
}}
likelihood discretized_logistic_mixture(2)
objective {{ unit = nats_per_dim }}
"""


def operations(body: Any, cells: Any = "", *passes: Any) -> Any:
    model = check(Source("m.hv", FRAME.format(body=body, cells=cells)))
    return [
        node.operation.name
        for node in optimise(model, passes=passes).graph.nodes
        if node.scope.path.startswith("encoder")
    ]


def test_a_silu_that_alone_reads_a_batch_norm_is_fused_with_it() -> None:
    assert operations("batch_norm -> swish", "", "fuse_batch_norm")[-3:] == ["conv", "batch_norm_silu", "tap"]


@pytest.mark.parametrize("body", ["batch_norm -> relu", "{ h = batch_norm; h + (h -> swish) }"])
def test_other_activations_and_norms_with_other_readers_stay(body: Any) -> None:
    assert "batch_norm_silu" not in operations(body, "", "fuse_batch_norm")
    assert "batch_norm" in operations(body, "", "fuse_batch_norm")


def test_a_region_begins_with_the_first_row_that_holds_a_depthwise_convolution() -> None:
    cell = "cell mix { h = conv(1x1, 8) -> depthwise(3x3) -> conv(1x1, channels); x + h }"
    found = operations("mix * 2", cell, "channels_last")
    assert found.count("channels_last") == 1
    assert found.index("channels_last") < found.index("depthwise")
    assert "channels_last" not in operations("conv(3x3, 4)", "", "channels_last")


def test_what_a_region_reads_is_converted_where_it_is_published_and_not_for_others() -> None:
    text = FRAME.replace("-> {body} -> tap }}", "-> tap -> {{ h = conv(3x3, 4); tap(last) = h; h }} }}")
    text = text.replace("posterior normal(skip", "posterior normal(skip + skip(last)").replace(
        "\n  -> conv(1x1, logits)", "\n  -> depthwise(3x3) -> conv(1x1, logits)"
    )
    model = check(Source("m.hv", text.format(cells="")))
    graph = optimise(model, passes=("channels_last",)).graph
    converted = {node.inputs[0].node: node.index for node in graph.nodes if node.operation.name == "channels_last"}
    taps = [node for node in graph.nodes if node.operation.name == "tap"]
    assert [node.inputs[0].node for node in taps] == [converted[first] for first in list(converted)[:2]]
    assert [graph.nodes[source].operation.name for source in converted] == ["conv", "conv", "learned"]
    second = graph.nodes[graph.nodes[taps[1].inputs[0].node].inputs[0].node]
    assert graph.nodes[second.inputs[0].node].operation.name == "conv"  # the encoder's own stream keeps its layout


def test_level_1_has_the_names_values_and_gradients_of_level_0() -> None:
    results = []
    for level in (0, 1):
        compiled = hvdsl.compile(SMALL, level=level)
        assert ("BatchNormSiLU" in compiled.source) is ("channels_last" in compiled.source) is (level == 1)
        model = compiled.build().double().train()
        v = torch.arange(4 * 64).view(4, 1, 8, 8).remainder(16).double()
        noise = SampleNoise(0, range(4))
        latents = Traversal.infer(model.LATENTS, 4, noise)
        loss = latents_and_output(model, v, latents)
        loss.backward()
        results.append((loss.detach(), model))
    (loss, plain), (same, rewritten) = results
    torch.testing.assert_close(same, loss, rtol=1e-12, atol=0)
    assert plain.state_dict().keys() == rewritten.state_dict().keys()
    norm = torch.sqrt(sum(p.grad.square().sum() for p in plain.parameters() if p.grad is not None))
    for (name, p), q in zip(plain.named_parameters(), rewritten.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            assert (p.grad - q.grad).norm() <= 1e-10 * norm, name
    for (name, a), b in zip(plain.named_buffers(), rewritten.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def latents_and_output(model: Any, v: Any, latents: Any) -> Any:
    distortion = -model.likelihood.log_prob(model(model.input(v), latents), model.target(v))
    return (distortion + latents.rates.sum(0)).mean()


def test_it_runs_as_a_file_of_its_own(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "small_nvae_alone.py").write_text(hvdsl.compile(SMALL).standalone())
    monkeypatch.syspath_prepend(tmp_path)
    alone = importlib.import_module("small_nvae_alone")
    model = alone.Model()
    alone.initialize(model, 0)
    assert sum(p.numel() for p in model.parameters()) == check(SMALL).graph.parameter_count()
