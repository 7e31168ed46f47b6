"""What quantizers promise beyond the recorded numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Given, LatentGroup, Source, Traversal
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.quantizers import EmaCodebook, FiniteScalar, LinearCodebook, LookupFree, NearestCode, Quantizer
from hvdsl.runtime.quantizers.clustering import nearest_rows
from hvdsl.runtime.quantizers.usage import settle, usage, usage_of

K, D, GRID = 16, 4, (3, 5)
GROUP = LatentGroup("z", "decoder.r3.z", "codebook", (D, *GRID), codes=K)


def features(n: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, D, *GRID, generator=torch.Generator().manual_seed(seed))


def codebook(**options: object) -> EmaCodebook:
    made = EmaCodebook(K, D, GRID, **options)  # type: ignore[arg-type]  # one word each
    initialize(made, 0)
    return made


def learn(made: Quantizer, x: Tensor) -> None:
    walk = Traversal.infer([GROUP], len(x), SampleNoise(0, range(len(x))))
    walk[0].draw(made(len(x)), NearestCode(x))


@pytest.mark.parametrize("budget", [1, 1000, 10**9])
@pytest.mark.parametrize("size", [1, 7, 128, 300])
def test_nearest_is_the_first_least_distance_whatever_the_chunks(size: int, budget: int) -> None:
    generator = torch.Generator().manual_seed(0)
    # Whole numbers, so that distances are exact and many of them equal: the first must win.
    codes = torch.randint(-3, 4, (size, 3), generator=generator).float()
    vectors = torch.randint(-3, 4, (23, 3), generator=generator).float()
    distances = (vectors[:, None] - codes).square().sum(2)
    assert torch.equal(nearest_rows(vectors, codes, budget), distances.argmin(1))


def test_the_first_steps_of_a_fresh_codebook_throw_no_code_away() -> None:
    """From counts of 0 an unused code is thrown to about 1e5 times its size in the first step."""
    made = codebook()
    largest = made.codes.abs().max().item()
    for step in range(5):
        learn(made, features(seed=step))
        made.update(torch.tensor(True))
        assert made.codes.abs().max().item() < 2 * max(largest, features(seed=step).abs().max().item())


def test_parts_of_a_batch_are_one_update() -> None:
    whole, parts = codebook().double(), codebook().double()
    learn(whole, features().double())
    for part in features().double().chunk(3):
        learn(parts, part)
    for made in (whole, parts):
        made.update(torch.tensor(True))
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[key], value, rtol=1e-12, atol=1e-12)


def test_a_skipped_step_and_evaluation_leave_no_trace() -> None:
    made = codebook()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    learn(made, features())
    settle(made, torch.tensor(False))
    learn(made.eval(), features())
    reference = codebook()
    reference.update(torch.tensor(True))
    made.update(torch.tensor(True))
    for key, value in made.state_dict().items():
        assert torch.equal(value, reference.state_dict()[key])
    assert torch.equal(before["codes"], codebook().codes)


def test_a_second_run_of_the_same_pass_is_not_a_second_observation() -> None:
    once, twice = codebook(), codebook()
    x = features()
    learn(once, x)
    walk = Traversal.infer([GROUP], len(x), SampleNoise(0, range(len(x))))
    for _ in range(2):
        walk[0].draw(twice(len(x)), NearestCode(x))
    for made in (once, twice):
        made.update(torch.tensor(True))
    assert torch.equal(once.counts, twice.counts)


def test_quantizing_is_float32_under_autocast() -> None:
    made, x = codebook(), features()
    plain = made.quantize(NearestCode(x))
    with torch.autocast("cpu", torch.bfloat16):
        found = made.quantize(NearestCode(x))
    assert found.value.dtype == torch.float32
    assert torch.equal(found.codes, plain.codes)


def test_kmeans_starts_from_the_first_training_batch_only() -> None:
    made = codebook(start="kmeans")
    made.eval().quantize(NearestCode(features()))
    assert not made.started.item()
    error = made.quantize(NearestCode(features())).commitment.mean()
    started = made.train().quantize(NearestCode(features())).commitment.mean()
    assert started < error / 2
    codes = made.codes.clone()
    made.quantize(NearestCode(features(seed=1)))
    assert torch.equal(made.codes, codes)


@pytest.mark.parametrize(
    "made", [FiniteScalar((4, 2, 2, 3), GRID, symmetric=True), LookupFree(4, GRID), codebook(depth=3)]
)
def test_codes_look_up_what_was_quantized(made: Quantizer) -> None:
    found = made.quantize(NearestCode(features()))
    torch.testing.assert_close(made.look_up(found.codes), found.value)
    assert found.codes.shape == (6, made.depth, *GRID)


@pytest.mark.parametrize("levels", [5, 8])
def test_finite_scalars_bound_a_feature_a_thousandth_outside_their_levels(levels: int) -> None:
    """The slope at the middle: half the levels' range and a thousandth (Mentzer et al. 2024, appendix A.1)."""
    x = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    half, offset = (levels - 1) * 1.001 / 2, 0.0 if levels % 2 else 0.5
    x += math.atanh(0.25) - math.atanh(offset / half)  # whose bounded value is a quarter of the way up
    x.requires_grad_()
    FiniteScalar((levels,), (1, 1)).quantize(NearestCode(x)).value.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, half * (1 - 0.25**2) / (levels // 2)), rtol=1e-12, atol=0)


def test_a_quantized_group_needs_a_posterior_where_it_is_inferred() -> None:
    walk = Traversal.infer([GROUP], 2, SampleNoise(0, range(2)))
    with pytest.raises(ValueError, match="takes its nearest code, but the model computed no posterior"):
        walk[0].draw(codebook()(2), None)


@pytest.mark.parametrize("made", [FiniteScalar((4, 5, 3, 3), GRID), LookupFree(4, GRID)])
def test_what_is_not_kept_is_the_mean_code_on_the_models_device(made: Quantizer) -> None:
    for device, value in (("cpu", True), ("meta", False)):
        walk = Traversal([GROUP], 2, sources=Source.PRIOR_MEAN, device=device)
        z = walk[0].draw(made(2))
        assert (z.device.type, z.shape) == (device, (2, D, *GRID))
        if value:
            whole = torch.arange(made.codes_per_level)[None, None, :, None]
            torch.testing.assert_close(z[0, :, 0, 0], made.look_up(whole).mean((0, 2, 3)))


def test_rate_is_the_length_of_the_codes() -> None:
    made = codebook(depth=2)
    group = LatentGroup("z", "z", "codebook", (D, *GRID), codes=K, depth=2)
    walk = Traversal.infer([group], 2, SampleNoise(0, range(2)), densities=True)
    walk[0].draw(made(2), NearestCode(features(2)))
    length = 2 * 15 * math.log(K)
    assert walk.rates.tolist() == [[pytest.approx(length)] * 2]
    assert walk.log_weight.tolist() == [pytest.approx(-length)] * 2


def test_generation_draws_uniform_codes_by_image_alone() -> None:
    made = codebook()

    def drawn(indices: range) -> Tensor:
        walk = Traversal([GROUP], len(indices), SampleNoise(0, indices), Source.PRIOR)
        z = walk[0].draw(made(len(indices)))
        codes = walk.outcomes[0].codes
        assert codes is not None and torch.equal(made.look_up(codes), z)
        return codes

    everything = drawn(range(200))
    assert torch.equal(drawn(range(50, 60)), everything[50:60])
    counts = torch.bincount(everything.flatten(), minlength=K).double()
    assert (counts / counts.mean() - 1).abs().max() < 0.35


def test_given_codes_are_looked_up_and_checked() -> None:
    made = codebook()
    codes = torch.randint(K, (2, 1, *GRID))
    walk = Traversal([GROUP], 2, sources=Given(codes))
    assert torch.equal(walk[0].draw(made(2)), made.look_up(codes))
    with pytest.raises(ValueError, match=r"codes run from 0 to 16; this quantizer has 16"):
        made.look_up(torch.tensor([0, K]).view(1, 1, 1, 2))
    with pytest.raises(ValueError, match=r"the codes given for group `decoder\.r3\.z` are \(2, 3, 5\)"):
        Traversal([GROUP], 2, sources=Given(codes[:, 0]))


def test_usage_over_a_window_and_the_warning_of_a_collapse() -> None:
    made = codebook()
    learn(made, features())
    made.update(torch.tensor(True))
    (level,) = usage(made)
    assert level.choices == 6 * 15 and level.warning is None
    assert 0 < level.used <= 1 and 1 <= level.perplexity <= K
    (empty,) = usage(made)
    assert empty.choices == 0 and empty.warning is None
    learn(made, features()[:1, :, :1, :1].expand(6, D, *GRID))
    made.update(torch.tensor(True))
    (level,) = usage(torch.nn.ModuleDict({"z_top": torch.nn.ModuleDict({"prior": made})}))
    assert level.perplexity == pytest.approx(1)
    assert level.warning is not None and level.warning.startswith("`z_top.prior` has collapsed: perplexity 1.0 of 16")


@pytest.mark.parametrize(
    ("made", "advice"),
    [
        (codebook(), "let dead codes expire (`expire = 0.1`), start from k-means (`start = kmeans`) or lower"),
        (codebook(expire=0.1, start="kmeans"), "lower"),
        (LinearCodebook(K, D, GRID), "lower"),
        (LookupFree(4, GRID), "raise `entropy` or lower"),
    ],
)
def test_a_collapse_is_told_with_what_is_not_there_yet(made: Quantizer, advice: str) -> None:
    assert made.remedy == f"{advice} `train.optimizer.lr`"


def test_the_perplexity_of_several_depths_is_that_of_their_mean_entropy() -> None:
    found = usage_of("z", torch.tensor([[3, 3, 3, 3], [12, 0, 0, 0]]))
    assert found.perplexity == pytest.approx(2)
    assert (found.used, found.codes) == (5 / 8, 4)


def test_fixed_codes_have_length_one_on_average() -> None:
    linear = LinearCodebook(4096, 16, GRID)
    initialize(linear, 0)
    assert linear.codes.std().item() == pytest.approx(1 / 4, rel=0.02)
    assert linear.codes.square().sum(2).mean().item() == pytest.approx(1, rel=0.02)
