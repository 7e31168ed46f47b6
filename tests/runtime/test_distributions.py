"""Normal distributions: recorded divergences, scale maps and couplings of published systems."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hvdsl.runtime.distributions import (
    Normal,
    exp,
    product,
    relative,
    soft_clamp,
    softplus,
    softplus_logvar,
    softplus_variance,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def family(name):
    return load_file(GOLDEN / "family" / f"{name}.safetensors")


def assert_close(found, recorded, limit=1e-9):
    torch.testing.assert_close(found, recorded, rtol=limit, atol=limit)


def test_divergence_density_and_draw_of_two_normals():
    g = family("gaussian_kl")
    inputs = {k: g[f"in.{k}"].requires_grad_() for k in ("q_mu", "q_logvar", "p_mu", "p_logvar")}
    q = Normal.of(inputs["q_mu"], log_scale=inputs["q_logvar"] / 2)
    p = Normal.of(inputs["p_mu"], log_scale=inputs["p_logvar"] / 2)
    kl = q.kl(p)
    z = q.sample(g["in.eps"])
    assert_close(kl.detach(), g["out.kl_elementwise"])
    assert_close(z.detach(), g["out.z"])
    assert_close(q.log_prob(z).detach(), g["out.log_q"])
    assert_close(p.log_prob(z).detach(), g["out.log_p"])
    kl.sum().backward()
    for name, value in inputs.items():
        assert_close(value.grad, g[f"grad.{name}"])


def test_divergence_from_the_standard_normal():
    g = family("gaussian_kl")
    q = Normal.of(g["in.q_mu"], log_scale=g["in.q_logvar"] / 2)
    assert_close(q.kl(Normal.standard(q.shape)), g["out.kl_to_standard_normal"])


def test_posterior_relative_to_the_prior():
    g = family("residual_normal_kl")
    prior = Normal.of(g["in.p_mu"], log_scale=g["in.p_logsigma"])
    posterior = relative(Normal.of(g["in.d_mu"], log_scale=g["in.d_logsigma"]), prior)
    assert_close(posterior.mean, g["out.q_mu"])
    assert_close(posterior.log_scale, g["out.q_logsigma"])
    assert_close(posterior.kl(prior), g["out.kl_elementwise"])


def test_product_of_bottom_up_and_top_down():
    g = family("precision_weighted_merge")
    names = ("bu_mu", "bu_pre_var", "td_mu", "td_pre_var")
    inputs = {k: g[f"in.{k}"].requires_grad_() for k in names}
    up = Normal(torch.cat((inputs["bu_mu"], inputs["bu_pre_var"]), 1), scale=softplus_variance())
    down = Normal(torch.cat((inputs["td_mu"], inputs["td_pre_var"]), 1), scale=softplus_variance())
    merged = product(up, down)
    assert_close(up.scale.square().detach(), g["out.bu_var"])
    assert_close(merged.mean.detach(), g["out.q_mu"])
    assert_close(merged.scale.square().detach(), g["out.q_var"])
    assert_close(merged.sample(g["in.eps"]).detach(), g["out.z"])
    kl = merged.kl(down)
    assert_close(kl.detach(), g["out.kl_elementwise"])
    kl.sum().backward()
    for name, value in inputs.items():
        assert_close(value.grad, g[f"grad.{name}"])


def test_product_of_log_standard_deviations():
    g = family("precision_weighted_merge_logsd")
    up = Normal.of(g["in.bu_mu"], log_scale=g["in.bu_logsd"])
    down = Normal.of(g["in.td_mu"], log_scale=g["in.td_logsd"])
    merged = product(up, down)
    assert_close(merged.mean, g["out.q_mu"])
    assert_close(2 * merged.log_scale, g["out.q_logvar"])
    assert_close(merged.kl(down), g["out.kl_elementwise"])


def test_product_of_scales_of_any_size_is_finite():
    tiny, huge = (Normal.of(torch.zeros(1), log_scale=torch.tensor([s])) for s in (-60.0, 60.0))
    assert_close(product(tiny, huge).log_scale, torch.tensor([-60.0]))
    assert_close(product(huge, huge).log_scale, torch.tensor([60.0 - 0.34657359]), 1e-6)


@pytest.mark.parametrize(("beta", "tag"), [(0.6931472, "0.6931"), (1.0, "1"), (0.4, "0.4")])
def test_softplus_scale(beta, tag):
    g = family("evdvae_sigma")
    normal = Normal(g["in.head"], scale=softplus(beta))
    prior = Normal.of(g["in.prior_mean"], scale=g["in.prior_std"])
    assert_close(normal.scale, g[f"out.std_beta{tag}"])
    posterior = relative(normal, prior)
    assert_close(posterior.mean, g[f"out.residual_mean_beta{tag}"])
    assert_close(posterior.scale, g[f"out.residual_std_beta{tag}"])
    assert_close(normal.kl(prior), g[f"out.kl_std_beta{tag}"])


def test_softplus_log_variance_keeps_scales_above_one():
    g = family("biva_sigma")
    normal = Normal(g["in.head"], scale=softplus_logvar())
    assert_close(normal.mean, g["out.mu"])
    assert_close(normal.scale, g["out.std"])
    assert_close(normal.sample(g["in.eps"]), g["out.z"])
    assert normal.scale.min() >= 1


def clamped(mean, scale):
    return Normal(torch.cat((mean, scale), 1), mean=soft_clamp(5), scale=exp(soft_clamp=5, add=0.01))


def test_soft_clamped_normals():
    g = load_file(GOLDEN / "nvae_cells" / "normal_kl.safetensors")
    names = ("q_mu_raw", "q_logsig_raw", "p_mu_raw", "p_logsig_raw")
    raw = {k: g[k].requires_grad_() for k in names}
    q = clamped(raw["q_mu_raw"], raw["q_logsig_raw"])
    p = clamped(raw["p_mu_raw"], raw["p_logsig_raw"])
    assert_close(q.mean.detach(), g["q_mu"], 1e-5)
    assert_close(q.scale.detach(), g["q_sigma"], 1e-5)
    z = q.sample(g["eps"])
    assert_close(z.detach(), g["z"], 1e-5)
    assert_close(q.log_prob(z).detach(), g["log_q"], 2e-5)
    assert_close(p.log_prob(z).detach(), g["log_p"], 2e-5)
    kl = q.kl(p)
    assert_close(kl.detach(), g["kl"], 2e-5)
    kl.sum().backward()
    for name, value in raw.items():
        assert_close(value.grad, g[f"g.{name}"], 2e-5)


def test_temperature_multiplies_the_whole_scale():
    g = load_file(GOLDEN / "nvae_cells" / "normal_kl.safetensors")
    p = clamped(g["p_mu_raw"], g["p_logsig_raw"])
    drawn = p.sample(torch.ones_like(p.mean), temperature=0.6)
    assert_close(drawn - p.mean, g["p_sigma_temp0.6"], 2e-5)


def test_raw_parameters_that_add_before_the_maps():
    g = load_file(GOLDEN / "nvae_cells" / "normal_kl_residual.safetensors")
    raw = {k: g[k].requires_grad_() for k in ("p_mu_raw", "p_logsig_raw", "delta_mu", "delta_logsig")}
    p = clamped(raw["p_mu_raw"], raw["p_logsig_raw"])
    q = clamped(raw["p_mu_raw"] + raw["delta_mu"], raw["p_logsig_raw"] + raw["delta_logsig"])
    for made, name in ((p, "p"), (q, "q")):
        assert_close(made.mean.detach(), g[f"{name}_mu"], 1e-5)
        assert_close(made.scale.detach(), g[f"{name}_sigma"], 1e-5)
    kl = q.kl(p)
    assert_close(kl.detach(), g["kl"], 2e-5)
    kl.sum().backward()
    for name, value in raw.items():
        assert_close(value.grad, g[f"g.{name}"], 2e-5)


def test_a_prior_of_raw_zeros_has_the_recorded_deviation():
    recorded = load_file(GOLDEN / "nvae_cells" / "normal_kl.safetensors")["standard_prior_sigma"]
    zero = torch.zeros(1, 1, 1, 1)
    assert_close(clamped(zero, zero).scale.flatten(), recorded, 1e-6)


def test_half_precision_parameters_are_widened():
    q, p = Normal(torch.randn(2, 8, 3, 3).bfloat16()), Normal(torch.randn(2, 8, 3, 3).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        kl = q.kl(p)
        z = q.sample(torch.zeros(2, 4, 3, 3))
    assert kl.dtype == z.dtype == q.log_prob(z).dtype == torch.float32


def test_density_floor_acts_in_densities_only():
    params = torch.tensor([0.0, 0.0]).reshape(1, 2, 1, 1)
    floored = Normal(params, density_floor=3.0)
    assert floored.scale.item() == 1
    expected = torch.distributions.Normal(0.0, 2.0).log_prob(torch.tensor(1.0))
    assert_close(floored.log_prob(torch.ones(1, 1, 1, 1)).squeeze(), expected, 1e-6)


def test_a_normal_without_any_scale_is_refused():
    with pytest.raises(ValueError, match="needs a scale or a log-scale"):
        Normal.of(torch.zeros(1))


def test_divergence_of_nearly_equal_normals_keeps_its_accuracy():
    """Summed over millions of elements, a rounding error of 1e-7 in each would outweigh a collapsed group's rate."""
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(1, 8, 16, 16, generator=generator)
    nearby = params + 1e-4 * torch.randn(1, 8, 16, 16, generator=generator)
    single = Normal(nearby).kl(Normal(params)).sum()
    double = Normal(nearby.double()).kl(Normal(params.double())).sum()
    assert single.item() == pytest.approx(double.item(), rel=1e-3)
    assert Normal(params).kl(Normal(params)).eq(0).all()
