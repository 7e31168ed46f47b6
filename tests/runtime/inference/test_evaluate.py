"""Evaluation, sampling and reconstruction of a tiny hierarchy; the structural similarity against what it is by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.ground.pixels import as_stored
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.inference.evaluate import Evaluation, evaluate
from hvdsl.runtime.inference.generate import depths, reconstruct, sample
from hvdsl.runtime.inference.inference import inference, to_pixels
from hvdsl.runtime.inference.scores import K1, K2, SIGMA, score_images, ssim
from hvdsl.runtime.protocol import as_vae
from tests.runtime.training.tiny_hierarchy import Blobs, TinyHierarchy, settings, tiny

DATA = settings().data


@pytest.fixture
def model() -> TinyHierarchy:
    return tiny().double()


def close(a: Evaluation, b: Evaluation) -> bool:
    return a.images == b.images and a.rate_per_group == pytest.approx(b.rate_per_group, rel=1e-10)


def test_the_bound_is_distortion_plus_rate(model: TinyHierarchy) -> None:
    result = evaluate(model, Blobs(10))
    assert result.nats_per_dim == pytest.approx(result.distortion + result.rate)
    assert result.bits_per_dim == pytest.approx(result.nats_per_dim / math.log(2))
    assert sum(result.rate_per_group) / 64 == pytest.approx(result.rate)
    assert result.standard_error > 0


def test_channels_that_carry_nothing_are_told_from_those_that_do(model: TinyHierarchy) -> None:
    result = evaluate(model, Blobs(10), samples=2)
    assert result.nats_per_image == pytest.approx(result.nats_per_dim * 64)
    assert all(0 <= active <= 2 for active in result.active_channels)
    for layer in (*model.decoder.r4.layer, *model.decoder.r8.layer):
        for side in (layer.q, layer.p):
            last = side.bottleneck[0].conv[1]
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
    torch.nn.init.constant_(model.decoder.r8.layer[0].q.bottleneck[0].conv[1].bias[:1], 1.0)  # one mean of two moves
    assert evaluate(model, Blobs(10)).active_channels == (0, 0, 1)


def test_psnr_is_over_all_images_together_and_ssim_a_mean_over_them(model: TinyHierarchy) -> None:
    result = evaluate(model, Blobs(5), batch=2, pixels=DATA)
    v = torch.from_numpy(Blobs(5).batch(range(5)).astype("float64"))
    with inference(model):
        scores = score_images(model, v, range(5), 1, derive_seed(0, "evaluation noise"))
        shown = as_stored(to_pixels(as_vae(model), as_vae(model).likelihood.mean(scores.params), DATA), DATA)
    peak = 2**DATA.bits - 1
    error = float(((shown - v) ** 2).mean())
    assert result.psnr_db == pytest.approx(10 * math.log10(peak**2 / error))
    assert result.ssim == pytest.approx(float(ssim(shown, v, peak).mean()))


def test_every_image_counts_once_whatever_the_batch(model: TinyHierarchy) -> None:
    results = [evaluate(model, Blobs(10), batch=batch) for batch in (10, 3, 1)]
    assert [r.images for r in results] == [10, 10, 10]
    assert all(r.bits_per_dim == pytest.approx(results[0].bits_per_dim, rel=1e-10) for r in results)
    assert all(close(r, results[0]) for r in results)


def test_ranks_share_all_images_and_no_image_twice() -> None:
    shares = [list(World(rank, 3).share(10)) for rank in range(3)]
    assert [i for share in shares for i in share] == list(range(10))
    assert {len(s) for s in shares} == {3, 4}


def test_more_samples_tighten_the_bound(model: TinyHierarchy) -> None:
    one, many = evaluate(model, Blobs(6)), evaluate(model, Blobs(6), samples=32, batch=4)
    assert many.samples == 32
    assert many.nats_per_dim < one.nats_per_dim
    assert many.nats_per_dim < many.distortion + many.rate


def test_evaluation_leaves_the_mode_and_the_global_generator_alone(model: TinyHierarchy) -> None:
    model.train()
    torch.manual_seed(1)
    expected = torch.randn(1)
    torch.manual_seed(1)
    evaluate(model, Blobs(4))
    assert model.training
    assert torch.equal(torch.randn(1), expected)


def test_a_bound_that_is_not_finite_is_an_error(model: TinyHierarchy) -> None:
    torch.nn.init.constant_(model.decoder.r8.affine[0].gain, math.nan)
    with pytest.raises(HvdslError, match="not finite"):
        evaluate(model, Blobs(4))


def test_an_empty_data_set_is_an_error(model: TinyHierarchy) -> None:
    with pytest.raises(HvdslError, match="no images"):
        evaluate(model, Blobs(0))


def test_samples_are_pixel_values_and_do_not_depend_on_the_batch(model: TinyHierarchy) -> None:
    images = sample(model, DATA, 7, batch=7)
    assert images.shape == (7, 1, 8, 8)
    assert torch.equal(images, images.round())
    assert images.min() >= 0
    assert images.max() <= 15
    assert torch.equal(images, sample(model, DATA, 7, batch=2))
    assert torch.equal(images[:3], sample(model, DATA, 3))
    assert not torch.equal(images, sample(model, DATA, 7, seed=1))


def test_temperature_zero_gives_one_image_over_and_over(model: TinyHierarchy) -> None:
    images = sample(model, DATA, 4, temperature=0.0, decode="mean")
    assert torch.equal(images, images[:1].expand_as(images))


def test_a_temperature_for_each_group(model: TinyHierarchy) -> None:
    assert not torch.equal(sample(model, DATA, 2, temperature=[1.0, 1.0, 0.0]), sample(model, DATA, 2))
    with pytest.raises(HvdslError, match="2 temperatures are given; the model has 3"):
        sample(model, DATA, 2, temperature=[1.0, 0.5])


def test_reconstructions_at_several_depths() -> None:
    model = tiny().double()
    pixels = torch.from_numpy(Blobs(5).batch(range(5)).astype(np.float32))
    rows = reconstruct(model, DATA, pixels, [0, 1, 3])
    assert [row.shape for row in rows] == [(5, 1, 8, 8)] * 3
    assert not torch.equal(rows[0], rows[2])
    again = reconstruct(model, DATA, pixels[:2], [3])[0]
    assert torch.allclose(again, rows[2][:2], atol=1e-4)
    with pytest.raises(HvdslError, match="cannot keep 4 latent groups: the model has 3"):
        reconstruct(model, DATA, pixels, [4])


def test_depths_are_spread_evenly_and_end_with_all() -> None:
    assert depths(43, 4) == [11, 22, 33, 43]
    assert depths(2, 4) == [1, 2]


def test_pixel_values_come_back_from_the_target(model: TinyHierarchy) -> None:
    v = torch.randint(0, 16, (2, 1, 8, 8)).float()
    assert torch.allclose(to_pixels(as_vae(model), model.target(v), DATA), v, atol=1e-4)


def test_a_coarser_target_comes_back_as_the_least_value_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    monkeypatch.setattr(model, "target", lambda v: torch.floor(v / 4) / 3)
    v = torch.tensor([0.0, 3.0, 4.0, 15.0]).view(4, 1, 1, 1)
    assert to_pixels(as_vae(model), model.target(v), DATA).flatten().tolist() == [0.0, 0.0, 4.0, 12.0]


def test_a_module_of_another_kind_is_refused() -> None:
    with pytest.raises(HvdslError, match="Linear is not a hierarchical VAE"):
        evaluate(torch.nn.Linear(1, 1), Blobs(1))


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3)).float()


def test_ssim_of_equal_images_is_one_and_of_constant_ones_the_luminance() -> None:
    x = pictures(2, 3, 16, 16)
    assert torch.allclose(ssim(x, x, 255), torch.ones(2, dtype=torch.float64))
    a, b, c1 = 50.0, 90.0, (K1 * 255) ** 2
    low, high = torch.full((1, 1, 12, 12), a), torch.full((1, 1, 12, 12), b)
    assert ssim(low, high, 255).item() == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


@pytest.mark.parametrize("side", [13, 8])
def test_ssim_is_the_formula_window_by_window(side: int) -> None:
    x, y = pictures(1, 1, side, side)[0, 0].double(), pictures(2, 1, side, side)[1, 0].double()
    size = 11 if side >= 11 else 7
    weights = [math.exp(-((i - size // 2) ** 2) / (2 * SIGMA**2)) for i in range(size)]
    window = torch.tensor([[a * b for b in weights] for a in weights], dtype=torch.float64)
    window /= window.sum()
    c1, c2, values = (K1 * 255) ** 2, (K2 * 255) ** 2, []
    for i in range(side - size + 1):
        for j in range(side - size + 1):
            p, q = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            values.append(((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))).item())
    assert ssim(x[None, None], y[None, None], 255).item() == pytest.approx(sum(values) / len(values), rel=1e-9)
