"""The emitted VQ-VAE-2 against numbers recorded from a public implementation.

Limits are those that the recordings come with: codes exact; activations 2e-5; losses 1e-6 + 1e-5 relative; moving
averages 1e-5 relative; gradients 1e-4 of the tensor's largest entry; after three Adam steps 2e-5.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import hvdsl
from hvdsl.compiler.settings import Train
from hvdsl.importers import WeightsError, rename
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Given, Traversal
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.training.folder.weights import model_tensors
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from tests.golden.recorded import FOLDER

CASES = {"tiny_a": "vqvae2_a.hv", "tiny_b": "vqvae2_b.hv"}
SOURCE = "rosinality-vqvae2"


@cache
def recorded(name: str, file: str) -> dict[str, Tensor]:
    return load_file(FOLDER / "vqvae2" / name / f"{file}.safetensors")


@cache
def facts(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((FOLDER / "vqvae2" / name / "case.json").read_text())
    return facts


def model(name: str, **changed: Tensor) -> nn.Module:
    """The emitted model with the recorded weights and codebooks."""
    built = hvdsl.build(FOLDER / "specs" / CASES[name])
    built.load_state_dict(in_our_names(name, recorded(name, "model") | changed))
    return built


def in_our_names(name: str, published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename some of a case's published tensors; all others are left out."""
    own = model_tensors(hvdsl.build(FOLDER / "specs" / CASES[name]))
    everything = {key: torch.full_like(value, torch.nan) for key, value in recorded(name, "model").items()}
    renamed = rename(SOURCE, {key: tuple(value.shape) for key, value in own.items()}, everything | published)
    return {key: value for key, value in renamed.items() if not value.isnan().all()}


def infer(built: nn.Module, x: Tensor) -> tuple[Tensor, Traversal]:
    walk = Traversal.infer(built.LATENTS, len(x), SampleNoise(0, range(len(x))))  # type: ignore[arg-type]  # emitted
    return built(x, walk), walk


def close(found: Tensor, wanted: Tensor, limit: float = 2e-5) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=limit)


def loss_is(found: Tensor | float, wanted: float) -> None:
    assert float(found) == pytest.approx(wanted, abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_codes_reconstruction_and_losses(name: str) -> None:
    built, io, scalars = model(name).eval(), recorded(name, "io"), facts(name)["eval"]
    found, walk = infer(built, io["input"])
    close(found, io["recon"])
    for outcome, level in zip(walk.outcomes, "tb", strict=True):
        assert outcome.codes is not None and outcome.commitment is not None
        assert torch.equal(outcome.codes[:, 0], io[f"id_{level}"])
        close(outcome.z, io[f"quant_{level}"])
        loss_is(outcome.commitment.mean(), scalars[f"diff_{level}"])
    loss_is((found - io["input"]).square().mean(), scalars["mse"])


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_decoding_given_codes(name: str) -> None:
    built, io = model(name).eval(), recorded(name, "io")
    for ids, image in (("id", "decode_code"), ("random_id", "decode_random")):
        given = [Given(io[f"{ids}_{level}"][:, None]) for level in "tb"]
        walk = Traversal(built.LATENTS, len(io["input"]), sources=given)  # type: ignore[arg-type]  # emitted
        close(built(None, walk), io[image])


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_the_objective(name: str) -> None:
    built, io = model(name).train(), recorded(name, "io")
    settings = hvdsl.compile(FOLDER / "specs" / CASES[name]).model.settings
    objective = Objective(settings.objective, steps=lambda duration: 0)
    x = io["input"]
    loss, terms = objective(built, ModelBatch(x, x, SampleNoise(0, range(len(x)))), 0)
    loss.backward()
    loss_is(terms["error_per_dim"], facts(name)["eval"]["mse"])
    loss_is(loss.item(), facts(name)["eval"]["loss"])
    parameters = dict(built.named_parameters())
    gradients = in_our_names(name, recorded(name, "grads"))
    assert len(gradients) == len(facts(name)["grads"]["names"])
    for key, wanted in gradients.items():
        found = parameters[key].grad
        assert found is not None
        close(found, wanted, 1e-4 * wanted.abs().max().item())


def steps(name: str, lr: float, checkpointing: str = "none", parts: int = 1) -> tuple[nn.Module, list[Any]]:
    """Three optimizer steps on the recorded batches; a learning rate of 0 leaves the weights where they are."""
    built, io = model(name), recorded(name, "train")
    settings = hvdsl.compile(FOLDER / "specs" / CASES[name]).model.settings
    train = Train.model_validate(
        {"steps": 3, "batch": 2, "checkpointing": checkpointing, "optimizer": {"kind": "adam", "lr": lr}}
    )
    objective = Objective(settings.objective, steps=lambda duration: 0)
    optimization = Optimization(built, train, objective, Clock(per_epoch=1, total=3))
    built.train()
    results = []
    for i in (1, 2, 3):
        pieces = io[f"step{i}.input"].chunk(parts)
        results.append(optimization.step([ModelBatch(x, x, SampleNoise(0, range(len(x)))) for x in pieces]))
    return built, results


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("checkpointing", "parts"), [("none", 1), ("group", 1), ("none", 2)])
def test_three_ema_updates(name: str, checkpointing: str, parts: int) -> None:
    """Once per step: not twice when activations are recomputed, not once for each part of a batch."""
    built, results = steps(name, lr=1e-30, checkpointing=checkpointing, parts=parts)
    assert all(result.applied for result in results)
    after = in_our_names(name, {k[7:]: v for k, v in recorded(name, "train").items() if k.startswith("after3.")})
    assert len(after) == 6
    state = built.state_dict()
    for key, wanted in after.items():
        torch.testing.assert_close(state[key], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_three_adam_steps(name: str) -> None:
    adam = facts(name)["train_adam"]
    built, results = steps(name, lr=adam["lr"])
    for result, wanted in zip(results, adam["steps"], strict=True):
        loss_is(result.terms["error_per_dim"][0], wanted["recon_loss"])
        loss_is(sum(result.terms["commitment_per_group_mean_square"]), wanted["latent_loss"])
    final = in_our_names(name, {k[6:]: v for k, v in recorded(name, "train").items() if k.startswith("adam3.")})
    assert final
    for key, wanted in final.items():
        close(built.state_dict()[key], wanted)


@torch.no_grad()
def test_evaluation_changes_nothing() -> None:
    built, io = model("tiny_a").eval(), recorded("tiny_a", "io")
    before = {key: value.clone() for key, value in built.state_dict().items()}
    infer(built, io["input"])
    assert all(torch.equal(value, before[key]) for key, value in built.state_dict().items())


def test_a_checkpoint_with_another_number_of_codes_is_refused() -> None:
    published = recorded("tiny_a", "model")
    fewer = {key: value[..., :16] for key, value in published.items() if key.startswith("quantize_t.")}
    with pytest.raises(WeightsError, match=r"quantize_t\.embed is \(8, 16\), the spec needs \(8, 32\)"):
        model("tiny_a", **fewer)


def test_the_public_default_has_its_published_size() -> None:
    graph = hvdsl.compile("vqvae2_256").model.graph
    assert graph.parameter_count() == 1_388_867
    buffers = [p for node in graph.nodes for p in node.parameters if not p.trainable]
    assert sum(p.size for p in buffers) == 132_096
