"""Optimizers built from settings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hvdsl.compiler.settings import L2, Optimizer, ParameterGroup
from hvdsl.errors import HvdslError
from hvdsl.runtime.training.step.optimizer import (
    build_optimizer,
    freeze,
    group_lines,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
    update,
)

RECORDED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "recorded" / "adamax.json").read_text())


class Holder(nn.Module):
    """One parameter, or a weight and a bias."""

    def __init__(self, **parameters: Tensor) -> None:
        super().__init__()
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value.clone()))


def one_step(settings: Optimizer, p: Tensor, gradient: Tensor) -> Tensor:
    model = Holder(weight=p)
    optimizer = build_optimizer(model, settings)
    model.weight.grad = gradient.clone()
    optimizer.step()
    return model.weight.detach()


@pytest.mark.parametrize(
    ("corrected", "expected"), [(True, "torch_bias_corrected"), (False, "iaf_theano_no_bias_correction")]
)
def test_adamax_reproduces_the_recorded_trajectories(corrected: bool, expected: str) -> None:
    model = Holder(weight=torch.tensor(RECORDED["in.param0"], dtype=torch.float64))
    optimizer = build_optimizer(model, Optimizer(kind="adamax", lr=0.002, bias_correction=corrected))
    for t, after in enumerate(RECORDED[f"out.{expected}"]):
        model.weight.grad = torch.tensor(RECORDED[f"in.grad{t}"], dtype=torch.float64)
        optimizer.step()
        assert torch.allclose(model.weight.detach(), torch.tensor(after, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "corrected"), [("adamw", True), ("adamax", True), ("adamax", False), ("sgd", True)])
def test_a_plain_weight_decay_is_decoupled(kind: Any, corrected: bool) -> None:
    p, gradient = torch.tensor([1.0, -2.0]), torch.tensor([0.3, 0.1])
    plain = one_step(Optimizer(kind=kind, lr=0.1, bias_correction=corrected), p, gradient)
    decayed = one_step(Optimizer(kind=kind, lr=0.1, weight_decay=0.5, bias_correction=corrected), p, gradient)
    assert torch.allclose(decayed, plain - 0.1 * 0.5 * p)


@pytest.mark.parametrize("kind", ["adam", "adamax", "sgd"])
def test_l2_goes_into_the_gradient(kind: Any) -> None:
    p, gradient = torch.tensor([1.0, -2.0]), torch.tensor([0.3, 0.1])
    decayed = one_step(Optimizer(kind=kind, lr=0.1, weight_decay=L2(weight=0.5)), p, gradient)
    assert torch.allclose(decayed, one_step(Optimizer(kind=kind, lr=0.1), p, gradient + 0.5 * p))


def test_decay_only_weights_leaves_biases_and_maps_alone() -> None:
    model = Holder(weight=torch.ones(2, 2), bias=torch.ones(2), gain=torch.ones(1, 2, 1, 1))
    optimizer = build_optimizer(model, Optimizer(kind="adamw", lr=0.1, weight_decay=0.5, decay_only="weights"))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.allclose(model.weight, torch.full((2, 2), 0.95))
    assert torch.equal(model.bias, torch.ones(2))
    assert torch.equal(model.gain, torch.ones(1, 2, 1, 1))


def test_the_learning_rate_reaches_decoupled_decay_too() -> None:
    model = Holder(weight=torch.ones(1))
    optimizer = build_optimizer(model, Optimizer(kind="adamax", lr=1.0, weight_decay=0.5))
    set_learning_rate(optimizer, 0.0)
    model.weight.grad = torch.ones(1)
    optimizer.step()
    assert model.weight.item() == 1.0


def test_only_adamax_can_do_without_bias_correction() -> None:
    with pytest.raises(HvdslError, match="adamax"):
        build_optimizer(Holder(weight=torch.ones(1)), Optimizer(kind="adam", lr=0.1, bias_correction=False))


@pytest.mark.parametrize("recorded", ["adamax_torch", "adamax_fast"])
def test_adamax_with_l2_and_a_large_eps_reproduces_nvaes_trajectories(recorded: str) -> None:
    folder = Path(__file__).parents[3] / "golden" / "nvae_cells"
    golden = load_file(folder / f"{recorded}.safetensors")
    model = Holder(**{f"p{i}": golden[f"p.{i}.init"] for i in range(3)})
    settings = Optimizer(kind="adamax", lr=1e-2, eps=1e-3, weight_decay=L2(weight=3e-4))
    optimizer = build_optimizer(model, settings)
    for step in range(5):
        for i, p in enumerate(model.parameters()):
            p.grad = golden[f"g.{i}.{step}"].clone()
        optimizer.step()
        for i, p in enumerate(model.parameters()):
            torch.testing.assert_close(p.detach(), golden[f"p.{i}.{step}"], rtol=3e-7, atol=1e-9)


def test_decay_of_adam_goes_into_the_gradient_and_that_of_adamw_does_not() -> None:
    """One step from rest: Adam normalises whatever the gradient is, AdamW shrinks the weight by lr * decay besides."""
    after = {}
    for kind, decay in (("adam", L2(weight=0.5)), ("adamw", 0.5)):
        model = Holder(weight=torch.full((2, 2), 2.0, dtype=torch.float64))
        optimizer = build_optimizer(model, Optimizer(kind=kind, lr=0.1, weight_decay=decay))
        model.weight.grad = torch.full((2, 2), 1.0, dtype=torch.float64)
        optimizer.step()
        after[kind] = model.weight[0, 0].item()
    assert after["adam"] == pytest.approx(2.0 - 0.1, abs=1e-7)
    assert after["adamw"] == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1, abs=1e-7)


KINDS: list[dict[str, Any]] = [
    {"kind": "adam"},
    {"kind": "adamw", "weight_decay": 0.5},
    {"kind": "sgd"},
    {"kind": "sgd", "momentum": 0.9, "weight_decay": 0.5},
    {"kind": "adamax"},
    {"kind": "adamax", "weight_decay": 0.5},
    {"kind": "adamax", "bias_correction": False, "weight_decay": L2(weight=0.5)},
    {"kind": "adamax", "bias_correction": False, "weight_decay": L2(weight=0.5), "joined": True},
    {"kind": "adamax", "joined": True},
]


@pytest.mark.parametrize("settings", KINDS, ids=str)
@pytest.mark.parametrize("steps", ["a", "xa", "axa", "aaxxa"])
def test_an_update_that_is_left_out_leaves_no_trace(settings: dict[str, Any], steps: str) -> None:
    """`a` is an update that is made, `x` one that is left out for its NaN and infinite gradients."""
    settings, joined = {k: v for k, v in settings.items() if k != "joined"}, "joined" in settings
    seen, spared = (Holder(weight=torch.tensor([[1.0, -2.0]]), bias=torch.tensor([0.5])) for _ in range(2))
    optimizers = [build_optimizer(model, Optimizer(lr=0.1, **settings)) for model in (seen, spared)]
    for optimizer in optimizers if joined else []:
        optimizer.joined = True  # type: ignore[attr-defined]  # it is Adamax
    for i, step in enumerate(steps):
        good = {"weight": torch.tensor([[0.3, -0.1 * i]]), "bias": torch.tensor([0.7])}
        bad = {"weight": torch.tensor([[math.nan, math.inf]]), "bias": torch.tensor([1e30])}
        for model, optimizer in zip((seen, spared), optimizers, strict=True):
            if step == "x" and model is spared:
                continue
            for name, p in model.named_parameters():
                p.grad = (good if step == "a" else bad)[name].clone()
            update(optimizer, torch.tensor(step == "a"))
    for name, p in seen.named_parameters():
        assert torch.equal(p, spared.get_parameter(name)), name
    memories = [optimizer_tensors(model, made) for model, made in zip((seen, spared), optimizers, strict=True)]
    assert memories[0].keys() == memories[1].keys()
    assert all(torch.equal(value, memories[1][name]) for name, value in memories[0].items())


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("late", [False, True])
def test_joined_gradients_give_the_same_adamax(corrected: bool, late: bool) -> None:
    """In any layout, also where a parameter takes part from the second step on only, and so counts fewer."""
    random = torch.Generator().manual_seed(0)
    shapes = {"weight": (4, 3, 3, 3), "one": (4, 3, 1, 1), "bias": (4,), "gain": ()}
    values = {name: torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}
    values["weight"] = values["weight"].contiguous(memory_format=torch.channels_last)
    settings = Optimizer(kind="adamax", lr=0.1, bias_correction=corrected, weight_decay=L2(weight=0.1))
    models = [Holder(**values) for _ in range(2)]
    optimizers: list[Any] = [build_optimizer(model, settings) for model in models]
    optimizers[1].joined = True
    for step in range(4):
        for name, value in values.items():
            gradient = torch.randn(value.shape, generator=random, dtype=torch.float64)
            for model in models:
                model.get_parameter(name).grad = None if late and step == 0 and name == "bias" else gradient.clone()
        for optimizer in optimizers:
            update(optimizer, torch.tensor(step != 2))
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-14)
    memories = [optimizer_tensors(*pair) for pair in zip(models, optimizers, strict=True)]
    for name, value in memories[0].items():
        torch.testing.assert_close(memories[1][name], value, rtol=1e-12, atol=1e-14)


def test_moments_follow_the_layout_of_their_parameters() -> None:
    weight = torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    model = Holder(weight=weight)
    model.weight.data = weight
    optimizer = build_optimizer(model, Optimizer(kind="adam", lr=0.1))
    plain = Holder(weight=weight.contiguous())
    reference = build_optimizer(plain, Optimizer(kind="adam", lr=0.1))
    for step in range(3):
        gradient = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(step))
        model.weight.grad, plain.weight.grad = gradient.clone(), gradient.clone()  # of another layout than the weight
        update(optimizer, torch.tensor(True))
        update(reference, torch.tensor(True))
        tensors = {name: value.contiguous() for name, value in optimizer_tensors(model, optimizer).items()}
        load_optimizer_tensors(model, optimizer, tensors, Path())  # as a checkpoint gives them back
    torch.testing.assert_close(model.weight, plain.weight)


@pytest.mark.parametrize("kind", ["adamw", "adamax", "sgd"])
def test_groups_have_rates_and_decays_of_their_own(kind: Any) -> None:
    """Each group moves as it does alone under an optimizer with its numbers."""
    torch.manual_seed(0)
    start = {name: torch.randn(3, 3, dtype=torch.float64) for name in ("weight", "bias", "other")}
    gradients = {name: torch.randn(3, 3, dtype=torch.float64) for name in start}
    settings = Optimizer(kind=kind, lr=0.1, weight_decay=0.2)
    groups = {
        "b*": ParameterGroup(kind="trained", lr=0.05, weight_decay=0.0),
        "other": ParameterGroup(kind="frozen"),
    }
    model = Holder(**start)
    freeze(model, groups)
    optimizer = build_optimizer(model, settings, groups)
    alone = {
        "weight": build_optimizer(weight := Holder(weight=start["weight"]), settings),
        "bias": build_optimizer(bias := Holder(bias=start["bias"]), Optimizer(kind=kind, lr=0.05)),
    }
    for factor in (1.0, 0.5):  # of a schedule
        for one, p in [(model, model.weight), (model, model.bias), (weight, weight.weight), (bias, bias.bias)]:
            p.grad = gradients["weight" if p is one._parameters.get("weight") else "bias"].clone()
        set_learning_rate(optimizer, 0.1 * factor)
        set_learning_rate(alone["weight"], 0.1 * factor)
        set_learning_rate(alone["bias"], 0.05 * factor)
        for each in (optimizer, *alone.values()):
            each.step()
    torch.testing.assert_close(model.weight, weight.weight, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(model.bias, bias.bias, rtol=1e-12, atol=1e-14)
    assert model.other.requires_grad is False and torch.equal(model.other, start["other"])


def test_groups_are_told_and_a_pattern_for_nothing_is_refused() -> None:
    model = Holder(weight=torch.zeros(2, 3), bias=torch.zeros(2))
    groups = {"bias": ParameterGroup(kind="trained", lr=1e-4, weight_decay=0.0), "*": ParameterGroup(kind="frozen")}
    assert group_lines(model, groups) == [
        "bias: trained, rate 0.0001, weight decay 0 (2 parameters)",
        "*: frozen (6 parameters)",
    ]
    with pytest.raises(HvdslError, match="`biass` is for no parameter"):
        freeze(model, {"biass": ParameterGroup(kind="frozen")})


def test_a_run_goes_on_when_a_part_is_frozen_or_set_free(tmp_path: Path) -> None:
    both, frozen = Holder(weight=torch.ones(2), bias=torch.ones(2)), {"bias": ParameterGroup(kind="frozen")}
    settings = Optimizer(kind="adamw", lr=0.1)
    optimizer = build_optimizer(both, settings)
    both.weight.grad, both.bias.grad = torch.ones(2), torch.ones(2)
    optimizer.step()
    memory = optimizer_tensors(both, optimizer)
    later = Holder(weight=both.weight, bias=both.bias)
    freeze(later, frozen)
    resumed = build_optimizer(later, settings, frozen)
    load_optimizer_tensors(later, resumed, memory, tmp_path)
    assert set(optimizer_tensors(later, resumed)) == {f"{key}/weight" for key in ("exp_avg", "exp_avg_sq", "step")}
    free = Holder(weight=later.weight, bias=later.bias)
    again = build_optimizer(free, settings)
    load_optimizer_tensors(free, again, optimizer_tensors(later, resumed), tmp_path)
    free.weight.grad, free.bias.grad = torch.ones(2), torch.ones(2)
    again.step()
    assert len(optimizer_tensors(free, again)) == 6
