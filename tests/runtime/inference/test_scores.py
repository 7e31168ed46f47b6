"""The bound of several samples: what it is, and that it does not depend on how samples and images share passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

import hvdsl
from hvdsl.compiler.assembly.files import shipped
from hvdsl.grammar.source import Source
from hvdsl.runtime.inference import scores
from hvdsl.runtime.inference.inference import inference, model_batch
from hvdsl.runtime.inference.scores import ImageScores, score_images
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.latents.noise import image_noise
from hvdsl.runtime.objective.elbo import measure
from hvdsl.runtime.protocol import as_vae
from tests.compiler.emit.emit_specs import FAMILIES
from tests.runtime.training.tiny_hierarchy import Blobs, tiny

SAMPLES, SEED = 7, 3


def one_by_one(model: nn.Module, v: Tensor, start: int, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scores from a pass for each sample, by their formulas."""
    groups, indices = as_vae(model).LATENTS, range(start, start + len(v))
    weights, distortions, rates = [], [], []
    with inference(model):
        for k in range(SAMPLES):
            noise = image_noise(model, groups, SEED, indices, k)
            latents = Traversal.infer(groups, len(v), noise, densities=True)
            elbo = measure(model, model_batch(model, v, noise, given), latents)
            weights.append(latents.log_weight - elbo.distortion)
            distortions.append(elbo.distortion)
            rates.append(elbo.rates)
    bound = torch.stack(weights).logsumexp(0) - math.log(SAMPLES)
    return {"bound": bound, "distortion": torch.stack(distortions).mean(0), "rates": torch.stack(rates).mean(0)}


def scored(
    model: nn.Module, v: Tensor, start: int = 0, given: Mapping[str, Tensor] = MappingProxyType({})
) -> ImageScores:
    with inference(model):
        return score_images(model, v, range(start, start + len(v)), SAMPLES, SEED, given)


def blobs(model: nn.Module, n: int) -> Tensor:
    """Pixel values, not all above or below the middle."""
    return torch.from_numpy(Blobs(n).batch(range(n))).to(next(model.parameters()))


@cache
def families() -> nn.Module:
    """Latents of many families, some of them drawn on the way up."""
    return hvdsl.compile(Source("families.hv", FAMILIES)).build().double()


@pytest.mark.parametrize("build", [lambda: tiny().double(), families], ids=["normal", "drawn on the way up"])
@pytest.mark.parametrize("numbers", [1, 2500, 2**20])
def test_the_bound_is_that_of_a_pass_for_each_sample(
    build: Callable[[], nn.Module], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "PASS", numbers)  # one sample in a pass, several with fewer in the last, all
    model = build()
    v = blobs(model, 3)
    result, expected = scored(model, v, start=5), one_by_one(model, v, 5, {})
    for name, values in expected.items():
        torch.testing.assert_close(getattr(result, name), values, rtol=1e-11, atol=1e-11)


def test_an_image_has_its_bound_whatever_images_are_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny().double()
    v = blobs(model, 5)
    together = scored(model, v)
    monkeypatch.setattr(scores, "PASS", 3000)
    for start, end in ((0, 2), (2, 5)):
        part = scored(model, v[start:end], start)
        torch.testing.assert_close(part.bound, together.bound[start:end], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(part.params, together.params[start:end], rtol=1e-11, atol=1e-11)


def test_the_encoder_runs_once_for_all_samples_and_is_left_in_place() -> None:
    model = tiny().double()
    encoder, batches = model.encoder, list[int]()
    hook = encoder.register_forward_hook(lambda _module, inputs, _output: batches.append(len(inputs[0])))
    scored(model, blobs(model, 2))
    assert batches == [2]
    assert model.encoder is encoder
    hook.remove()
    assert all(not module._forward_hooks for module in model.modules())


def test_classes_and_weights_go_along_with_each_sample() -> None:
    text = (shipped() / "vdvae_digits_conditional.hv").read_text()
    text = text.replace("classes = 10 }", "classes = 10, given mask = 1x8x8 { source = box }, weight = mask }")
    model = hvdsl.compile(Source("weighted.hv", text), overrides={"w": 4}).build().double()
    v, mask = blobs(model, 3), torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    given = {"label": torch.tensor([1, 9, 4]), "mask": mask}
    result, expected = scored(model, v, given=given), one_by_one(model, v, 0, given)
    for name, values in expected.items():
        torch.testing.assert_close(getattr(result, name), values, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(result.dims, mask.sum((1, 2, 3)))
