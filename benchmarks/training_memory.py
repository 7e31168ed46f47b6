"""Memory of training steps as it is predicted and as it is, and what a budget of bytes does to their time.

    python -m benchmarks.training_memory [SPEC …] [--batch N] [--precision P] [--share 0.35]

Measured is the allocator's peak over building a model and three steps of its trainer, from the profiler's record of
every allocation, with weights, moments and averages; predicted is what `hvdsl info SPEC --memory` says, which must be
within 15 % of it. With `--share`, steps whose activations may take that share of the plain step's are measured beside
plain ones, in pairs of processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import hvdsl
from hvdsl.compiler.pipeline import optimise
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.training.batches import PixelBatch
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.tasks import ImageTask
from hvdsl.workflows.plan import make_plan, recomputation, step_memory

LIMIT = 0.15
SPECS = ("vdvae_cifar10", "nvae_mnist", "vqvae2_256")
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Stepper:
    """A model in training: `step` makes one step, `predicted` and `activations` are the estimate's bytes."""

    module: nn.Module
    step: Callable[[], None]
    predicted: int
    activations: int


def stepper(spec: str | Source, batch: int, precision: str, budget: int | None = None) -> Stepper:
    """Prepare training as `hvdsl train` does, on random pixels."""
    overrides: dict[str, int | str] = {"train.batch": batch, "train.precision": precision}
    if budget is not None:
        overrides["train.checkpointing"] = f"budget({budget})"
    compiled = hvdsl.compile(spec, overrides=overrides)
    settings, train = compiled.model.settings, compiled.model.settings.train
    if train is None:
        raise hvdsl.Error(f"`{settings.model}` does not say how it is trained")
    module = compiled.build(0)
    initialize(module, 0)
    task = ImageTask(settings.objective)
    optimization = task.optimization(module, train, Clock(100, 10_000), World())
    again = recomputation(step_memory(optimise(compiled.model).graph, train), train, batch)
    if budget is not None:
        optimization.recompute(again.paths)
    module.train()
    most = 2 if settings.data.binarize != "none" else 2**settings.data.bits
    pixels = np.random.default_rng(0).integers(0, most, (batch, *settings.data.shape)).astype(np.uint8)

    def step() -> None:
        optimization.step(task.parts(module, PixelBatch(optimization.step_number, 0, pixels), train))

    return Stepper(module, step, make_plan(compiled.model, 1).bytes, again.memory.of(batch))


def peak(spec: str | Source, batch: int, precision: str, budget: int | None = None) -> int:
    """The most bytes held at once, from nothing to the end of the third step."""
    held = most = 0
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        prepared = stepper(spec, batch, precision, budget)
        for _ in range(3):
            prepared.step()
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def predicted(spec: str, batch: int, precision: str) -> bool:
    """Print the prediction beside the measurement; whether it is within the limit."""
    guess, measured = stepper(spec, batch, precision).predicted, peak(spec, batch, precision)
    apart = guess / measured - 1
    print(
        f"{spec:16} x{batch} {precision}: predicted {guess / MEGABYTE:,.0f} MB, measured {measured / MEGABYTE:,.0f}",
        end="",
    )
    print(f" ({apart:+.1%})", flush=True)
    return abs(apart) <= LIMIT


def budget(spec: str, batch: int, precision: str, share: float, pairs: int) -> None:
    """Print what a budget of a share of the plain step's activations costs in time."""
    plain = stepper(spec, batch, precision)
    within = stepper(spec, batch, precision, int(share * plain.activations))
    times: list[tuple[float, float]] = []
    for turn in range(pairs + 1):
        pair = []
        for subject in (plain, within):
            start = time.process_time()
            subject.step()
            pair.append(time.process_time() - start)
        if turn:  # the first makes the optimizer's state
            times.append((pair[0], pair[1]))
    ratio = statistics.median(b / a for a, b in times)
    print(
        f"{spec:16} x{batch} {precision}: {within.activations / plain.activations:.2f} of the activations (predicted)",
        end="",
    )
    print(f" at {ratio:.2f} of the time, {pairs} pairs", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", metavar="SPEC", nargs="*", default=SPECS)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--share", type=float, help="of the plain step's activations")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.share is not None:
        for spec in options.specs:
            budget(spec, options.batch, options.precision, options.share, options.pairs)
        return 0
    within = [predicted(spec, options.batch, options.precision) for spec in options.specs]
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
