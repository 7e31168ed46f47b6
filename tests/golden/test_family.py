"""Building blocks of neighbouring systems: BIVA, Efficient-VDVAE, IAF, Ladder VAE, residual and vector quantisation.

Everything was recorded in float64. Modules of the shipped specs and layers of the runtime agree with it in float64 to
|a - b| <= 1e-9 (1 + |b|).
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import hvdsl
from hvdsl.compiler.setting_words import Duration, Ramp
from hvdsl.compiler.settings import Optimizer, Schedule, Train
from hvdsl.grammar.source import Source
from hvdsl.runtime.distributions import Flowed, Normal, exp, softplus
from hvdsl.runtime.latents import LatentGroup, Traversal
from hvdsl.runtime.likelihoods import DiscretizedLogistic, DiscretizedLogisticMixture
from hvdsl.runtime.objective.objective import Beta, balance_by_rate
from hvdsl.runtime.quantizers import EmaCodebook, GradientCodebook, NearestCode
from hvdsl.runtime.training.schedule import Clock, LearningRate
from hvdsl.runtime.training.step.optimizer import build_optimizer

FOLDER = Path(__file__).parent / "family"
ELSEWHERE = {  # compared by the tests of what they are about
    "tests/runtime/test_distributions.py": [
        "biva_sigma",
        "evdvae_sigma",
        "gaussian_kl",
        "precision_weighted_merge",
        "precision_weighted_merge_logsd",
        "residual_normal_kl",
    ],
    "tests/runtime/objective/test_importance.py": ["iwae_bound"],
    "tests/runtime/objective/test_objective.py": ["free_bits"],
}
SPECS: dict[str, dict[str, int]] = {
    "biva_cifar10": {"c": 5},
    "evdvae_cifar10": {"width": 8, "zdim": 2},
    "iaf_cifar10": {"h": 8, "zdim": 4, "layers": 1},
}
PROBE = """hv 1
model probe
data arrays {{ shape = {channels}x{size}x{size}, bits = 8, input = v, target = v / 255 }}
cell probe {{ {body} }}
group level {{ z ~ normal(standard(2)) posterior normal(skip -> conv(1x1, 4)); x + (z -> conv(1x1, 8)) }}
encoder {{ {size}: probe -> tap }}
decoder {{ {size}: learned(zeros, 8) -> level -> conv(1x1, logits) }}
likelihood bernoulli
objective {{ unit = nats_per_image }}
"""


def case(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def close(result: Tensor, recorded: Tensor, limit: float = 1e-9) -> None:
    torch.testing.assert_close(result, recorded, rtol=limit, atol=limit)


@cache
def model(spec: str) -> nn.Module:
    return hvdsl.build(spec, overrides=SPECS[spec]).double().eval()


def probe(body: str, channels: int, size: int) -> nn.Module:
    """A cell by itself, in float64 and evaluation."""
    text = PROBE.format(body=body, channels=channels, size=size)
    built = hvdsl.build(Source("probe.hv", text)).double().eval()
    return built.get_submodule(f"encoder.r{size}.probe.0")


def put(module: nn.Module, *values: Tensor) -> nn.Module:
    """Set all parameters, in order, whatever their sizes: a convolution takes those of its weights."""
    names = [name for name, _ in module.named_parameters()]
    for name, value in zip(names, values, strict=True):
        path, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(path), leaf, nn.Parameter(value))
    return module


def convolution(recorded: dict[str, Tensor], name: str) -> list[Tensor]:
    """Weight, gain and bias of a weight-normalised convolution of the recording."""
    parts = ("weight_v", "weight_g", "bias")
    return [recorded[f"in.w.{name}.conv.{part}"] for part in parts]


def test_every_recording_is_compared() -> None:
    recorded = {path.stem for path in FOLDER.glob("*.safetensors")}
    text = Path(__file__).read_text(encoding="utf-8")
    elsewhere = {name for names in ELSEWHERE.values() for name in names}
    here = {name for name in recorded - elsewhere if f'"{name}"' in text}
    assert len(recorded) == 28 and recorded == here | elsewhere
    for file, names in ELSEWHERE.items():
        other = (FOLDER.parents[2] / file).read_text(encoding="utf-8")
        assert all(name in other for name in names)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("biva_block", "encoder.r32.rise.0.d.chain.0.gated.1"),
        ("biva_block_down", "encoder.r32.rise.0.d.chain.0.gated.2"),
        ("biva_block_up", "decoder.r16.descend.0.b1.gated.0"),
    ],
)
def test_blocks_of_biva(name: str, place: str) -> None:
    recorded = case(name)
    block = model("biva_cifar10").get_submodule(place)
    put(block, *(t for part in ("conv1", "aux_op", "conv2") for t in convolution(recorded, part)))
    close(block(recorded["in.x"], recorded["in.aux"]), recorded["out.y"])


def test_the_residual_cell_of_efficient_vdvae() -> None:
    recorded = case("evdvae_residual_cell")
    values = [recorded[f"in.w.convs.{i}.{part}"] for i in (1, 3, 5, 7) for part in ("weight", "bias")]
    block = put(model("evdvae_cifar10").get_submodule("encoder.r32.block.0"), *values)
    close(block(recorded["in.x"]), recorded["out.y"])


@pytest.mark.parametrize(
    ("name", "place"), [("evdvae_pool", "encoder.r16.down.0"), ("evdvae_pool4", "encoder.r4.down.0")]
)
def test_pools_of_efficient_vdvae(name: str, place: str) -> None:
    recorded = case(name)
    pool = put(model("evdvae_cifar10").get_submodule(place), recorded["in.w.ops.0.weight"], recorded["in.w.ops.0.bias"])
    close(pool(recorded["in.x"]), recorded["out.y"])


def test_the_unpool_of_efficient_vdvae() -> None:
    recorded = case("evdvae_unpool")
    values = recorded["in.w.ops.0.weight"], recorded["in.w.ops.0.bias"], recorded["in.w.scale_bias"][0]
    unpool = put(model("evdvae_cifar10").get_submodule("decoder.r8.up.0"), *values)
    close(unpool(recorded["in.x"], Traversal((), len(recorded["in.x"]))), recorded["out.y"])


def test_merges_that_are_learned() -> None:
    recorded = case("learned_merge_linear")
    merge = probe("conv(1x1, 4)", 8, 3)
    both = torch.cat((recorded["in.bu"], recorded["in.td"]), 1)
    close(put(merge, recorded["in.w.layer.weight"], recorded["in.w.layer.bias"])(both), recorded["out.y"])

    recorded = case("learned_merge_residual")
    gate = "{ a, b = conv(1x1, 8) -> split(4, 4); (a -> elu) * (b -> sigmoid) }"
    body = "batch_norm -> elu -> conv(3x3, 4) -> dropout(0.2)"
    merge = probe(f"h = conv(1x1, 4); h + (h -> {body} -> {body} -> {gate})", 8, 3)
    layers = dict(merge.named_modules())
    first, third, fifth, last = (m for m in layers.values() if type(m).__name__ == "Conv2d")
    norms = [m for m in layers.values() if "BatchNorm" in type(m).__name__]
    of = {"layer.0": first, "layer.1.block.2": third, "layer.1.block.6": fifth, "layer.1.block.8.conv": last}
    of |= {"layer.1.block.0": norms[0], "layer.1.block.4": norms[1]}
    for key, layer in of.items():
        prefix = f"in.w.{key}."
        values = {k.removeprefix(prefix): v for k, v in recorded.items() if k.startswith(prefix)}
        layer.load_state_dict(values)
    both = torch.cat((recorded["in.bu"], recorded["in.td"]), 1)
    close(merge(both), recorded["out.y"])


def test_the_stochastic_block_of_the_ladder() -> None:
    """Parameters are means and log-variances; the divergence is closed, or log q - log p at the forced z."""
    recorded = case("ladder_stochastic_block")
    parts = {}
    for side, key in (("p", "in.p_features"), ("q", "in.q_features")):
        values = (recorded[f"in.w.conv_in_{side}.{part}"] for part in ("weight", "bias"))
        parts[side] = put(probe("conv(3x3, 6)", 4, 3), *values)(recorded[key])
        close(parts[side], recorded[f"out.{side}_params"])
    p, q = (Normal.of(t[:, :3], log_scale=t[:, 3:] / 2) for t in (parts["p"], parts["q"]))
    z, divergence = recorded["in.z"], q.kl(p)
    close(divergence.sum(1), recorded["out.kl_spatial"])
    close(divergence.flatten(1).sum(1), recorded["out.kl_analytic_per_sample"])
    for distribution, key in ((p, "out.logprob_p"), (q, "out.logprob_q")):
        close(distribution.log_prob(z).flatten(1).sum(1), recorded[key])
    close((q.log_prob(z) - p.log_prob(z)).flatten(1).sum(1), recorded["out.kl_mc_per_sample"])
    last = put(probe("conv(3x3, 4)", 3, 3), recorded["in.w.conv_out.weight"], recorded["in.w.conv_out.bias"])
    close(last(z), recorded["out.out"])


def test_a_step_of_the_inverse_autoregressive_flow() -> None:
    recorded = case("iaf_step")
    flow = model("iaf_cifar10").get_submodule("decoder.r16.layer.0.z.posterior.flow.0")
    names = ("hidden0", "hidden1", "mean", "logsd")
    for name, layer in zip(names, flow.conv, strict=True):
        assert torch.equal(layer.mask.to(torch.float64), recorded[f"in.mask.{name}"].to(torch.float64))
    values = []
    for name in names:
        values += [recorded[f"in.w.{name}.V"], recorded[f"in.w.{name}.g"].view(-1, 1, 1, 1), recorded[f"in.w.{name}.b"]]
    put(flow, *values)
    base = Normal.of(
        recorded["in.up_mean"] + recorded["in.td_mean"], log_scale=recorded["in.up_logsd"] + recorded["in.td_logsd"]
    )
    start = base.sample(recorded["in.eps"])
    close(start, recorded["out.z0"])
    scale, z = flow(start, recorded["in.up_context"] + recorded["in.td_context"])
    close(z, recorded["out.z1"])
    close(scale, recorded["out.ar_logsd"])
    log_q = Flowed(base, start, z, -scale).log_q
    close(log_q, recorded["out.log_q1"])
    prior = Normal.of(recorded["in.p_mean"], log_scale=recorded["in.p_logsd"])
    close(log_q - prior.log_prob(z), recorded["out.kl_elementwise"])


def test_gated_flow_steps_on_vectors() -> None:
    """g z + (1 - g) m with strictly causal weights over channels; the order is reversed between the steps."""
    recorded = case("iaf_gated_linear")
    body = "iaf(gated) { (x -> conv(1x1, 5, mask = causal(before))), (x -> conv(1x1, 5, mask = causal(before))) }"
    text = PROBE.format(body="identity", channels=3, size=1)
    text = text.replace("cell probe", f"cell step {{ {body} }}\ncell probe")
    text = text.replace("posterior normal(skip -> conv(1x1, 4))", "posterior normal(skip -> conv(1x1, 10)) -> step")
    built = hvdsl.build(Source("probe.hv", text.replace("standard(2)", "standard(5)"))).double().eval()
    step = built.get_submodule("decoder.r1.level.0.z.posterior.step.0")
    base = Normal.of(recorded["in.mu"][..., None, None], log_scale=recorded["in.logsd"][..., None, None])
    z = base.sample(recorded["in.eps"][..., None, None])
    log_q = base.log_prob(z)
    close(z[..., 0, 0], recorded["out.z0"])
    close(log_q.flatten(1).sum(1), recorded["out.logq0"])
    for i in (0, 1):
        values = [recorded[f"in.{name}{i}"] for name in ("W", "bm", "U", "bs")]
        put(step, *(value[..., None, None] if value.dim() == 2 else value for value in values))
        s, z = step(z)
        log_q = log_q - torch.nn.functional.logsigmoid(s)
        close(z[..., 0, 0], recorded[f"out.z{i + 1}"])
        close(log_q.flatten(1).sum(1), recorded[f"out.logq{i + 1}"])
        z, log_q = z.flip(1), log_q.flip(1)


def gradient(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value.sum(), inputs)


def test_discretised_logistics_of_iaf_and_of_the_ladder() -> None:
    recorded = case("discretized_logistic_iaf")
    raw, log_scale = recorded["in.raw_mean"].requires_grad_(), recorded["in.log_scale"]
    likelihood = DiscretizedLogistic(bits=8, bin=1 / 256, bins="open", at_least=1e-7).double()
    likelihood.log_scale = nn.Parameter(log_scale)
    log_prob = likelihood.log_prob(raw.clamp(-0.5 + 1 / 512, 0.5 - 1 / 512), recorded["out.x"])
    close(log_prob.detach(), recorded["out.logp_per_sample"])
    close(-log_prob.detach() / (raw[0].numel() * math.log(2)), recorded["out.bits_per_dim"])
    for found, key in zip(gradient(log_prob, raw, likelihood.log_scale), ("raw_mean", "log_scale"), strict=True):
        close(found, recorded[f"grad.{key}"])

    recorded = case("discretized_logistic_ladder")
    mean, log_scale = recorded["in.mean"].requires_grad_(), recorded["in.log_scale"].requires_grad_()
    likelihood = DiscretizedLogistic(bits=8, bin=2 / 256, scale=exp(), lower=-30, at_least=1e-14)
    params = torch.cat((2 * mean - 1, log_scale + math.log(2)), 1)  # in our units, from -1 to 1
    centres = recorded["out.x01"] * 255 / 256 + 1 / 512  # of 256 bins that fill the interval
    log_prob = likelihood.log_prob(params, 2 * centres - 1)
    # The recording subtracts two sigmoids, which in the far tails leaves rounding beside its 1e-14; ours does not.
    close(log_prob.detach(), recorded["out.logp_per_sample"].double(), 1e-5)
    scale = log_scale.detach().exp()
    mass = torch.sigmoid((centres + 1 / 512 - mean) / scale) - torch.sigmoid((centres - 1 / 512 - mean) / scale)
    inner = mass > 1e-6
    assert inner.float().mean() > 0.5
    for found, key in zip(gradient(log_prob, mean, log_scale), ("mean", "log_scale"), strict=True):
        close(found[inner], recorded[f"grad.{key}"][inner])


def test_mixtures_of_discretised_logistics() -> None:
    recorded = case("dmol_pixelcnnpp_layout")
    logits = recorded["in.logits"].requires_grad_()
    likelihood = DiscretizedLogisticMixture(3, channels=3, bins="published")
    nll = -likelihood.log_prob(logits, recorded["out.target"])
    close(nll.detach(), recorded["out.nll_per_sample"])
    close(gradient(nll, logits)[0], recorded["grad.d_nll_sum_d_logits"])

    recorded = case("evdvae_dmol")
    # Five bits are on a grid of eight bits there: 0.945, not 1, is the last value, and takes the upper tail.
    five = {"bits": 5, "bins": "published", "lower": -14, "upper_edge": 0.94}
    for key, options in (("8bit", {"bits": 8, "lower": -250}), ("5bit", five)):
        for mode, scale in (("std", softplus(0.6931472)), ("logstd", exp())):
            logits = recorded["in.logits"].clone().requires_grad_()
            likelihood = DiscretizedLogisticMixture(3, channels=3, scale=scale, **options)
            nll = -likelihood.log_prob(logits, recorded[f"out.target_{key}"]).sum()
            close(nll.detach(), recorded[f"out.nll_sum_{key}_{mode}"].squeeze())
            close(gradient(nll, logits)[0], recorded[f"grad.d_nll_{key}_{mode}"])


def test_schedules_of_efficient_vdvae() -> None:
    """β ramps over start + steps, as its source divides; the balance weighs groups by nats per element."""
    recorded = case("evdvae_schedules")
    ramp = Ramp(**{"from": 0.0}, start=Duration(n=21), length=Duration(n=5021), floor=1e-4)
    beta = Beta(ramp, Clock(1, None).steps)
    betas = [beta(int(step)) for step in recorded["in.steps"]]
    close(torch.tensor(betas, dtype=torch.float64), recorded["out.linear_beta"].double(), 1e-6)
    schedule = Schedule(kind="cosine", floor=2e-4, after=Duration(n=50_000), over=Duration(n=750_000))
    optimizer = Optimizer(kind="adamax", lr=1e-3)
    train = Train(steps=800_000, batch=1, optimizer=optimizer, schedule=schedule, warmup=Duration(n=100))
    rate = LearningRate(train, Clock(1, 800_000))
    rates = torch.tensor([rate(int(step)) for step in recorded["in.lr_steps"]], dtype=torch.float64)
    close(rates, recorded["out.cosine_lr_intended"].double(), 1e-6)
    groups = [LatentGroup("z", f"z.{i}", "normal", (1, 1, 1)) for i in range(47)]  # rates per element as they are
    weights = balance_by_rate(recorded["in.avg_kl_per_group"].double(), groups)
    close((weights * recorded["in.kl_per_group"]).sum(), recorded["out.gamma_scaled"].squeeze(), 1e-6)
    close(weights, recorded["grad.d_gamma_scaled_d_kl"], 1e-6)


@pytest.mark.parametrize(
    ("corrected", "key"), [(True, "torch_bias_corrected"), (False, "iaf_theano_no_bias_correction")]
)
def test_adamax_with_and_without_correction(corrected: bool, key: str) -> None:
    recorded = case("adamax_variants")
    model = nn.ParameterDict({"weight": nn.Parameter(recorded["in.param0"].clone())})
    optimizer = build_optimizer(model, Optimizer(kind="adamax", lr=0.002, bias_correction=corrected))
    for step, after in enumerate(recorded[f"out.{key}"]):
        model["weight"].grad = recorded[f"in.grad{step}"].clone()
        optimizer.step()
        close(model["weight"].detach(), after)


def test_vector_and_residual_quantisation() -> None:
    recorded = case("vq_straight_through")
    z = recorded["in.z_e"].requires_grad_()
    codebook = GradientCodebook(8, 4, (3, 3)).double()
    codebook.load_state_dict({"codes": recorded["in.codebook"][None]})
    quantized = codebook.quantize(NearestCode(z))
    assert torch.equal(quantized.codes[:, 0], recorded["out.indices"].long())
    close(quantized.value.detach(), recorded["out.z_q"])
    assert quantized.codebook is not None
    losses = quantized.codebook, quantized.commitment
    for loss, key in zip(losses, ("codebook_loss", "commitment_loss"), strict=True):
        close(loss.mean().detach(), recorded[f"out.{key}"].squeeze())
    loss = losses[0].mean() + 0.25 * losses[1].mean() + (quantized.value * recorded["in.upstream_grad"]).sum()
    loss.backward()
    close(z.grad, recorded["grad.z_e"])
    close(codebook.codes.grad[0], recorded["grad.codebook"])

    recorded = case("residual_quantisation")
    tables = torch.stack([recorded[f"in.codebook{i}"] for i in range(3)])
    residual = EmaCodebook(8, 4, (3, 3), depth=3).double().eval()
    residual.load_state_dict(residual.state_dict() | {"codes": tables})
    quantized = residual.quantize(NearestCode(recorded["in.z_e"]))
    indices = recorded["out.indices"].long()
    assert torch.equal(quantized.codes, indices if indices.shape[1] == 3 else indices.movedim(-1, 1))
    close(quantized.value, recorded["out.partial_sum3"])
    close(quantized.commitment.mean(), recorded["out.commitment_sum"].squeeze())
