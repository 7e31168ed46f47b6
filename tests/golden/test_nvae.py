"""Emitted NVAEs against numbers recorded from the published implementation.

Limits are those that the recordings come with: activations and latents 1e-4; scalars relative 1e-5; gradients 1e-3 of a
tensor's own norm, or 1e-5 of the norm of all. float64 shows what rounding hides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from hvdsl.compiler.setting_words import BySize
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.runtime.ground.noise import RecordedNoise
from hvdsl.runtime.inference.recalibrate import recalibrate_with
from hvdsl.runtime.inference.scores import ImportanceBound
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.likelihoods import NormalDensity
from hvdsl.runtime.likelihoods.discretized_logistic import LOGISTIC_STREAM, MIXTURE_STREAM
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.objective.penalties import Penalties
from hvdsl.runtime.training.schedule import Clock
from tests.golden.nvae_recorded import CASES, FOLDER, case, infer, model, our_names, published_names


def close(found: Tensor, recorded: object, limit: float) -> bool:
    wanted = torch.as_tensor(recorded, dtype=torch.float64)
    difference = (found.double() - wanted).abs() / (1 + wanted.abs())
    return bool(difference.max() <= limit)


@pytest.fixture
def double_constants() -> Iterator[None]:
    """What a model makes without parameters, such as the fixed prior, is of the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_of_the_release_has_its_place(name: str) -> None:
    facts = case(name).facts
    unused = 16**3 if facts["grad_none"] else 0  # the learned start, which a single group does not read
    parameters = sum(p.numel() for p in model(name).parameters())
    assert parameters == facts["num_params"] - unused


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("level", [0, 1])
def test_inference(name: str, mode: str, level: int) -> None:
    recorded, built = case(name), model(name, level=level).train(mode == "train")
    facts = recorded.facts[mode]
    with torch.no_grad():
        logits, walk = infer(built, recorded, f"{mode}.eps")
        distortion = -built.likelihood.log_prob(logits, recorded.target())
    assert close(distortion, facts["recon"], 1e-5)
    assert close(walk.rates, facts["kl_per_group"], 1e-5)
    outcomes = walk.outcomes
    assert close(sum(o.log_q for o in outcomes), facts["log_q"], 1e-5)  # type: ignore[arg-type, misc]
    assert close(sum(o.log_p for o in outcomes), facts["log_p"], 1e-5)  # type: ignore[arg-type, misc]
    assert close(logits.double().abs().max(), facts["logits_abs_max"], 1e-4)
    if f"{mode}.logits" in recorded.tensors:
        assert close(logits, recorded.tensors[f"{mode}.logits"], 1e-4)
    for i, outcome in enumerate(outcomes):
        if f"{mode}.z.{i:02}" in recorded.tensors:
            assert close(outcome.z, recorded.tensors[f"{mode}.z.{i:02}"], 1e-4)
        assert outcome.rate_detail is not None
        assert close(outcome.rate_detail.mean(0), recorded.tensors[f"{mode}.kl_diag.{i:02}"], 1e-4)


