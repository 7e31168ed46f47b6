"""An operation is one entry (and a layer, where it has state): with that it works everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import hvdsl
from hvdsl.compiler.analysis.cost import macs
from hvdsl.compiler.analysis.field import receptive_fields
from hvdsl.compiler.analysis.summary import summary
from hvdsl.compiler.diagnostics.names import NOT_AUTOREGRESSIVE
from hvdsl.compiler.pipeline import check
from hvdsl.draw import draw
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import draw_codes
from tests.compiler.catalogue.new_operations import new_operations
from tests.compiler.emit.reference import interpret
from tests.runtime.priors.test_sampling import SPEC as PRIOR
from tests.runtime.priors.test_sampling import priors

NAMES = ("mish", "differences", "rms_norm")
LADDER = """hv 1
model small
data digits { shape = 1x4x4, bits = 4, input = v, binarize = threshold }
cell body { rms_norm -> conv(3x3, 8) -> mish -> differences }
cell flow { %s }
group level {
  z ~ normal(x -> mish -> conv(1x1, 6)) posterior normal(concat(x, skip) -> mish -> conv(1x1, 6))%s
  x + (z -> conv(1x1, 8)) -> body
}
encoder { 4: conv(3x3, 8) -> body -> tap }
decoder { 4: learned(uniform(-1, 1), 8) -> level -> level -> conv(1x1, logits) }
likelihood bernoulli
objective { unit = nats_per_image }
"""
UPTO = "conv(3x3, 12, mask = causal(upto))"
BEFORE = "conv(3x3, 3, mask = causal(before))"
EXCLUDE = "conv(3x3, 12, mask = causal(exclude))"


@pytest.fixture(autouse=True, scope="module")
def extended() -> Iterator[None]:
    with new_operations():
        yield


def ladder(block: str = "x", after: str = "") -> Source:
    return Source("small.hv", LADDER % (block, after))


def run(module: torch.nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    walk = Traversal.infer(module.LATENTS, len(x), SampleNoise(0, range(len(x))))  # type: ignore[arg-type]
    output = module(x, walk)
    return output, walk.rates


def images() -> Tensor:
    return torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_they_work_in_cells() -> None:
    compiled = hvdsl.compile(ladder(), level=0)
    module = compiled.build().double().eval()
    with torch.no_grad():
        output, _ = run(module, images())
        walk = Traversal.infer(module.LATENTS, 2, SampleNoise(0, range(2)))  # type: ignore[arg-type]
        torch.testing.assert_close(interpret(compiled.model.graph, module, images(), walk), output)
    assert "F.mish(" in compiled.source and "RootMeanSquareNorm(8)" in compiled.source


def test_a_rewrite_takes_the_elementwise_one_as_any_other() -> None:
    plain, rewritten = (hvdsl.compile(ladder(), level=level) for level in (0, 1))
    assert "torch.cat" in plain.source and "torch.cat" not in rewritten.source
    results = [run(c.build().double(), images()) for c in (plain, rewritten)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "block",
    [
        f"{UPTO} -> mish -> {BEFORE}",
        f"{UPTO} -> mish -> {EXCLUDE} -> differences -> rms_norm -> mish -> conv(1x1, 3)",
        f"rms_norm -> differences -> mish -> {EXCLUDE} -> conv(1x1, 3)",
    ],
)
def test_flows_of_them_are_proved_autoregressive(block: str) -> None:
    module = hvdsl.build(ladder(f"iaf(shift) {{ {block} }}", " -> flow")).double()
    flow = next(m for name, m in module.named_modules() if name.endswith("flow.0"))
    z = torch.rand(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    jacobian = torch.autograd.functional.jacobian(_by_position(flow), z.permute(0, 2, 3, 1).reshape(-1))
    assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian))
    torch.testing.assert_close(jacobian.diagonal(), torch.ones(48, dtype=torch.float64))


def _by_position(flow: torch.nn.Module):  # type: ignore[no-untyped-def]
    return lambda z: flow(z.reshape(1, 4, 4, 3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(-1)


@pytest.mark.parametrize("name", ["differences", "rms_norm"])
def test_what_mixes_channels_is_found_where_a_flow_needs_their_order(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(ladder(f"iaf(shift) {{ {UPTO} -> {name} -> {BEFORE} }}", " -> flow"))
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code is NOT_AUTOREGRESSIVE and f"`{name}`" in diagnostic.message


@pytest.mark.parametrize(
    "body",
    [
        "rms_norm -> mish -> conv(3, 8, mask = causal(all))",
        "conv(1x1, 8) -> differences -> mish",
        "mish -> conv(3, 8, mask = causal(all)) -> rms_norm; residual { mish -> differences -> rms_norm }",
        "layer_norm -> conv(3, 8, mask = causal(all)) -> layer_norm",
        "a = concat(x, x -> mish) -> rms_norm; attention(a, a, x, causal = inclusive)",
    ],
)
def test_priors_of_them_are_sampled_step_by_step(body: str) -> None:
    text = PRIOR.format(body=f"conv(3, 8, mask = causal(exclude)); {body}", more="")
    [prior] = priors(check(Source("small.hv", text)))
    prior = StepwisePrior(prior.module.double(), prior.steps)
    for schedule in ("raster", "wavefront") if prior.steps.WAVEFRONT_SKEW is not None else ("raster",):
        assert_steps_are_the_forward(prior, schedule)


def assert_steps_are_the_forward(prior: StepwisePrior, schedule: str) -> None:
    """The logits of every step are those of one forward over the finished map."""
    _, height, width = prior.model.CODES.classes, *prior.model.CODES.grid
    noise = torch.randn(2, 6, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen: dict[tuple[int, int], Tensor] = {}

    def choose(logits: Tensor, i: int, j: int) -> Tensor:
        seen[i, j] = logits.clone()
        return (logits + noise[:, :, i, j]).argmax(1)

    codes = draw_codes(prior, choose, batch=2, schedule=schedule)  # type: ignore[arg-type]
    with torch.no_grad():
        whole = prior.module.eval()(codes)
    for (i, j), logits in seen.items():
        torch.testing.assert_close(logits, whole[:, :, i, j], rtol=1e-10, atol=1e-10)
    assert len(seen) == height * width and len(codes.unique()) > 1


def test_cost_and_field_follow_from_the_entry() -> None:
    graph = check(ladder()).graph
    by_name = {name: [n for n in graph.nodes if n.operation.name == name] for name in NAMES}
    assert [macs(graph, node) for node in by_name["rms_norm"]] == [2 * 8 * 16] * 3
    assert [macs(graph, node) for node in by_name["mish"] + by_name["differences"]] == [0] * 10
    without = check(Source("small.hv", ladder().text.replace("rms_norm -> ", "").replace(" -> differences", ""))).graph
    assert summary(graph).parameters - summary(without).parameters == 3 * 8
    assert summary(graph).activation_bytes > summary(without).activation_bytes
    assert receptive_fields(graph) == receptive_fields(without)


def test_drawings_show_them() -> None:
    text = draw(
        check(Source("small.hv", ladder().text.replace("conv(3x3, 8) -> body", "mish -> rms_norm"))), "svg"
    ).decode()
    assert "mish" in text and "rms norm" in text
