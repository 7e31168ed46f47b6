"""The emitted VDVAE against numbers recorded from the published implementation.

Limits are those that the recordings come with: activations and samples 1e-4; KL, distortion and ELBO 1e-5; float64
1e-9; gradients and training traces 1e-3. They bound |a - b| / (1 + |b|), for gradients relative to the largest entry.
"""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import hvdsl
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.runtime.ground.noise import RecordedNoise
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.likelihoods.discretized_logistic import LOGISTIC_STREAM, MIXTURE_STREAM
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from tests.golden.recorded import FOLDER, SPECS, case, in_our_names, infer, model, published_weights

CASES = list(SPECS)


def close(found: Tensor, recorded: Tensor, limit: float) -> bool:
    difference = (found.double() - recorded.double()).abs() / (1 + recorded.double().abs())
    return bool(difference.max() <= limit)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("level", [0, 1])
def test_distortion_rate_and_every_groups_kl(name: str, level: int) -> None:
    recorded, built = case(name), model(name, level=level)
    target = recorded.image("x_target")
    with torch.no_grad():
        params, walk = infer(built, recorded)
        distortion = -built.likelihood.log_prob(params, target) / target[0].numel()
    assert close(distortion, recorded.tensors["distortion"], 1e-5)
    assert close(walk.rates, recorded.tensors["kl"], 1e-5)
    assert close(walk.rates.sum(0) / target[0].numel(), recorded.tensors["rate"], 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_float64_agrees_to_1e_9(name: str) -> None:
    recorded, built = case(name), model(name, torch.float64)
    target = recorded.image("x_target").double()
    with torch.no_grad():
        params, walk = infer(built, recorded, torch.float64)
        distortion = -built.likelihood.log_prob(params, target) / target[0].numel()
    facts = recorded.facts["float64"]
    assert close(distortion, torch.tensor(facts["distortion_per_image"], dtype=torch.float64), 1e-9)
    assert close(walk.rates, torch.tensor(facts["kl_per_group_per_image"], dtype=torch.float64), 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_latents_and_decoder_output(name: str) -> None:
    recorded, built = case(name), model(name)
    seen: list[Tensor] = []
    last = [m for key, m in built.named_modules() if key.endswith(".affine.0")][-1]
    last.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        _, walk = infer(built, recorded)
    assert close(seen[0], recorded.tensors["px_z"], 1e-4)
    for i, outcome in enumerate(walk.outcomes):
        assert close(outcome.z, recorded.tensors[f"z.{i:03}"], 1e-4)


@pytest.mark.parametrize(
    ("name", "key"),
    [(n, key) for n in ("a_8bit_32px", "c_custom_widths") for key in ("q_mu", "p_mu")],
    ids=lambda v: str(v),
)
def test_posterior_and_prior_parameters(name: str, key: str) -> None:
    recorded, built = case(name), model(name)
    side = key[0]
    layers = [m for k, m in built.named_modules() if k.startswith("decoder.") and k.endswith(f".{side}.bottleneck.0")]
    seen: dict[nn.Module, Tensor] = {}
    for layer in layers:
        layer.register_forward_hook(lambda module, _inputs, output: seen.__setitem__(module, output))
    with torch.no_grad():
        infer(built, recorded)
    for i, layer in enumerate(layers):
        width = recorded.tensors[f"{key}.{i:03}"].shape[1]
        assert close(seen[layer][:, :width], recorded.tensors[f"{side}_mu.{i:03}"], 1e-4)
        assert close(seen[layer][:, width : 2 * width], recorded.tensors[f"{side}_logsigma.{i:03}"], 1e-4)


def test_encoder_features() -> None:
    recorded, built = case("a_8bit_32px"), model("a_8bit_32px")
    with torch.no_grad():
        features = built.encoder(recorded.image("x_in"))
    for feature in features:
        assert close(feature, recorded.tensors[f"enc_act.{feature.shape[-1]}"], 1e-4)


# Which case keeps which recordings: all of a and c, of b one kind of sample.
SAMPLES = [
    *(("a_8bit_32px", tag) for tag in ("sample_t1.0", "sample_t0.7", "sample_partial")),
    ("b_5bit_64px", "sample_partial"),
    *(("c_custom_widths", tag) for tag in ("sample_t1.0", "sample_t0.7", "sample_tlist", "sample_partial")),
]


@pytest.mark.parametrize(("name", "tag"), SAMPLES)
def test_samples_with_recorded_noise(name: str, tag: str) -> None:
    recorded = case(name)
    facts, built = recorded.facts["samples"][tag], model(name)
    given = [recorded.tensors[f"z.{i:03}"] for i in range(facts["first_sampled_group"])]
    uniforms = {
        MIXTURE_STREAM: recorded.image(f"{tag}.mix_uniform"),
        LOGISTIC_STREAM: recorded.image(f"{tag}.logistic_uniform"),
    }
    noise = RecordedNoise(facts["n"], recorded.noise(f"{tag}."), uniforms)
    walk = Traversal.generate(built.LATENTS, facts["n"], noise, facts["temperature"], given=given)  # type: ignore[arg-type]
    with torch.no_grad():
        image = built.likelihood.sample(built(None, walk), noise)
    assert close(image, recorded.image(f"{tag}.image_float"), 1e-4)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("level", [0, 1])
def test_gradients(name: str, level: int) -> None:
    recorded, built = case(name), model(name, level=level)
    target = recorded.image("x_target")
    params, walk = infer(built, recorded)
    nats = -built.likelihood.log_prob(params, target) + walk.rates.sum(0)
    (nats.mean() / target[0].numel()).backward()
    wanted = in_our_names(name, load_file(FOLDER / "vdvae" / name / "grads.safetensors"))
    assert len(wanted) == 5
    found = dict(built.named_parameters())
    for key, gradient in wanted.items():
        scale = gradient.abs().max()
        assert ((found[key].grad - gradient).abs().max() / scale) <= 1e-3, key
    total = math.sqrt(sum(float(p.grad.double().square().sum()) for p in found.values() if p.grad is not None))
    assert total == pytest.approx(recorded.facts["grads"]["total_l2"], rel=1e-3)


def test_the_recorded_training_trace() -> None:
    """Seven steps: warm-up from rate 0, a NaN input and a spike (both skipped), clipping, averaging."""
    name = "a_8bit_32px"
    recorded, built = case(name), model(name)
    facts = recorded.facts["train"]
    recording = load_file(FOLDER / "vdvae" / name / "train.safetensors")
    compiled = hvdsl.compile(FOLDER / "specs" / SPECS[name])
    train = compiled.model.settings.train
    assert train is not None
    objective = Objective(ObjectiveSettings(unit="nats_per_dim"), steps=lambda duration: round(duration.n))
    optimization = Optimization(built, train, objective, Clock(per_epoch=1, total=len(facts["steps"])))
    built.train()
    for i, (kind, wanted) in enumerate(zip(facts["steps"], facts["trace"], strict=True)):
        x = recorded.image("x_in")
        if kind == "spike":
            x = x * facts["spike"]
        elif kind == "nan":
            x[0, 0, 0, 0] = torch.nan
        noise = [recording[f"step{i}.eps.{g:03}"] for g in range(recorded.groups)]
        result = optimization.step([ModelBatch(x, recorded.image("x_target"), RecordedNoise(len(x), noise))])
        assert result.learning_rate == pytest.approx(wanted["lr_used"], abs=1e-12)
        assert result.applied is not wanted["skipped"]
        if kind != "nan":
            assert result.loss == pytest.approx(wanted["elbo"], rel=1e-3)
            assert result.gradient_norm == pytest.approx(wanted["grad_norm_before_clip"], rel=1e-3)
    final = in_our_names(name, {k[6:]: v for k, v in recording.items() if k.startswith("final.")})
    average = in_our_names(name, {k[4:]: v for k, v in recording.items() if k.startswith("ema.")})
    state = built.state_dict()
    assert optimization.ema is not None
    with optimization.ema.applied():
        averaged = {key: value.clone() for key, value in built.state_dict().items()}
    for key in final:
        assert close(state[key], final[key], 1e-3), key
        assert close(averaged[key], average[key], 1e-3), key


def test_published_parameter_count() -> None:
    for name in CASES:
        count = sum(value.numel() for value in published_weights(name).values())
        assert sum(p.numel() for p in model(name).parameters()) == count == case(name).facts["n_params"]
