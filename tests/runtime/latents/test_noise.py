"""Noise scheme 2: all latent groups of an image from one draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hvdsl.runtime.distributions import Laplace, Normal, StraightThroughBernoulli
from hvdsl.runtime.ground.noise import JointNoise, latent_stream
from hvdsl.runtime.latents import LatentGroup
from hvdsl.runtime.latents.noise import noise_layout

GROUPS = (
    LatentGroup("a", "decoder.a", "normal", (3, 1, 1)),
    LatentGroup("b", "decoder.b", "bernoulli", (2, 2, 2)),
    LatentGroup("c", "decoder.c", "normal", (2, 4, 4)),
    LatentGroup("d", "decoder.d", "codebook", (8, 2, 2), 16, 3),
)
A, B, D = [0.339065, 0.198531, 0.733379], [0.976717, 0.341232], [0.273864, 0.262294]
FAMILIES: tuple[Any, ...] = (Normal, StraightThroughBernoulli, Normal)


def noise(indices: Any, step: int = 0, seed: int = 0) -> JointNoise:
    return JointNoise(seed, indices, step, layout=noise_layout(GROUPS))


def drawn(source: JointNoise) -> list[Tensor]:
    """What each group draws from."""
    numbers: list[Tensor] = [
        family.noise(source, latent_stream(i), group.shape)
        for i, (family, group) in enumerate(zip(FAMILIES, GROUPS, strict=False))
    ]
    return [*numbers, source.uniform(latent_stream(3), (3, 2, 2), 0.0, 1.0)]


def test_an_images_noise_does_not_depend_on_its_batch() -> None:
    together, alone, others = drawn(noise(range(5))), drawn(noise([3])), drawn(noise([9, 3, 4]))
    for whole, one, among in zip(together, alone, others, strict=True):
        assert torch.equal(whole[3:4], one)
        assert torch.equal(whole[3:5], among[1:])


def test_groups_take_slices_of_one_draw() -> None:
    source = noise(range(2))
    a, _, c, d = drawn(source)
    numbers = source.draw()
    assert torch.equal(torch.cat([a.flatten(1), c.flatten(1)], 1), numbers["normal"])
    assert torch.equal(d.flatten(1), numbers["uniform"][:, 8:])
    assert a.untyped_storage().data_ptr() == c.untyped_storage().data_ptr()
    assert torch.equal(a, drawn(source)[0])  # asking twice gives the same


@pytest.mark.parametrize("other", [noise([0], step=1), noise([1]), noise([0], seed=1)])
def test_steps_images_and_seeds_have_noise_of_their_own(other: JointNoise) -> None:
    assert not any(torch.equal(x, y) for x, y in zip(drawn(noise([0])), drawn(other), strict=True))


def test_numbers_are_distributed_as_they_should() -> None:
    _, b, c, d = drawn(noise(range(2000)))
    assert c.mean().abs() < 0.02
    assert c.std().item() == pytest.approx(1, abs=0.02)
    assert 0 < b.min() < 0.001 < 0.999 < b.max() < 1
    assert d.mean().item() == pytest.approx(0.5, abs=0.02)


def test_the_largest_uniform_number_stays_below_its_bound() -> None:
    source = noise([0])
    source.hold({"normal": torch.zeros(1, 35), "uniform": torch.full((1, 20), 1 - 2.0**-24)})
    u = Laplace.noise(source, latent_stream(1), (2, 2, 2))
    assert u.max() < 1
    assert Laplace.standard_draw(u).isfinite().all()
    source.hold({"normal": torch.zeros(1, 35), "uniform": torch.zeros(1, 20)})
    assert Laplace.noise(source, latent_stream(1), (2, 2, 2)).min().item() == 2.0**-25


def test_a_stream_outside_the_layout_is_drawn_by_itself() -> None:
    whole = noise(range(4)).uniform("likelihood.mixture", (3, 2), 0.25, 0.5)
    assert torch.equal(whole[2:3], noise([2]).uniform("likelihood.mixture", (3, 2), 0.25, 0.5))
    assert 0.25 <= whole.min() < whole.max() < 0.5


def test_the_numbers_are_those_that_runs_were_trained_with() -> None:
    a, b, _, d = drawn(noise([7], step=3, seed=11))
    assert a.flatten().tolist() == pytest.approx(A, abs=1e-5)
    assert b.flatten()[:2].tolist() == pytest.approx(B, abs=1e-5)
    assert d.flatten()[:2].tolist() == pytest.approx(D, abs=1e-5)
