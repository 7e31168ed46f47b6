"""Which activations are computed in the precision of the products that read them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import hvdsl
from hvdsl.compiler.pipeline import check, optimise
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.training.step.fast_paths import train_in
from tests.compiler.passes.frame import source

CELL = "cell b {{ {} }}"


def operations(body: str, cells: str = "") -> list[str]:
    graph = optimise(check(source(body, cells)), passes=("low_precision",)).graph
    return [node.operation.name for node in graph.nodes if node.scope.path.startswith("encoder")][1:-1]


@pytest.mark.parametrize("activation", ["gelu", "silu", "relu"])
def test_what_a_recipe_is_given_is_cast_before_the_activation_that_its_products_read(activation: str) -> None:
    cells = CELL.format(f"x + ({activation} -> conv(3x3, 4) -> {activation} -> conv(3x3, channels))")
    inside = ["low_precision", activation, "conv", activation, "conv", "add"]
    assert operations("b * 2", cells) == inside * 2


@pytest.mark.parametrize(
    "steps",
    [
        "{ h = gelu; h + (h -> conv(1x1, 4)) }",  # a sum reads it, too
        "gelu",  # what a recipe hands on is float32
        "glu -> conv(1x1, 4)",  # a rounded input would change the result by more
        "conv(1x1, 4) -> avg_pool(1) -> gelu",
        "x * x -> conv(1x1, 4)",
    ],
)
def test_all_else_stays(steps: str) -> None:
    assert "low_precision" not in operations("b", CELL.format(steps))


def test_several_readers_share_one_cast_and_one_activation() -> None:
    cells = CELL.format("h = gelu; (h -> conv(1x1, 4)) + (h -> conv(3x3, 4))")
    assert operations("b", cells) == ["low_precision", "gelu", "conv", "conv", "add"]


def test_float32_is_untouched_and_bf16_keeps_rates_parameters_and_stream_in_float32() -> None:
    spec = source("b * 2", CELL.format("x + (gelu -> conv(3x3, 4) -> gelu -> conv(3x3, channels))"))
    pixels = torch.randint(0, 16, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    streams: list[torch.dtype] = []

    def loss(level: int, precision: str) -> Tensor:
        model = hvdsl.build(spec, level=level)
        initialize(model, 0)
        train_in(model.train(), precision)  # type: ignore[arg-type]
        for cell in model.encoder.modules():
            if type(cell).__name__ == "B":
                cell.register_forward_hook(lambda module, args, out: streams.append(out.dtype))
        latents = Traversal(model.LATENTS, 2, SampleNoise(0, range(2)))
        params = model(model.input(pixels), latents)
        assert params.dtype == latents.rates.dtype == torch.float32
        return (latents.rates.sum(0) - model.likelihood.log_prob(params, model.target(pixels))).mean()

    exact = loss(0, "fp32")
    torch.testing.assert_close(loss(1, "fp32"), exact, rtol=1e-5, atol=1e-5)
    for precision in ("bf16", "fp16"):
        value = loss(1, precision)
        value.backward()
        torch.testing.assert_close(value, exact, rtol=0.02, atol=0.0)
    assert streams and set(streams) == {torch.float32}
