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
from hvdsl.runtime.layers import Conv2d
from tests.compiler.passes.frame import FRAME, source

SMALL = Path(__file__).parents[2] / "runtime" / "training" / "small_nvae.hv"


def operations(body: Any, cells: Any = "", *passes: Any) -> Any:
    model = check(source(body, cells))
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


def test_a_region_begins_with_the_first_row_that_holds_a_convolution() -> None:
    cell = "cell mix { h = conv(1x1, 8) -> depthwise(3x3) -> conv(1x1, channels); x + h }"
    found = operations("mix * 2", cell, "channels_last")
    assert found.count("channels_last") == 1
    assert found.index("channels_last") < found.index("conv")
    text = FRAME.replace("8: conv(3x3, 4)", "8: relu -> avg_pool(2)\n  4: conv(3x3, 4)").format(
        body="nearest(2)", cells=""
    )
    graph = optimise(check(Source("m.hv", text)), passes=("channels_last",)).graph
    names = [node.operation.name for node in graph.nodes if node.scope.path.startswith("encoder")]
    assert names[:4] == ["relu", "avg_pool", "channels_last", "conv"] and names.count("channels_last") == 1


def test_what_a_region_reads_is_converted_where_it_is_published_and_not_for_others() -> None:
    """A tap from before the region, and the image that it is made of."""
    text = FRAME.replace("8: conv(3x3, 4) -> {body} -> tap", "8: relu -> tap -> relu -> avg_pool(2)\n  4: conv(3x3, 4)")
    model = check(Source("m.hv", text.format(cells="")))
    graph = optimise(model, passes=("channels_last",)).graph
    converted = {node.inputs[0].node: node.index for node in graph.nodes if node.operation.name == "channels_last"}
    tap = next(node for node in graph.nodes if node.operation.name == "tap")
    assert [graph.nodes[source].operation.name for source in converted] == ["relu", "avg_pool", "learned"]
    assert tap.inputs[0].node == converted[min(converted)]
    second = next(node for node in graph.nodes if node.operation.name == "relu" and node.index > min(converted))
    assert second.inputs[0].node == min(converted)  # the encoder's own stream keeps its layout


@pytest.mark.parametrize(
    ("decoder", "converted"),
    [
        ("1: learned(zeros, 4)\n  8: nearest(8)", ["nearest"]),
        ("1: learned(zeros, 4) -> dense(256)\n  8: reshape(4x8x8)", ["reshape"]),
        ("8: learned(zeros, 4) + learned(zeros, 4)", ["learned", "learned"]),
        ("8: constant(0, 4)", []),
        ("8: learned(zeros, 4) -> { concat(x, coordinates(x)) } -> conv(1x1, 4)", ["coordinates", "learned"]),
    ],
)
def test_maps_that_are_made_in_a_region_are_converted(decoder: str, converted: list[str]) -> None:
    """A map of one position has both layouts, so that what is enlarged from one begins anew."""
    text = FRAME.format(body="relu", cells="").replace("8: learned(zeros, 4) ->", f"{decoder} ->")
    graph = optimise(check(Source("m.hv", text)), passes=("channels_last",)).graph
    sources = [
        graph.nodes[node.inputs[0].node].operation.name
        for node in graph.nodes
        if node.operation.name == "channels_last" and node.scope.path.startswith("decoder")
    ]
    assert sorted(sources) == converted


@pytest.mark.parametrize("body", ["conv(3x3, 4, dilation = 2)", "conv(3x3, 4, groups = 2)", "conv(3x3, 4, stride = 2)"])
def test_sections_with_other_dense_convolutions_keep_their_layout(body: str) -> None:
    """There oneDNN has faults in this layout: wrong weight gradients in 16 bits, writes beyond its memory."""
    text = FRAME.replace("-> {body} -> tap", "-> tap -> {body}").format(body=body, cells="")
    graph = optimise(check(Source("m.hv", text)), passes=("channels_last",)).graph
    inside = [node for node in graph.nodes if node.scope.path.startswith("encoder")]
    first = next(node for node in inside if node.operation.name == "conv")
    assert graph.nodes[first.inputs[0].node].operation.name != "channels_last"


def test_no_map_of_a_step_leaves_the_layout() -> None:
    """Neither forward nor backward: one that does turns all that follows."""
    model = hvdsl.build("vdvae_digits", level=1, overrides={"width": 16}).train()
    maps: list[torch.Tensor] = []  # and gradients of maps

    def keep(layer: Any, inputs: Any, result: torch.Tensor) -> None:
        maps.extend([inputs[0], result])
        if result.requires_grad:
            result.register_hook(maps.append)

    for layer in model.modules():
        if isinstance(layer, Conv2d) and layer.weight.shape[1] > 1:  # an image of one channel has both layouts
            layer.register_forward_hook(keep)
    latents = Traversal.infer(model.LATENTS, 2, SampleNoise(0, range(2)))
    v = torch.arange(2 * 64).view(2, 1, 8, 8).remainder(16).float()
    output = model(model.input(v), latents)
    ((output * output.detach()).sum() + latents.rates.sum()).backward()
    maps = [y for y in maps if min(y.shape[1], y.shape[2] * y.shape[3]) > 1]
    assert len(maps) > 100 and all(y.is_contiguous(memory_format=torch.channels_last) for y in maps)


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
