"""Flows: which are proved autoregressive, and what is said of those that are not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import hvdsl
from hvdsl.compiler.diagnostics.names import FLOW_OF_CODES, NO_LOG_DETERMINANT, NOT_AUTOREGRESSIVE
from hvdsl.grammar.diagnostics import Diagnostic, Severity, SpecError
from hvdsl.runtime.distributions import Normal
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Traversal

SPEC = """hv 1
model small
data digits { shape = 1x4x4, bits = 4, input = v, binarize = threshold }
default conv { norm = weight(gain = log, eps = 1e-5) }
cell flow(context = none) { %s }
group level {
  e = skip -> conv(1x1, 3)
  z ~ normal(x -> conv(1x1, 6)) posterior %s
  x + (z -> conv(1x1, 8))
}
encoder { 4: conv(3x3, 8) -> tap }
decoder { 4: learned(uniform(-1, 1), 8) -> level -> conv(1x1, logits) }
likelihood bernoulli
objective { unit = nats_per_image }
"""
NORMAL = "normal(skip -> conv(1x1, 6))"
BEFORE, UPTO = "mask = causal(before)", "mask = causal(upto)"
SHIFT = f"iaf(shift) {{ conv(3x3, 12, {BEFORE}) -> elu -> conv(1x1, 3, {UPTO}) }}"
AFFINE = f"""iaf(affine) {{
  h = conv(3x3, 12, {BEFORE}) -> elu
  h -> conv(1x1, 3, {UPTO}), h -> conv(1x1, 3, {UPTO})
}}"""
GATED = """iaf(gated) {
  m = conv(3x3, 3, mask = causal(before, mirror = yes))
  s = m + context -> tanh -> depthwise(3x3, mask = causal(upto, mirror = yes))
  m, s
}"""
ATTENTIVE = """iaf(affine) {
  h = conv(3x3, 6, mask = causal(exclude))
  attention(h, h, h -> elu, causal = inclusive) -> conv(1x1, 6) -> chunk(2)
}"""
PARTS = f"""iaf(shift) {{
  h = conv(3x3, 12, {BEFORE}) -> elu -> conv(1x1, 3, {UPTO})
  mean(h -> first_channels(2) -> pad_channels(3), h -> avg_pool(1))
}}"""


def written(tmp_path: Path, block: str, posterior: str = f"{NORMAL} -> flow") -> Path:
    path = tmp_path / "small.hv"
    path.write_text(SPEC % (block, posterior))
    return path


def problem(path: Path) -> Diagnostic:
    with pytest.raises(SpecError) as caught:
        hvdsl.compile(path)
    (found,) = (d for d in caught.value.diagnostics if d.severity is Severity.ERROR)
    return found


@pytest.mark.parametrize(
    ("block", "upper"),
    [(SHIFT, False), (AFFINE, False), (GATED, True), (ATTENTIVE, False), (PARTS, False)],
    ids=["shift", "affine", "gated, mirrored", "attention", "parts of channels"],
)
def test_rate_is_log_q_minus_log_p_with_the_jacobians_determinant(tmp_path: Path, block: str, upper: bool) -> None:
    built = hvdsl.build(written(tmp_path, block, f"{NORMAL} -> flow(e)")).double()
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    seen: list[Tensor] = []
    *_, flow = (m for key, m in built.named_modules() if key.endswith("flow.0"))
    flow.register_forward_pre_hook(lambda _module, inputs: seen.extend(inputs))
    walk = Traversal.infer(built.LATENTS, 1, SampleNoise(0, [0]), densities=True)  # type: ignore[arg-type]
    with torch.no_grad():
        built(x, walk)
    start = seen[0]
    context = seen[1:]

    def ordered(z: Tensor) -> Tensor:
        out = flow(z.reshape(1, 4, 4, 3).permute(0, 3, 1, 2), *context)
        moved = out if isinstance(out, Tensor) else out[-1]
        return moved.permute(0, 2, 3, 1).reshape(-1)

    jacobian = torch.autograd.functional.jacobian(ordered, start.permute(0, 2, 3, 1).reshape(-1))
    by_position = jacobian.reshape(16, 3, 16, 3)
    if upper:
        by_position = by_position.flip(0, 2)  # mirrored in space, never in channels
    assert by_position.reshape(48, 48).triu(1).abs().max() == 0
    h = built.encoder(x)
    base = Normal(built.decoder.r4.level[0].z.posterior.conv[0](h))  # type: ignore[union-attr, index, operator, arg-type]
    log_q = base.log_prob(start).sum() - torch.linalg.slogdet(jacobian).logabsdet
    (outcome,) = walk.outcomes
    assert outcome.log_q is not None
    assert outcome.log_p is not None
    assert outcome.log_q.item() == pytest.approx(log_q.item(), rel=1e-9)
    assert walk.rates[0].item() == pytest.approx((log_q - outcome.log_p).item(), rel=1e-9)


def test_generation_has_no_flow(tmp_path: Path) -> None:
    built = hvdsl.build(written(tmp_path, SHIFT))
    *_, flow = (m for key, m in built.named_modules() if key.endswith("flow.0"))
    flow.register_forward_hook(lambda *_: pytest.fail("the flow ran"))
    built(None, Traversal.generate(built.LATENTS, 2, SampleNoise(0, [0, 1])))  # type: ignore[arg-type]


def test_a_posterior_mean_goes_through_the_flow(tmp_path: Path) -> None:
    built = hvdsl.build(written(tmp_path, SHIFT))
    walk = Traversal.reconstruct(built.LATENTS, 1)  # type: ignore[arg-type]
    with torch.no_grad():
        built(torch.zeros(1, 1, 4, 4), walk)
    assert math.isfinite(walk.rates.item())


@pytest.mark.parametrize(
    ("block", "leaking", "told"),
    [
        (SHIFT.replace("before", "upto"), "conv(3x3, 12", "sees channel 0 of z"),
        (SHIFT.replace(f", {UPTO}", ""), "conv(1x1, 3", "sees channel"),
        (SHIFT.replace(f", {BEFORE}", ""), "conv(3x3, 12", "before and after"),
        (
            SHIFT.replace("causal(upto)", "causal(upto, mirror = yes)").replace("1x1", "3x3"),
            "conv(3x3, 3",
            "before and after",
        ),
        (SHIFT.replace("elu", "batch_norm"), "batch_norm", "before and after"),
        (SHIFT.replace("elu", "global_pool -> nearest(4)"), "global_pool", "before and after"),
        ("iaf(shift) { x }", "iaf", "sees channel 0 of z"),
        ("iaf(shift) { conv(3x3, 3, mask = causal(before), pad = reflect) }", "conv(3x3, 3", "before and after"),
    ],
    ids=["own channel", "no mask", "no first mask", "two directions", "batch norm", "pooled", "itself", "reflected"],
)
def test_the_leaking_step_is_named(tmp_path: Path, block: str, leaking: str, told: str) -> None:
    found = problem(written(tmp_path, block))
    assert found.code is NOT_AUTOREGRESSIVE
    assert told in found.found
    assert found.span is not None
    assert found.span.text.startswith(leaking)


@pytest.mark.parametrize("block", [SHIFT, AFFINE, GATED], ids=["shift", "affine", "gated"])
def test_a_flow_trains_in_16_bits(tmp_path: Path, block: str) -> None:
    """The draw stays in 32 bits, while what the block makes of it is in 16."""
    built = hvdsl.build(written(tmp_path, block, f"{NORMAL} -> flow(e)"))
    walk = Traversal.infer(built.LATENTS, 2, SampleNoise(0, [0, 1]))  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        built(torch.rand(2, 1, 4, 4), walk)
    assert walk.rates.dtype == torch.float32
    walk.rates.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in built.parameters())


@pytest.mark.parametrize(
    "block",
    [
        f"iaf(shift) {{ h = conv(3x3, 6, {BEFORE}); h * (context -> conv(1x1, 6)) + 1 -> conv(1x1, 3, {UPTO}) }}",
        "iaf(shift) { shift(down = 1) -> conv(1x1, 3) }",
        "iaf(shift) { context -> conv(3x3, 3) }",
        "iaf(shift) { a, b, c = split(1, 1, 1); concat(context -> conv(1x1, 1), a, a + b) }",
        f"iaf(shift) {{ conv(3x3, 24, {BEFORE}) -> glu -> conv(1x1, 3, mask = causal(exclude)) }}",
    ],
    ids=["context", "shifted", "of the context only", "by channels", "gated units"],
)
def test_what_is_proved(tmp_path: Path, block: str) -> None:
    assert hvdsl.compile(written(tmp_path, block, f"{NORMAL} -> flow(e)")).source


def test_other_steps_have_no_log_determinant(tmp_path: Path) -> None:
    found = problem(written(tmp_path, SHIFT, f"{NORMAL} -> flow -> tanh -> flow"))
    assert (found.code, found.span and found.span.text) == (NO_LOG_DETERMINANT, "tanh")


def test_a_discrete_latent_has_no_flow(tmp_path: Path) -> None:
    path = written(tmp_path, SHIFT)
    text = path.read_text().replace("normal(x -> conv(1x1, 6))", "codebook(8, 3)")
    path.write_text(text.replace(NORMAL, "nearest_code(skip -> conv(1x1, 3))"))
    assert problem(path).code is FLOW_OF_CODES
