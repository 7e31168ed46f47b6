"""Seven recorded steps of the published VDVAE's training: warm-up, clipping, a NaN, a spike, skipping and averaging."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Optimizer, Train
from hvdsl.runtime.ground.noise import RecordedNoise, latent_stream
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization, StepResult

TESTS = Path(__file__).parents[2]
CASE = TESTS / "golden" / "vdvae" / "a_8bit_32px"
FACTS: dict[str, Any] = json.loads((CASE / "case.json").read_text())
RECORDED = FACTS["train"]


def handwritten() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "handwritten_vdvae", TESTS.parent / "benchmarks" / "handwritten_vdvae.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def model() -> nn.Module:
    h, vdvae = FACTS["hyperparameters"], handwritten()
    config = vdvae.Config(
        h["image_size"], h["width"], h["zdim"], h["enc_blocks"], h["dec_blocks"], h["num_mixtures"], FACTS["n_bits"]
    )
    made: nn.Module = vdvae.Vdvae(config)
    made.load_state_dict(load_file(CASE / "model.safetensors"))
    return made


def negative_elbo(model: nn.Module, part: ModelBatch, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
    shapes = [tuple(s) for s in FACTS["group_shapes"]]
    noise = [part.noise.normal(latent_stream(i), shape) for i, shape in enumerate(shapes)]
    distortion, rates = model(part.x, part.target, noise)
    rate = rates.sum(0) / part.target[0].numel()
    return (distortion + rate).mean(), {"distortion": distortion.mean(), "rate": rate.mean()}


@pytest.fixture(scope="module")
def trained() -> tuple[Optimization, list[StepResult]]:
    io, trace = load_file(CASE / "io.safetensors"), load_file(CASE / "train.safetensors")
    x, target = (io[key].permute(0, 3, 1, 2) for key in ("x_in", "x_target"))
    train = Train(
        batch=2,
        optimizer=Optimizer(
            kind="adamw", lr=RECORDED["lr"], betas=tuple(RECORDED["betas"]), weight_decay=RECORDED["wd"]
        ),
        warmup=Duration(n=RECORDED["warmup"]),
        clip=RECORDED["grad_clip"],
        skip_above=RECORDED["skip_threshold"],
        ema=RECORDED["ema_rate"],
    )
    optimization = Optimization(model(), train, negative_elbo, Clock(per_epoch=1, total=None))
    results = []
    for step, kind in enumerate(RECORDED["steps"]):
        seen = x * RECORDED["spike"] if kind == "spike" else x.clone()
        if kind == "nan":
            seen[0, 0, 0, 0] = math.nan
        eps = [trace[f"step{step}.eps.{i:03d}"] for i in range(FACTS["n_groups"])]
        results.append(optimization.step([ModelBatch(seen, target, RecordedNoise(2, eps))]))
    return optimization, results


@pytest.mark.parametrize("step", range(7))
def test_each_step_is_the_recorded_one(step: int, trained: tuple[Optimization, list[StepResult]]) -> None:
    expected, result = RECORDED["trace"][step], trained[1][step]
    assert result.step == expected["step"]
    assert result.learning_rate == pytest.approx(expected["lr_used"])
    assert result.applied is not expected["skipped"]
    assert result.loss == pytest.approx(float(expected["elbo"]), rel=1e-3, nan_ok=True)
    assert result.terms["distortion"][0] == pytest.approx(float(expected["distortion"]), rel=1e-3, nan_ok=True)
    assert result.terms["rate"][0] == pytest.approx(float(expected["rate"]), rel=1e-3, nan_ok=True)
    assert result.gradient_norm == pytest.approx(float(expected["grad_norm_before_clip"]), rel=1e-3, nan_ok=True)


def test_parameters_and_averages_end_where_they_were_recorded(trained: tuple[Optimization, list[StepResult]]) -> None:
    optimization, _ = trained
    trace = load_file(CASE / "train.safetensors")
    parameters = dict(optimization.model.named_parameters())
    assert optimization.ema is not None
    compared = 0
    for label, expected in trace.items():
        kind, _, name = label.partition(".")
        if kind in ("final", "ema"):
            actual = parameters[name].detach() if kind == "final" else optimization.ema.averages[name]
            assert (actual - expected).abs().max() / expected.abs().max() < 1e-3, label
            compared += 1
    assert compared == 10
    assert norm(parameters.values()) == pytest.approx(RECORDED["final_param_l2"], rel=1e-6)
    assert norm(optimization.ema.averages.values()) == pytest.approx(RECORDED["ema_param_l2"], rel=1e-6)


def norm(tensors: Any) -> float:
    return torch.cat([t.detach().double().flatten() for t in tensors]).norm().item()
