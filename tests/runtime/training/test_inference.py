"""Evaluation, sampling and reconstruction of a tiny hierarchy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.inference.evaluate import Evaluation, evaluate
from hvdsl.runtime.inference.generate import depths, reconstruct, sample
from hvdsl.runtime.inference.inference import to_pixels
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