@pytest.mark.parametrize("name", CASES)
def test_float64_agrees_to_1e_9(name: str, double_constants: None) -> None:
    recorded, built = case(name), model(name, torch.float64).eval()
    facts = recorded.facts["eval_float64"]
    with torch.no_grad():
        logits, walk = infer(built, recorded, "eval.eps", torch.float64)
        distortion = -built.likelihood.log_prob(logits, recorded.target(torch.float64))
    assert close(distortion, facts["recon"], 1e-9)
    assert close(walk.rates, facts["kl_per_group"], 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_running_statistics_after_a_pass_in_training(name: str) -> None:
    recorded, built = case(name), model(name)
    with torch.no_grad():
        infer(built, recorded, "train.eps")
    wanted = {
        k.removeprefix("train.bn_after."): v for k, v in recorded.tensors.items() if k.startswith("train.bn_after")
    }
    found = {
        published_names(name)[k]: v for k, v in built.state_dict().items() if k.rpartition(".")[2].startswith("running")
    }
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert close(found[key], value, 1e-5), key


@pytest.mark.parametrize("name", [c for c in CASES if "iw.eps.0.00" in case(c).tensors])
def test_importance_weights(name: str) -> None:
    recorded, built = case(name), model(name).eval()
    facts, bound = recorded.facts["iw"], ImportanceBound()
    for k in range(facts["K"]):
        with torch.no_grad():
            logits, walk = infer(built, recorded, f"iw.eps.{k}")
            log_weight = built.likelihood.log_prob(logits, recorded.target()) + walk.log_weight
        assert close(log_weight, [row[k] for row in facts["log_iw"]], 1e-5)
        bound.add(log_weight)
    assert close(bound.bound, facts["log_p"], 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_prior_samples_with_recorded_noise(name: str) -> None:
    recorded, built = case(name), model(name).eval()
    facts = recorded.facts["sample"]
    streams = {
        MIXTURE_STREAM: recorded.tensors.get("sample.u_mix"),
        LOGISTIC_STREAM: recorded.tensors.get("sample.u_logistic"),
        NormalDensity.stream: recorded.tensors.get("sample.eps_pixel"),
    }
    latents = recorded.noise("sample.eps", len(built.LATENTS))  # type: ignore[arg-type]
    noise = RecordedNoise(facts["batch"], latents, {k: v for k, v in streams.items() if v is not None})
    walk = Traversal.generate(built.LATENTS, facts["batch"], noise, facts["temperature"])  # type: ignore[arg-type]
    with torch.no_grad():
        logits = built(None, walk)
        assert float(logits.double().sum()) == pytest.approx(facts["logits_sum"], rel=1e-4)
        for key, image in {
            "sample.image_t1": lambda: built.likelihood.sample(logits, noise) / 2 + 0.5,
            "sample.image": lambda: built.likelihood.sample(logits, noise) / 2 + 0.5,
            "sample.image_mean": lambda: _unit_interval(built.likelihood.mean(logits)),
        }.items():
            if key in recorded.tensors:
                assert close(image(), recorded.tensors[key], 1e-4), key


def _unit_interval(mean: Tensor) -> Tensor:
    """Images of colour lie in [-1, 1], bits in [0, 1]."""
    return mean if mean.shape[1] == 1 else mean / 2 + 0.5


def objective(name: str) -> ObjectiveSettings:
    """What the recorded step minimised: groups balanced by size, except where there is one only."""
    facts = case(name).facts
    train = facts["train"]
    return ObjectiveSettings(
        unit="nats_per_image",
        beta=train["kl_coeff"],
        balance=None if facts["num_groups"] == 1 else BySize(weight="square"),
        spectral=train["wdn_coeff"],
        batch_norm_gamma=train["wdn_coeff"],
    )


def penalties(name: str, built: nn.Module) -> Penalties:
    """Both penalties, with the power iteration at its recorded start."""
    recorded, ours = case(name), {theirs: ours for ours, theirs in published_names(name).items()}
    made = Penalties(built, objective(name), Clock(1, 10).steps)
    assert made.spectral is not None
    for shape, layers in recorded.facts["spectral"]["layers_by_shape"].items():
        start = F.normalize(recorded.tensors[f"sr.u_init.{shape}"], dim=1, eps=1e-3)
        names = [ours[f"{layer}.weight"].removesuffix(".weight") for layer in layers]
        assert made.spectral.vectors.keys() >= set(names)
        made.spectral.vectors |= dict(zip(names, start, strict=True))
    return made


@pytest.mark.parametrize("name", CASES)
def test_both_penalties_and_their_second_call(name: str) -> None:
    facts, penalised = case(name).facts, penalties(name, model(name))
    assert penalised.spectral is not None
    assert penalised.batch_norm_gamma is not None
    assert len(penalised.spectral) == facts["spectral"]["num_conv_layers"]
    assert len(penalised.batch_norm_gamma) == facts["spectral"]["num_bn_layers"]
    _, first = penalised(0)
    assert close(first["spectral_sum"], facts["train"]["spectral_loss"], 1e-5)
    assert close(first["batch_norm_gamma_sum"], facts["train"]["bn_loss"], 1e-5)
    _, second = penalised(1)
    assert close(second["spectral_sum"], facts["spectral"]["eval_weights_loss_second_call"], 1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("level", [0, 1])
def test_a_training_step_minimises_and_derives_the_recorded_loss(name: str, level: int) -> None:
    """Objective and penalties as the trainer joins them: terms, total, and the gradient of the total."""
    recorded, built = case(name), model(name, level=level)
    facts = recorded.facts["train"]
    x, target = recorded.images(), recorded.target()
    noise = RecordedNoise(len(x), recorded.noise("train.eps", len(built.LATENTS)))  # type: ignore[arg-type]
    loss, terms = Objective(objective(name), Clock(1, 10).steps)(built, ModelBatch(x, target, noise), 0)
    assert loss.item() == pytest.approx(facts["loss_main"], rel=1e-5)
    assert terms["beta"] == pytest.approx(facts["kl_coeff"])
    if recorded.facts["num_groups"] > 1:
        assert close(terms["rate_per_group_weight"], facts["kl_balance_coeffs"], 1e-5)
    dims = built.likelihood.dims(tuple(target.shape[1:]))  # without the border of padded images
    balanced = terms["weighted_rate_nats_per_dim"].item() * dims
    assert balanced == pytest.approx(sum(facts["balanced_kl"]) / len(x), rel=1e-5)
    penalty, _ = penalties(name, built)(0)
    assert penalty is not None
    assert (loss + penalty).item() == pytest.approx(facts["total_loss"], rel=1e-5)
    loss.backward()
    penalty.backward()
    theirs = published_names(name)
    found = {theirs[k]: p.grad for k, p in built.named_parameters() if p.grad is not None}
    total = torch.stack([g.double().norm() for g in found.values()]).norm()
    assert float(total) == pytest.approx(recorded.facts["grad_norm_total"], rel=1e-5)
    for key, wanted in recorded.facts["key_grads"].items():
        if key in found:  # a single group has no learned start
            assert found[key].double().norm() == pytest.approx(wanted["norm"], rel=1e-3, abs=1e-5 * float(total)), key
    assert _recorded_gradients_agree(name, found, float(total))


@pytest.mark.parametrize("name", CASES)
def test_recalibrated_samples(name: str) -> None:
    """Statistics after two prior passes, exactly those that the release moves, and what is generated from them."""
    recorded, built = case(name), model(name).eval()
    temperature, batch = recorded.facts["sample"]["temperature"], recorded.facts["sample"]["batch"]
    groups = built.LATENTS
    noises = [
        RecordedNoise(batch, recorded.noise(f"recal.eps.{i}", len(groups)))  # type: ignore[arg-type]
        for i in range(2)
    ]
    before = {key: value.clone() for key, value in built.state_dict().items()}
    recalibrate_with(built, noises, temperature)
    moved = {
        published_names(name)[key]: value for key, value in built.state_dict().items() if not value.equal(before[key])
    }
    wanted = {k.removeprefix("recal.bn_after."): v for k, v in recorded.tensors.items() if k.startswith("recal.bn_")}
    assert moved.keys() == wanted.keys()
    for key, value in wanted.items():
        assert close(moved[key], value, 1e-5), key
    noise = RecordedNoise(batch, recorded.noise("sample.eps", len(groups)))  # type: ignore[arg-type]
    with torch.no_grad():
        logits = built(None, Traversal.generate(groups, batch, noise, temperature))  # type: ignore[arg-type]
    if "recal.logits" in recorded.tensors:
        assert close(logits, recorded.tensors["recal.logits"], 1e-4)


def _recorded_gradients_agree(name: str, found: Mapping[str, Tensor], total: float) -> bool:
    path = FOLDER / name / "grads.safetensors"
    recorded = load_file(path) if path.exists() else {}
    shapes = {theirs: our_names(name)[ours] for ours, theirs in published_names(name).items()}
    return all(
        (found[key] - wanted.reshape(shapes[key])).norm() <= max(1e-3 * wanted.norm(), 1e-5 * total)
        for key, wanted in recorded.items()
    )
