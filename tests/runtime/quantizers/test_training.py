"""Discrete latents trained end to end, through the emitted model and the trainer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import hvdsl
from hvdsl.compiler.settings import ModelSettings
from hvdsl.errors import HvdslError
from hvdsl.grammar.source import Source
from hvdsl.runtime.data import open_data
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.training.metrics import read_metrics
from hvdsl.runtime.training.run import Run
from hvdsl.runtime.training.trainer import Trainer
from hvdsl.runtime.use.evaluate import evaluate
from hvdsl.runtime.use.sample import sample

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
    return Source("codes.hv", text.replace("LIKELIHOOD", likelihood).replace("UNIT", unit))


def build(source: Source) -> tuple[nn.Module, ModelSettings]:
    compiled = hvdsl.compile(source)
    model = hvdsl.build(source)
    initialize(model, 0)
    return model, compiled.model.settings


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_evaluates_and_samples(kind: str, tmp_path: Path) -> None:
    model, settings = build(spec(kind))
    data = open_data(settings.data)
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


@pytest.mark.parametrize(
    ("likelihood", "unit"),
    [
        ("mae", "mean_absolute"),
        ("categorical", "nats_per_dim"),
        ("discretized_logistic", "nats_per_dim"),
        ("discretized_logistic(scale = exp)", "nats_per_image"),
    ],
)
def test_every_likelihood_trains_with_codes(likelihood: str, unit: str) -> None:
    model, settings = build(spec(likelihood=likelihood, unit=unit))
    data = open_data(settings.data)
    trainer = Trainer(model, settings, data.train)
    trainer.fit()
    bound = evaluate(model, data.validation)
    assert math.isfinite(bound.bits_per_dim)
    assert bound.density is (unit != "mean_absolute")


def test_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    model, settings = build(spec())
    data = open_data(settings.data)
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


def test_a_continuous_latent_has_no_place_in_a_squared_error() -> None:
    source = spec()
    text = source.text.replace(KINDS["ema"][0], "normal(standard(6))")
    text = text.replace(KINDS["ema"][1], "normal(skip -> conv(1x1, 12))")
    model, settings = build(Source("codes.hv", text))
    with pytest.raises(HvdslError, match=r"`decoder\.r4\.z` is a latent of `normal`, whose rate cannot be added"):
        Trainer(model, settings, open_data(settings.data).train).fit()
