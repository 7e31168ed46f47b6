"""The shipped specs hold together, and are the sizes that their papers and headers say."""

from __future__ import annotations

import pytest

from hvdsl import specs
from hvdsl.compiler.model import Model
from hvdsl.compiler.pipeline import check

# Trainable parameters, latents, latent scalars per image; each also stands in the spec's header.
SIZES = {
    "vdvae_cifar10": (39_145_700, 43, 412_432),
    "vdvae_imagenet32": (119_280_868, 78, 765_216),
    "vdvae_imagenet64": (125_005_860, 75, 1_451_040),
    "vdvae_ffhq256": (114_874_852, 66, 4_470_816),
    "vdvae_ffhq1024": (109_366_904, 70, 27_588_640),
}
PARAMETERS = {
    "chvae_morphomnist": 4_622_130,
    "nvae_celeba64": 153_281_364,
    "nvae_celebahq256": 330_798_664,
    "nvae_cifar10": 130_852_480,
    "nvae_cifar10@no_flows": 129_215_680,
    "nvae_digits": 126_858,
    "nvae_ffhq256": 330_798_664,
    "nvae_imagenet32": 268_509_444,
    "nvae_mnist": 33_363_134,
    "vqvae2_256": 1_388_867,
    "iaf_cifar10": 41_557_927,  # with the likelihood's one log-scale
}


def scalars(model: Model) -> int:
    return sum(channels * height * width for channels, height, width in (g.shape for g in model.graph.latents))


@pytest.mark.parametrize("name", SIZES)
def test_vdvae_is_exactly_as_large_as_published(name: str) -> None:
    model = check(name)
    parameters, latents, numbers = SIZES[name]
    assert (model.graph.parameter_count(), len(model.graph.latents), scalars(model)) == SIZES[name]
    header = specs.text(name)
    assert all(f"{number:,}" in header for number in (parameters, latents, numbers))


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_others_have_the_measured_parameters(name: str) -> None:
    assert check(name).graph.parameter_count() == PARAMETERS[name]


def test_the_priors_of_vqvae2_have_the_measured_parameters() -> None:
    counts = {name: prior.parameter_count() for name, prior in check("vqvae2_256").priors.items()}
    assert counts == {"z_top": 84_873_280, "z_bottom": 89_762_816}


@pytest.mark.parametrize("name", [*specs.names(), "lvae_mnist@iwae", "lvae_mnist@unshared"])
def test_every_shipped_spec_passes_check_without_a_warning(name: str) -> None:
    model = check(name)
    assert model.settings.model == name.partition("@")[0]
    assert model.warnings == ()


def test_the_five_bit_preset_coarsens_only_the_target() -> None:
    model = check("vdvae_ffhq256")
    assert model.settings.data.bits == 8
    assert dict(model.likelihood.options)["bits"] == 5


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="vdvae_cifar10"):
        specs.spec_path("vdvae_cifar")
