"""Code maps drawn position by position: the same as full forwards make them, whatever the prior's structure."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hvdsl.compiler.assembly.files import shipped
from hvdsl.compiler.emit import emit_priors, emit_steps
from hvdsl.compiler.load import load_module
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check
from hvdsl.errors import HvdslError
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.hierarchy import sample_codes
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import Progress, Sampled, Schedule, draw_codes, greedy

SPEC = """hv 1
model small
data images {{ shape = 1x5x7, bits = 8, input = v / 255{more} }}
encoder {{ 5x7: conv(3x3, 8) -> tap }}
decoder {{ 5x7: {{ z ~ codebook(6, 4) posterior nearest_code(skip -> conv(1x1, 4)); x = z -> conv(1x1, logits) }} }}
likelihood mse
objective {{ unit = mean_square }}
prior z {{ {body}; elu -> conv(1x1, 6) }}
"""
FIRST = "conv(3, 8, mask = causal(exclude))"
BODIES = {
    "type B": f"{FIRST} -> elu -> conv(3, 8, mask = causal(all)) -> gelu -> conv(5, 8, mask = causal(all))",
    "channels": f"{FIRST} -> elu -> conv(3, 8, mask = causal(upto)) -> tanh -> depthwise(3, mask = causal(upto))",
    "dilated": f"{FIRST} -> relu -> conv(3, 8, dilation = 2, mask = causal(exclude))",
    "shifts": "shift(right = 1) -> conv(1x1, 8) -> elu -> shift(down = 1) -> silu -> conv(1x1, 8)",
    "shifted features": f"{FIRST} -> elu -> conv((1, 3), 8, pad = (0, 0, 2, 0)) -> shift(down = 1)",
    "residual": f"{FIRST}; residual(scale = 0.5) {{ elu -> conv(3, channels, mask = causal(all)) }}; affine",
    "product": f"{FIRST}; a, b = chunk(2); a * b -> conv(1x1, 8)",
    "inclusive": f"{FIRST}; h = elu -> conv(1x1, 8); attention(h, elu(h), x, heads = 2, causal = inclusive)",
    "strict": f"{FIRST}; attention(elu -> conv(1x1, 4), tanh -> conv(1x1, 4), x, heads = 4, causal = strict) + x",
    "gates": f"{FIRST} -> elu; a = x -> conv(1x1, 16); b = x -> conv(1x1, 16); (a -> glu) + (b -> glu)",
    "gated": f"{FIRST}; y = x + (x -> elu -> conv(3, 16, mask = causal(all)) -> glu); y + (y -> conv(1x1, 16) -> glu)",
    "apart": f"{FIRST}; (x -> conv(1x1, 8) -> elu -> {FIRST}) * (x -> conv(1x1, 8) -> elu -> {FIRST})",
    "known factor": f"{FIRST}; k = coordinates(x) -> conv(1x1, 8); x * k -> conv(1x1, 8); x / (k -> softplus)",
    "known keys": f"{FIRST}; attention(x, coordinates(x) -> conv(1x1, 8), x, causal = strict) + x",
    "coordinates": f"{FIRST}; concat(x, coordinates(x)) -> elu -> conv(3, 8, mask = causal(exclude))",
}
BODIES["inclusive"] = BODIES["inclusive"].replace("elu(h)", "h -> elu")


def build(body: str, more: str = "") -> StepwisePrior:
    return priors(check(Source("small.hv", SPEC.format(body=body, more=more))))[0]


def priors(model: Model) -> list[StepwisePrior]:
    steps = load_module(emit_steps(model), "sampled_steps").STEPS
    modules = {latent: cls() for latent, cls in load_module(emit_priors(model), "sampled").PRIORS.items()}
    for prior in modules.values():
        initialize(prior, 1)
        with torch.no_grad():  # first weights give nearly equal logits
            for parameter in prior.parameters():
                parameter.mul_(3)
    return [StepwisePrior(prior, steps[latent]) for latent, prior in modules.items()]


def is_consistent(prior: StepwisePrior, given: tuple[Tensor, ...] = (), schedule: Schedule = "raster") -> bool:
    """Whether a map is what one full forward over it gives, with noise so that all codes occur."""
    model = prior.model
    noise = 3 * torch.randn(2, model.CODES.classes, *model.CODES.grid, generator=torch.Generator().manual_seed(0))
    drawn = draw_codes(prior, lambda p, i, j: (p + noise[:, :, i, j]).argmax(1), given, batch=2, schedule=schedule)
    with torch.no_grad():
        return torch.equal((prior.module.eval()(drawn, *given) + noise).argmax(1), drawn) and len(drawn.unique()) > 1


def test_a_map_of_fewer_columns_than_its_fronts_fall_back_is_drawn_by_them() -> None:
    body = f"{FIRST} -> elu -> conv(3, 8, mask = causal(all))"
    [prior] = priors(check(Source("narrow.hv", SPEC.replace("5x7", "5x1").format(body=body, more=""))))
    assert is_consistent(prior, schedule="wavefront")


@pytest.mark.parametrize("name", BODIES)
def test_the_drawn_map_is_the_argmax_of_the_full_forward(name: str) -> None:
    prior = build(BODIES[name])
    assert is_consistent(prior)
    if prior.steps.WAVEFRONT_SKEW is not None:
        assert is_consistent(prior, schedule="wavefront")


def test_a_prior_given_the_class_label() -> None:
    prior = build(f"{FIRST} + (label -> conv(1x1, 8)) -> elu -> conv(3, 8, mask = causal(all))", ", classes = 3")
    assert is_consistent(prior, (torch.tensor([0, 2]),))


SHIPPED = {  # overrides that make priors narrow, and what their maps are divided by
    "vqvae2_256": (("hidden=16",), 8),
    "vqvae2_ffhq1024": (("hidden=16", "units_top=16", "units=16"), 8),
    "vqvae2_mnist": ((), 1),
    "vqvae2_photos": ((), 2),
}


def test_every_shipped_spec_with_priors_is_here() -> None:
    assert sorted(SHIPPED) == sorted(p.stem for p in shipped().glob("*.hv") if "\nprior " in p.read_text())


@pytest.mark.parametrize("spec", SHIPPED)
def test_shipped_priors_at_reduced_width_and_on_smaller_maps(spec: str) -> None:
    smaller, factor = SHIPPED[spec]
    for prior in priors(check(spec, [*smaller, "codes=12"])):
        on_smaller_map(prior, factor)
        model = prior.model
        generator = torch.Generator().manual_seed(0)
        given = tuple(torch.randint(0, 12, (2, *g.grid), generator=generator) for g in model.CONDITIONS)
        assert is_consistent(prior, given)
        drawn = draw_codes(prior, greedy, given, batch=2)
        with torch.no_grad():
            assert torch.equal(prior.module.eval()(drawn, *given).argmax(1), drawn)
        if prior.steps.WAVEFRONT_SKEW is not None:
            assert is_consistent(prior, given, "wavefront")


def on_smaller_map(prior: StepwisePrior, factor: int) -> None:
    """Convolutions, attention and coordinates take any map: only what the prior says of itself changes."""
    model = prior.model
    maps = [replace(map, grid=tuple(n // factor for n in map.grid)) for map in (model.CODES, *model.CONDITIONS)]
    model.CODES, model.CONDITIONS = maps[0], tuple(maps[1:])


def test_a_wavefront_needs_a_prior_without_attention() -> None:
    with pytest.raises(HvdslError, match="attention"):
        draw_codes(build(BODIES["strict"]), greedy, schedule="wavefront")


def test_a_wavefront_is_refused_before_any_level_is_drawn() -> None:
    told: list[str] = []
    levels = {"a": build(BODIES["type B"]), "b": build(BODIES["strict"])}
    with pytest.raises(HvdslError, match="attention"):
        sample_codes(levels, range(1), schedules={"b": "wavefront"}, progress=lambda level, _: told.append(level))
    assert not told


def sampled(noise: SampleNoise, **options: float) -> Sampled:
    return Sampled(noise, "z", 6, (5, 7), **options)  # type: ignore[arg-type]  # numbers by name


@pytest.mark.parametrize("schedule", ["raster", "wavefront"])
def test_a_sample_does_not_depend_on_its_batch(schedule: Schedule) -> None:
    prior = build(BODIES["type B"])
    together = draw_codes(prior, sampled(SampleNoise(3, range(4))), batch=4, schedule=schedule)
    alone = draw_codes(prior, sampled(SampleNoise(3, [2])), schedule=schedule)
    assert torch.equal(together[2:3], alone)
    assert not torch.equal(together, draw_codes(prior, sampled(SampleNoise(4, range(4))), batch=4))


def test_top_k_of_one_a_tiny_nucleus_and_temperature_zero_are_greedy() -> None:
    prior = build(BODIES["type B"])
    expected = draw_codes(prior, greedy, batch=2)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 0.0}):
        assert torch.equal(draw_codes(prior, sampled(SampleNoise(0, range(2)), **options), batch=2), expected)


def test_the_nucleus_holds_just_enough_probability() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(4000, -1)
    drawn = Sampled(SampleNoise(0, range(4000)), "z", 4, (1, 1), top_p=0.75)(logits, 0, 0)
    shares = torch.bincount(drawn, minlength=4) / 4000
    assert shares[2:].sum() == 0 and abs(float(shares[0]) - 0.625) < 0.03


def test_given_codes_stand_and_the_rest_is_drawn_around_them() -> None:
    prior = build(BODIES["type B"])
    codes = torch.randint(0, 6, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    kept = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    drawn = draw_codes(prior, greedy, batch=2, keep=(codes, kept))
    with torch.no_grad():
        best = prior.module.eval()(drawn).argmax(1)
    assert torch.equal(drawn[kept], codes[kept]) and torch.equal(drawn[~kept], best[~kept])


def test_progress_is_told_after_every_row() -> None:
    told: list[Progress] = []
    draw_codes(build(BODIES["shifts"]), greedy, progress=told.append)
    assert [p.done for p in told] == [1, 2, 3, 4, 5] and told[-1].left == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"temperature": -1.0}, "temperature"), ({"top_k": 0}, "top_k"), ({"top_p": 0.0}, "top_p")],
)
def test_impossible_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(HvdslError, match=message):
        sampled(SampleNoise(0, [0]), **options)


def test_codes_that_do_not_fit_are_refused() -> None:
    prior = build(f"{FIRST} + (label -> conv(1x1, 8))", ", classes = 3")
    for given, message in [((), "`label`"), ((torch.tensor([3]),), "0 to 2"), ((torch.zeros(2).long(),), "shape")]:
        with pytest.raises(HvdslError, match=message):
            draw_codes(prior, greedy, given)
