"""Digests of what a first stage computes: runs of version 0.1 hold them, and must be recognised."""

from __future__ import annotations

import pytest

from hvdsl.compiler.model import structure
from hvdsl.compiler.pipeline import check

OF_VERSION_0_1 = {
    "vdvae_digits": "1fb5f98fd2c46e25d78c910583d15e72ab893e9ea5a963b53d5751a55824aee8",
    "vqvae2_photos": "30fbdf7887bcb46ebd5ef41298fea1adc93255a5315fe1fe03831bc82133e5dc",
}


@pytest.mark.parametrize("spec", OF_VERSION_0_1)
def test_the_digest_is_that_of_version_0_1(spec: str) -> None:
    assert structure(check(spec)) == OF_VERSION_0_1[spec]


def test_another_width_is_another_digest() -> None:
    assert structure(check("vdvae_digits", ["width=8"])) != OF_VERSION_0_1["vdvae_digits"]
