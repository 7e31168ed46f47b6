"""Every shipped spec is emitted, trains for a pass and generates: small in width, whole in structure."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import hvdsl
from hvdsl.compiler.assembly.files import shipped
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.latents.conditions import blank, conditions_of

BATCH = 2
VDVAE = {"width": 8, "zdim": 2}
NVAE = {"c": 8, "zdim": 2}
NVAE_LARGE = {"c": 4, "zdim": 1, "most": 2, "least": 1}
CODES = {"ch": 4, "dim": 4, "codes": 8}
SMALL: dict[str, dict[str, int] | None] = {  # None: its widths are a table by resolution, so it is run for shapes only
    "biva_cifar10": {"c": 8},
    "chvae_morphomnist": {},
    "evdvae_cifar10": VDVAE,
    "iaf_cifar10": {"h": 8, "zdim": 2},
    "ladder_mnist": {"w": 8},
    "lvae_mnist": {},
    "nvae_celeba64": NVAE,
    "nvae_celebahq256": NVAE_LARGE,
    "nvae_cifar10": NVAE,
    "nvae_digits": NVAE,
    "nvae_ffhq256": NVAE_LARGE,
    "nvae_imagenet32": NVAE,
    "nvae_mnist": NVAE,
    "vdvae_cifar10": VDVAE,
    "vdvae_digits": VDVAE,
    "vdvae_digits_conditional": {"w": 8},
    "vdvae_ffhq1024": None,
    "vdvae_ffhq256": VDVAE,
    "vdvae_imagenet32": VDVAE,
    "vdvae_imagenet64": VDVAE,
    "vdvae_mnist": VDVAE,
    "vdvae_photos": {},
    "vdvae_photos_inpainting": {},
    "vdvae_photos_upscaling": {},
    "vqvae2_256": {**CODES, "inner": 4},
    "vqvae2_ffhq1024": {**CODES, "inner": 4},
    "vqvae2_mnist": {**CODES, "inner": 4},
    "vqvae2_photos": {**CODES, "inner": 4},
    "vqvae_cifar10": CODES,
}


class Shapes:
    """Noise of a model that is run for its shapes only."""

    batch = BATCH

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        return torch.empty((BATCH, *shape), device="meta")

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        return torch.empty((BATCH, *shape), device="meta")


def images(module: nn.Module, shape: tuple[int, int, int], device: str) -> tuple[Tensor, Tensor]:
    v = torch.randint(0, 2, (BATCH, *shape), generator=torch.Generator().manual_seed(0)).float().to(device)
    return module.input(v), module.target(v)


def test_every_shipped_spec_is_here() -> None:
    assert sorted(SMALL) == sorted(p.stem for p in shipped().glob("*.hv"))


@pytest.mark.parametrize("name", [name for name, overrides in SMALL.items() if overrides is not None])
def test_it_trains_for_a_pass_and_generates(name: str) -> None:
    done = hvdsl.compile(name, overrides=SMALL[name] or {})
    module = done.build()
    x, target = images(module, done.model.settings.data.shape, "cpu")
    latents = Traversal.infer(module.LATENTS, BATCH, SampleNoise(0, range(BATCH)))
    given = {c.argument or c.name: blank(c, BATCH) for c in conditions_of(module)}
    output = module(x, latents, **given)
    log_prob = module.likelihood.log_prob(output, target)
    assert log_prob.shape == (BATCH,) and log_prob.isfinite().all() and latents.rates.isfinite().all()
    (latents.rates.sum() - log_prob.sum()).backward()
    for part in (module.encoder, module.decoder):
        gradients = [p.grad for p in part.parameters() if p.grad is not None]
        assert gradients and all(g.isfinite().all() for g in gradients)
    module.eval()
    with torch.no_grad():
        generated = module(None, Traversal.generate(module.LATENTS, BATCH, SampleNoise(1, range(BATCH))), **given)
    assert generated.shape == output.shape and generated.isfinite().all()


@pytest.mark.parametrize("name", [name for name, overrides in SMALL.items() if overrides is None])
def test_it_fits_together_at_its_own_size(name: str) -> None:
    done = hvdsl.compile(name)
    with torch.device("meta"):
        module = done.module().Model()
    x, target = images(module, done.model.settings.data.shape, "meta")
    latents = Traversal.infer(module.LATENTS, BATCH, Shapes(), device="meta")
    assert module.likelihood.log_prob(module(x, latents), target).shape == (BATCH,)
    generated = module(None, Traversal.generate(module.LATENTS, BATCH, Shapes(), device="meta"))
    assert generated.shape[-2:] == done.model.settings.data.shape[1:]


def test_priors_share_the_classes_of_their_recipes() -> None:
    module = hvdsl.compile("vqvae2_256").module()
    stems = [name for name in vars(module) if name.startswith("Stem")]
    assert stems == ["Stem"] and set(module.PRIORS) == {"z_top", "z_bottom"}
