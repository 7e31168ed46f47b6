"""The memory of training steps that is predicted is what they take."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import hvdsl
from benchmarks.training_memory import peak, stepper
from hvdsl.compiler.analysis.memory import StepMemory
from hvdsl.compiler.pipeline import optimise
from hvdsl.grammar.source import Source
from hvdsl.runtime.training.step.recipes import checkpoint_groups
from tests.cli.conftest import TINY
from tests.compiler.analysis.test_cost import bottleneck_stack

SPEC = Source("deep.hv", TINY.replace("-> layer -> conv", "-> layer * 12 -> conv"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_whole_run_takes_what_is_predicted(precision: str) -> None:
    assert stepper(SPEC, 64, precision).predicted == pytest.approx(peak(SPEC, 64, precision), rel=0.15)


def test_within_a_budget_a_step_takes_less_and_gives_the_same() -> None:
    plain, within = (stepper(SPEC, 64, "fp32", budget) for budget in (None, 5 * 2**20))
    assert within.activations <= 5 * 2**20 < plain.activations

    def measured(step: object) -> int:
        held = most = 0
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            assert callable(step)
            step()
        for event in record.profiler.kineto_results.events():
            held += event.nbytes() if event.name() == "[memory]" else 0
            most = max(most, held)
        return most

    for prepared in (plain, within):
        prepared.step()
    assert measured(within.step) < 0.75 * measured(plain.step)
    for a, b in zip(plain.module.parameters(), within.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_run_again_is_as_little_work_as_the_budget_leaves() -> None:
    steps = StepMemory(bottleneck_stack(32, 16, 12))
    whole, least = steps.memory().of(4), steps.memory(steps.segments).of(4)
    work = []
    for budget in (whole, (whole + least) // 2, least):
        again = steps.within(budget, 4)
        assert again is not None
        assert again.memory.of(4) <= budget
        work.append(len(again.paths))
    assert work[0] == 0 < work[1] < work[2] <= 12
    assert steps.within(least - 1, 4) is None


def test_recipes_that_can_be_run_again_are_those_of_the_module() -> None:
    for spec in ("vdvae_digits", "vqvae2_photos"):
        compiled = hvdsl.compile(spec)
        module = compiled.build(0)
        names = StepMemory(optimise(compiled.model).graph).segments
        assert checkpoint_groups(module, names) == len(names) == checkpoint_groups(compiled.build(0))
    with pytest.raises(ValueError, match="recipe"):
        checkpoint_groups(module, ["encoder"])
