"""Discrete latents trained end to end, through the emitted model and the trainer."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import hvdsl
from hvdsl.compiler.setting_words import Duration, Ramp, WithBeta
from hvdsl.compiler.settings import ModelSettings
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.data import open_splits
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.inference.evaluate import evaluate
from hvdsl.runtime.inference.generate import sample
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.quantizers import EmaCodebook, NearestCode
from hvdsl.runtime.quantizers.usage import usage
from hvdsl.runtime.training.batches import batches
from hvdsl.runtime.training.folder.logs import read_metrics
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.trainer import Trainer

SPEC = """hv 1
model codes
data photos { shape = 3x16x16, bits = 8, input = v / 127.5 - 1 }
encoder { 16: conv(4x4, 16, stride = 2) -> relu
  8: conv(4x4, 16, stride = 2)
  4: relu -> tap }
decoder { 4: { z ~ PRIOR posterior POSTERIOR; z -> conv(3x3, 16) -> relu }
  8: upconv(4x4, 16) -> relu
  16: upconv(4x4, logits) }
likelihood LIKELIHOOD
objective { unit = UNIT, commitment = 0.25 }
train { steps = 6, batch = 8, log_every = 3, optimizer = adam(lr = 3e-3) }
"""

KINDS = {
    "ema": ("codebook(32, 6, start = kmeans, expire = 0.1)", "nearest_code(skip -> conv(1x1, 6))"),
    "gradient": ("codebook(32, 6, update = gradient)", "nearest_code(skip -> conv(1x1, 6), gradient = rotation)"),
    "linear": ("codebook(32, 6, update = linear)", "nearest_code(skip -> conv(1x1, 6))"),
    "cosine": ("codebook(32, 6, distance = cosine)", "nearest_code(skip -> conv(1x1, 6))"),
    "residual": ("codebook(16, 6, depth = 3)", "nearest_code(skip -> conv(1x1, 6))"),
    "finite_scalar": ("finite_scalar(8, 5, 5)", "round_code(skip -> conv(1x1, 3))"),
    "lookup_free": ("lookup_free(5)", "sign_code(skip -> conv(1x1, 5))"),
}


def spec(kind: str = "ema", likelihood: str = "mse", unit: str = "mean_square") -> Source:
    prior, posterior = KINDS[kind]
    text = SPEC.replace("PRIOR", prior).replace("POSTERIOR", posterior)
    if kind == "finite_scalar":  # has no commitment
        text = text.replace(", commitment = 0.25", "")
    return Source("codes.hv", text.replace("LIKELIHOOD", likelihood).replace("UNIT", unit))


def build(source: Source) -> tuple[nn.Module, ModelSettings]:
    compiled = hvdsl.compile(source)
    model = hvdsl.build(source)
    initialize(model, 0)
    return model, compiled.model.settings


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_evaluates_and_samples(kind: str, tmp_path: Path) -> None:
    model, settings = build(spec(kind))
    data = open_splits(settings.data)
    run = Run.create(tmp_path / "run", {})
    Trainer(model, settings, data.train, run=run).fit()
    records = [r for r in read_metrics(run.folder / "metrics.jsonl") if r["event"] == "train"]
    assert [r["step"] for r in records] == [3, 6]
    groups = 3 if kind == "residual" else 1
    assert len(records[-1]["codes_used_per_group_fraction"]) == groups
    assert records[-1]["code_perplexity_per_group_codes"][0] >= 1
    assert all(math.isfinite(r["objective"]) for r in records)
    found = evaluate(model, data.validation)
    assert found.as_metrics()["rate_bits_per_image"] == pytest.approx(
        {"residual": 16 * 12, "finite_scalar": 16 * math.log2(200)}.get(kind, 16 * 5), rel=1e-5
    )
    assert sample(model, settings.data, 2).shape == (2, 3, 16, 16)


def in_a_group(**train: object) -> dict[str, torch.Tensor]:
    """The state after two steps of a model whose codes stand in a recipe, which checkpointing runs twice."""
    text = spec().text.replace(KINDS["ema"][0], "codebook(32, 6)").replace("decoder { 4: {", "group level {")
    text = text.replace("relu }\n  8:", "relu }\ndecoder { 4: learned(zeros, 6) -> level\n  8:")
    model, settings = build(Source("codes.hv", text))
    assert settings.train is not None
    changed = settings.train.model_copy(update={"steps": 2} | train)
    Trainer(model.double(), settings.model_copy(update={"train": changed}), open_splits(settings.data).train).fit()
    return model.state_dict()


def test_codes_move_once_per_step_however_it_is_computed() -> None:
    plain = in_a_group()
    assert any(key.endswith("codebook.0.counts") for key in plain)
    for train in ({"checkpointing": "group"}, {"accumulate": 2}, {"checkpointing": "group", "accumulate": 2}):
        for key, value in in_a_group(**train).items():
            torch.testing.assert_close(value, plain[key], rtol=1e-9, atol=1e-10)


def test_a_level_that_stays_collapsed_is_named_once() -> None:
    model, settings = build(spec("gradient"))
    assert settings.train is not None
    train = settings.train.model_copy(update={"log_every": 1})
    data, shown = open_splits(settings.data), Console(record=True, file=io.StringIO())
    for parameter in model.decoder.parameters():  # type: ignore[union-attr]  # emitted: every vector is the same
        parameter.data.zero_()
    Trainer(model, settings.model_copy(update={"train": train}), data.train, console=shown).fit()
    told = shown.export_text()
    assert told.count("`decoder.r4.z` has collapsed: perplexity 1.0 of 32 codes") == 1
    assert "perplexity 1 " in told


@pytest.mark.parametrize(
    ("likelihood", "unit"),
    [
        ("mae", "mean_absolute"),
        ("laplace", "nats_per_dim"),
        ("categorical", "nats_per_dim"),
        ("discretized_logistic", "nats_per_dim"),
        ("discretized_logistic(scale = exp)", "nats_per_image"),
    ],
)
def test_every_likelihood_trains_with_codes(likelihood: str, unit: str) -> None:
    model, settings = build(spec(likelihood=likelihood, unit=unit))
    data = open_splits(settings.data)
    trainer = Trainer(model, settings, data.train)
    trainer.fit()
    bound = evaluate(model, data.validation)
    assert math.isfinite(bound.bits_per_dim)
    assert bound.density is (unit != "mean_absolute")


def test_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    model, settings = build(spec())
    data = open_splits(settings.data)
    Trainer(model, settings, data.train).fit()
    halves, settings = build(spec())
    train = settings.train
    assert train is not None
    short = settings.model_copy(update={"train": train.model_copy(update={"steps": 3})})
    run = Run.create(tmp_path / "run", {})
    Trainer(halves, short, data.train, run=run).fit()
    resumed, _ = build(spec())
    trainer = Trainer(resumed, settings, data.train, run=run)
    assert trainer.resume() == 3
    trainer.fit()
    for key, value in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@pytest.mark.parametrize(("kind", "started"), [("ema", True), ("residual", False), ("residual", True)])
def test_codes_learn_nothing_from_a_step_that_is_skipped(kind: str, started: bool) -> None:
    model, settings = build(spec(kind))
    assert settings.train is not None
    train = settings.train.model_copy(update={"skip_above": 1e-9})
    data = open_splits(settings.data)
    trainer = Trainer(model, settings.model_copy(update={"train": train}), data.train)
    order = batches(data.train, trainer.order, 0)
    if started:
        trainer.optimization.guard.limit = None
        assert trainer.step(next(order)).applied
        trainer.optimization.guard.limit = 1e-9
        assert all(level.choices > 0 for level in usage(model))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert not trainer.step(next(order)).applied
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(level.choices == 0 for level in usage(model))


def test_k_means_waits_for_a_batch_that_is_finite() -> None:
    made = EmaCodebook(4, 2, (2, 2), start="kmeans")
    initialize(made, 0)
    before = made.codes.clone()
    made.train()
    made.quantize(NearestCode(torch.full((1, 2, 2, 2), math.nan)))
    assert torch.equal(made.codes, before)
    assert made.started.item() == 0
    made.quantize(NearestCode(torch.randn(1, 2, 2, 2)))
    assert made.started.item() == 1
    assert made.codes.isfinite().all()
    assert not torch.equal(made.codes, before)


def refusal(text: str, *overrides: str) -> Diagnostic:
    with pytest.raises(SpecError) as caught:
        hvdsl.compile(Source("codes.hv", text), overrides=dict(o.split("=", 1) for o in overrides))
    [diagnostic] = caught.value.diagnostics
    return diagnostic


def test_a_continuous_latent_has_no_place_in_a_squared_error() -> None:
    text = spec().text.replace(KINDS["ema"][0], "normal(standard(6))")
    text = text.replace(KINDS["ema"][1], "normal(skip -> conv(1x1, 12))").replace(", commitment = 0.25", "")
    found = refusal(text)
    assert (found.code.id, found.found) == ("HV0614", "`z`, normal, under `unit = mean_square`")


@pytest.mark.parametrize(
    "override", ["beta=0.5", "free=at_least(1)", "balance=by_size(square)", "commitment=with_beta(1, 0.25)"]
)
def test_what_weighs_rates_has_no_place_in_a_squared_error(override: str) -> None:
    found = refusal(spec().text, f"objective.{override}")
    assert found.code.id == "HV0604" and "an objective in `mean_square`, which has none" in found.found


@pytest.mark.parametrize("kind", ["finite_scalar", "continuous"])
def test_commitment_needs_codes_that_can_be_far(kind: str) -> None:
    text = spec("finite_scalar").text
    if kind == "continuous":
        text = text.replace(KINDS["finite_scalar"][0], "normal(standard(6))")
        text = text.replace(KINDS["finite_scalar"][1], "normal(skip -> conv(1x1, 12))")
        text = text.replace("likelihood mse", "likelihood normal").replace("mean_square", "nats_per_dim")
    found = refusal(text, "objective.commitment=0.25")
    assert found.code.id == "HV0604" and found.message == "`commitment` does not apply here"


def test_commitment_may_follow_beta() -> None:
    model, settings = build(spec(likelihood="normal", unit="nats_per_image"))
    written = settings.objective.model_copy(
        update={"commitment": WithBeta(first=4.0, last=0.25), "beta": Ramp(length=Duration(n=4))}
    )
    x = torch.zeros(2, 3, 16, 16)

    def loss(commitment: float | WithBeta, step: int) -> tuple[float, float]:
        objective = Objective(written.model_copy(update={"commitment": commitment}), steps=lambda d: round(d.n))
        total, terms = objective(model.eval(), ModelBatch(x, x, SampleNoise(0, range(2))), step)
        return total.item(), terms["commitment_per_group_mean_square"].item()

    for step in range(5):
        with_it, apart = loss(written.commitment, step)
        assert with_it - loss(0.0, step)[0] == pytest.approx(apart * 4 * 0.0625 ** (step / 4), rel=1e-2)
