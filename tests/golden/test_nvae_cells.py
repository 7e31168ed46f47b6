"""NVAE's building blocks, emitted from the language, against outputs and gradients recorded from the published code.

`HVDSL_RECORDINGS` names a folder with all of the recordings; the repository holds most of them.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import hvdsl
from hvdsl.runtime.distributions import exp, soft_clamp
from hvdsl.runtime.ground.noise import RecordedNoise
from hvdsl.runtime.likelihoods import DiscretizedLogisticMixture, NormalDensity
from hvdsl.runtime.likelihoods.discretized_logistic import LOGISTIC_STREAM, MIXTURE_STREAM

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("HVDSL_RECORDINGS", HERE)) / "nvae_cells"

SPEC = """hv 1
model probe
use "nvae_cells.hv"
default conv       {{ norm = weight(gain = log, eps = 1e-5) }}
default batch_norm {{ momentum = 0.05 }}
data arrays {{ shape = {shape}, bits = 8, input = v, target = v / 255 }}
{top}
cell probe {{ {step} }}
cell place {{ probe -> global_pool }}
group level {{ z ~ normal(standard(2)) posterior normal(skip -> conv(1x1, 4)); x + (z -> conv(1x1, 8)) }}
encoder {{
  {size}: place
  1: tap
}}
decoder {{
  1: learned(zeros, 8) -> level
  {size}: nearest({size}) -> conv(1x1, logits)
}}
likelihood bernoulli
objective {{ unit = nats_per_image }}
"""
PLAIN = "cell squeeze_excite { identity }"
EXPAND = "batch_norm -> conv(1x1, 24, bias = no, norm = none)"
PROJECT = "batch_norm -> swish -> conv(1x1, 8, bias = no, norm = none) -> batch_norm"

BLOCKS = {
    "op_res_bnelu_s1": "batch_norm -> elu -> conv(3x3, 8)",
    "op_res_bnelu_down": "batch_norm -> elu -> conv(3x3, 16, stride = 2)",
    "op_res_bnelu_up": "batch_norm -> elu -> nearest(2) -> conv(3x3, 4)",
    "op_res_bnswish_s1": "batch_norm -> swish -> conv(3x3, 8)",
    "op_res_bnswish_down": "batch_norm -> swish -> conv(3x3, 16, stride = 2)",
    "op_res_bnswish_up": "batch_norm -> swish -> nearest(2) -> conv(3x3, 4)",
    "op_res_bnswish5_s1": "batch_norm -> swish -> conv(3x3, 8, dilation = 2)",
    "op_res_bnswish5_down": "batch_norm -> swish -> conv(3x3, 16, stride = 2, dilation = 2)",
    "op_res_bnswish5_up": "batch_norm -> swish -> nearest(2) -> conv(3x3, 4, dilation = 2)",
    "op_mconv_e3k5g0_s1": "inverted_residual(8, 3)",
    "op_mconv_e3k5g0_down": "inverted_residual(16, 3, stride = 2)",
    "op_mconv_e3k5g0_up": "nearest(2) -> inverted_residual(4, 3)",
    "op_mconv_e6k5g0_s1": "inverted_residual(8, 6)",
    "op_mconv_e6k5g0_down": "inverted_residual(16, 6, stride = 2)",
    "op_mconv_e6k5g0_up": "nearest(2) -> inverted_residual(4, 6)",
    "op_mconv_e6k11g0_s1": EXPAND.replace("24", "48")
    + " -> batch_norm -> swish -> depthwise(11x11, bias = no) -> "
    + PROJECT,
    "op_mconv_e3k5g8_s1": EXPAND
    + " -> batch_norm -> swish -> conv(5x5, 24, groups = 8, bias = no, norm = none) -> "
    + PROJECT,
    "op_mconv_e3k5g8_down": EXPAND
    + " -> batch_norm -> swish -> conv(5x5, 24, groups = 8, stride = 2, bias = no, norm = none) -> "
    + PROJECT.replace("8", "16"),
    "op_mconv_e3k5g8_up": "nearest(2) -> "
    + EXPAND
    + " -> batch_norm -> swish -> conv(5x5, 24, groups = 8, bias = no, norm = none) -> "
    + PROJECT.replace("8", "4"),
    **{
        f"cell_{kind}_{attention}": step
        for attention in ("se", "nose")
        for kind, step in {
            "normal_pre": "enc_cell",
            "normal_enc": "enc_cell",
            "down_pre": "down_cell",
            "down_enc": "down_cell",
            "normal_dec": "dec_cell",
            "up_dec": "up_cell",
            "normal_post": "dec_cell(expand = 3)",
            "up_post": "up_cell(expand = 3)",
        }.items()
    },
    "se_c8": "squeeze_excite",
    "se_c96": "squeeze_excite",
    "skip_down_factorized_reduce": "factorized_reduce(16)",
    "skip_down_factorized_reduce_uneven": "factorized_reduce(10)",
    "skip_up_bilinear_conv": "bilinear(2, align_corners = yes) -> conv(1x1, 4, bias = no)",
    "combiner_enc": "a, b = split(8, 10); a + (b -> conv(1x1, 8))",
    "combiner_dec": "conv(1x1, 8)",
    "wnconv_depthwise5_noweightnorm": "depthwise(5x5, bias = no)",
    "flow_cell_normal": "shift_flow(against = no)",
    "flow_cell_mirror": "shift_flow(against = yes)",
    "flow_pair": "flow_pair",
}
PRESENT = [name for name in BLOCKS if (FOLDER / f"{name}.safetensors").exists()]
ELSEWHERE = {  # compared by the tests of what they are about
    "tests/runtime/layers/test_causal_mask.py": [
        f"arconv_{kind}_{direction}"
        for kind in ("1x1_project", "3x3_square", "3x3_zerodiag_expand", "3x3_zerodiag_reduce", "5x5_depthwise")
        for direction in ("mirror", "normal")
    ],
    "tests/runtime/layers/test_layers.py": [
        *(f"wnconv_{kind}" for kind in ("1x1_nobias", "3x3_bias", "3x3_dilation2", "3x3_stride2", "init"))
    ],
    "tests/runtime/likelihoods/test_bernoulli.py": ["bernoulli_crop"],
    "tests/runtime/objective/test_objective.py": ["kl_balancer"],
    "tests/runtime/objective/test_penalties.py": ["spectral"],
    "tests/runtime/test_distributions.py": ["normal_kl", "normal_kl_residual"],
    "tests/runtime/training/step/test_start_from_batch.py": ["op_res_elu_datainit"],
    "tests/runtime/training/step/test_optimizer.py": ["adamax_fast", "adamax_torch"],
}
MIXTURES = sorted(path.stem for path in FOLDER.glob("dmol_*.safetensors"))
HEADS = ["bit_depth", "normal_head", "soft_clamp"]  # by the tests of this file that bear their names
NOT_IN_THE_REPOSITORY = 23  # variants of blocks that it does hold


def test_every_recording_is_compared() -> None:
    """But for `…_unused`: code of the release that no model of it runs."""
    recorded = {path.stem for path in FOLDER.glob("*.safetensors") if not path.stem.endswith("_unused")}
    elsewhere = [name for names in ELSEWHERE.values() for name in names]
    assert recorded == {*PRESENT, *elsewhere, *MIXTURES, *HEADS}
    assert len(recorded) == (76 - NOT_IN_THE_REPOSITORY if FOLDER.parent == HERE else 76)
    assert all((HERE / "nvae_cells" / f"{name}.safetensors").exists() for name in elsewhere + HEADS)
    assert all((HERE.parents[1] / test).exists() for test in ELSEWHERE)


def block(name: str, x: Tensor, folder: Path) -> tuple[nn.Module, list[str]]:
    """The emitted block by itself, and the names of its modules in order of execution."""
    _, channels, height, width = x.shape
    plain = name.startswith("op_") or name.endswith("_nose")
    path = folder / "probe.hv"
    top = PLAIN if plain else ""
    path.write_text(SPEC.format(shape=f"{channels}x{height}x{width}", top=top, step=BLOCKS[name], size=height))
    head = f"encoder.r{height}.place.0.probe.0"
    nodes = hvdsl.compile(path).model.graph.nodes
    names = [n.path.removeprefix(f"{head}.") for n in nodes if n.parameters and n.path.startswith(head)]
    return hvdsl.build(path).get_submodule(head), names


def load(module: nn.Module, executed: list[str], weights: dict[str, Tensor]) -> dict[str, str]:
    """Copy recorded weights, module by module in order of execution; return our name of each recorded tensor."""

    def place(path: str) -> tuple[int, list[int]]:
        part = 0 if path.startswith("skip") else 2 if path.startswith("se.se") else 1
        return part, [int(n) for n in re.findall(r"\d+", path.replace("mu.conv_0", "conv.convz.4"))]

    theirs = sorted({key.rpartition(".")[0] for key in weights}, key=place)
    assert len(executed) == len(theirs)
    names = {}
    for key in weights:
        path, _, role = key.rpartition(".")
        names[key] = f"{executed[theirs.index(path)]}.{role.replace('log_weight_norm', 'gain')}"
    state = module.state_dict()
    module.load_state_dict({names[key]: value.reshape(state[names[key]].shape) for key, value in weights.items()})
    return names


@pytest.mark.parametrize("name", PRESENT)
def test_block(name: str, tmp_path: Path) -> None:
    g = load_file(FOLDER / f"{name}.safetensors")
    start = g["x"] if "x" in g else torch.cat((g["x1"], g["x2"]), 1)
    module, executed = block(name, start, tmp_path)
    weights = {key.removeprefix("w."): value for key, value in g.items() if key.startswith("w.")}
    names = load(module, executed, weights)
    for mode, suffix in (("eval", "_eval"), ("train", "_train")) if "y_eval" in g else (("train", ""),):
        module.train(mode == "train").zero_grad()
        x = start.clone().requires_grad_()
        y = module(x)
        torch.testing.assert_close(y.detach(), g[f"y{suffix}"], rtol=1e-4, atol=1e-5)
        if "gy" not in g:
            continue
        y.backward(g["gy"])
        wanted = g[f"gx{suffix}"] if f"gx{suffix}" in g else torch.cat((g["gx1"], g["gx2"]), 1)
        torch.testing.assert_close(x.grad, wanted, rtol=1e-3, atol=1e-5)
        for key, ours in names.items():
            if f"gw{suffix}.{key}" in g:
                gradient = module.get_parameter(ours).grad
                assert gradient is not None
                wanted = g[f"gw{suffix}.{key}"].reshape(gradient.shape)
                assert (gradient - wanted).norm() <= 1e-3 * wanted.norm() + 1e-4, key
    for key, value in g.items():
        if key.startswith("bn_after."):
            torch.testing.assert_close(module.get_buffer(names[key.removeprefix("bn_after.")]), value)
        elif key.startswith("mask."):
            mask = module.get_submodule(names[f"{key.removeprefix('mask.')}.weight"].removesuffix(".weight")).mask
            assert mask.equal(value.expand_as(mask)), key
    if "jacobian_3x3_crop" in g:
        crop = start[:1, :, :3, :3]
        dense = torch.autograd.functional.jacobian(module, crop).reshape(crop.numel(), crop.numel())
        torch.testing.assert_close(dense, g["jacobian_3x3_crop"], rtol=1e-4, atol=1e-5)
        assert g["log_det"].count_nonzero() == 0  # as that of a shift by its definition


def test_soft_clamp() -> None:
    g = load_file(HERE / "nvae_cells" / "soft_clamp.safetensors")
    x = g["x"].requires_grad_()
    y = soft_clamp(5)(x)
    torch.testing.assert_close(y.detach(), g["y"])
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], g["dydx"], rtol=1e-5, atol=1e-6)


def test_normal_head() -> None:
    g = load_file(HERE / "nvae_cells" / "normal_head.safetensors")
    head = NormalDensity(mean=soft_clamp(5), scale=exp(soft_clamp=5, add=0.01))
    found = head.log_prob(g["logits"].requires_grad_(), 2 * g["x"] - 1)
    torch.testing.assert_close(found, g["log_prob"].flatten(1).sum(1), rtol=1e-5, atol=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), g["logits"])
    assert (gradient - g["g.logits"]).norm() <= 1e-3 * g["g.logits"].norm()
    sample = head.sample(g["logits"], RecordedNoise(2, streams={NormalDensity.stream: g["eps"]}))
    torch.testing.assert_close(sample / 2 + 0.5, g["sample"], rtol=1e-5, atol=1e-5)


def test_bit_depth() -> None:
    g = load_file(HERE / "nvae_cells" / "bit_depth.safetensors")
    for bits in (8, 5, 3):
        most = 2**bits - 1
        kept = g["uint8"].long() >> (8 - bits)
        torch.testing.assert_close(kept / most, g[f"bits{bits}"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_of_discretised_logistics(name: str) -> None:
    """With the published upper edge; the recorded pixels include both ends of the grid."""
    g = load_file(FOLDER / f"{name}.safetensors")
    bits, mixtures = (int(n) for n in re.findall(r"\d+", name))
    likelihood = DiscretizedLogisticMixture(mixtures, channels=3, bits=bits, bins="published", upper_edge=0.99)
    logits, target = g["logits"].clone().requires_grad_(), 2 * g["x"] - 1
    found = likelihood.log_prob_per_pixel(logits, target)
    torch.testing.assert_close(found.detach(), g["log_prob"], rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert (gradient - g["g.logits"]).norm() <= 1e-3 * g["g.logits"].norm()
    wide = likelihood.log_prob_per_pixel(g["logits"].double(), 2 * g["x"].double() - 1)
    torch.testing.assert_close(wide, g["log_prob_f64"], rtol=1e-12, atol=1e-9)
    noise = RecordedNoise(len(target), streams={MIXTURE_STREAM: g["u_mix"], LOGISTIC_STREAM: g["u_logistic"]})
    sample, mean = likelihood.sample(g["logits"], noise), likelihood.mean(g["logits"])
    torch.testing.assert_close(sample / 2 + 0.5, g["sample_t1.0"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean / 2 + 0.5, g["mean"], rtol=1e-4, atol=1e-5)
    # The release divides a logistic's scale by the temperature, where ours is multiplied by it.
    colours = g["logits"][:, mixtures:].unflatten(1, (3, 3 * mixtures)).clone()
    colours[:, :, mixtures : 2 * mixtures].clamp_(min=-7).sub_(2 * math.log(0.7))
    turned = torch.cat((g["logits"][:, :mixtures], colours.flatten(1, 2)), 1)
    sample = likelihood.sample(turned, noise, temperature=0.7)
    torch.testing.assert_close(sample / 2 + 0.5, g["sample_t0.7"], rtol=1e-4, atol=1e-5)
