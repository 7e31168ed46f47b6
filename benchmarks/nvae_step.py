"""CPU seconds of one training step of a small NVAE (`nvae_step.hv`): forward, penalties, backward, optimizer.

    python -m benchmarks.nvae_step [--repeats 8] [--level 1] [--give-back]

One torch thread, process CPU time, the best of the repeats, batch 4 of 32x32 RGB in float32. Beside it stands the unit
that makes machines comparable: the speed of a 1024x1024 matrix product on that thread, best of the same repeats. The
aim is 0.60 s where that unit is 90 GFLOP/s. Below them stands what the step's convolutions take alone: forward and
backward of each in turn, on maps of the same sizes and layouts, with nothing before, between or after them. The process
keeps freed memory as `hvdsl train` does; with `--give-back` it leaves that to the C library.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hvdsl
from hvdsl.compiler.settings import ModelSettings, Train
from hvdsl.runtime.ground.heap import keep_freed_memory
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.layers import Conv2d
from hvdsl.runtime.layers.convolution import depthwise_conv2d
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.objective.penalties import Penalties
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimizer import build_optimizer, set_learning_rate

SPEC = Path(__file__).with_name("nvae_step.hv")
AIM, UNIT = 0.60, 90.0  # seconds, GFLOP/s
SIZE = 1024


@dataclass(frozen=True, slots=True)
class Subject:
    """The model in training with its objective, and a batch."""

    model: nn.Module
    settings: ModelSettings
    train: Train
    objective: Objective
    penalties: Penalties
    part: ModelBatch


def subject(level: int) -> Subject:
    """Build everything from fixed seeds."""
    compiled = hvdsl.compile(SPEC, level=level)
    model, settings = compiled.build().train(), compiled.model.settings
    if settings.train is None:
        raise RuntimeError(f"{SPEC} has no `train` section")
    clock = Clock.of(settings.train, per_epoch=1000)
    objective = Objective(settings.objective, clock.steps)
    penalties = Penalties(model, settings.objective, clock.steps)
    batch, vae = settings.train.batch, as_vae(model)
    pixels = torch.randint(256, (batch, *settings.data.shape), generator=torch.Generator().manual_seed(0)).float()
    part = ModelBatch(vae.input(pixels), vae.target(pixels), SampleNoise(0, range(batch)))
    return Subject(model, settings, settings.train, objective, penalties, part)


def forward(of: Subject) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss of the batch, without penalties."""
    return of.objective(of.model, of.part, 0)


def penalty(of: Subject) -> Tensor:
    """The penalties, weighted."""
    found, _ = of.penalties(0)
    if found is None:
        raise RuntimeError(f"{SPEC} has no penalties")
    return found


def one_step(of: Subject, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """CPU seconds of each part of a step."""
    times = [time.process_time()]
    loss, _ = forward(of)
    times.append(time.process_time())
    penalised = loss + penalty(of)
    times.append(time.process_time())
    torch.autograd.backward(penalised)
    times.append(time.process_time())
    optimizer.step()
    times.append(time.process_time())
    optimizer.zero_grad()
    names = ("forward", "penalties", "backward", "optimizer")
    return {name: end - start for name, start, end in zip(names, times[:-1], times[1:], strict=True)}


def convolutions(of: Subject) -> list[tuple[Conv2d, Tensor]]:
    """Every convolution of a forward pass, with a map like the one that it was given."""
    met: list[tuple[Conv2d, Tensor]] = []

    def meet(layer: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        if isinstance(layer, Conv2d):
            met.append((layer, torch.randn_like(inputs[0])))

    hooks = [module.register_forward_hook(meet) for module in of.model.modules() if isinstance(module, Conv2d)]
    with torch.no_grad():
        forward(of)
    for hook in hooks:
        hook.remove()
    return met


def convolutions_alone(met: list[tuple[Conv2d, Tensor]]) -> float:
    """CPU seconds of their forward and backward passes: torch's own, but for the depthwise weight gradient."""
    seconds = 0.0
    for layer, x in met:
        x.requires_grad_()
        weight = torch.randn_like(layer.weight).requires_grad_()
        inside = (layer.kernel[0] // 2, layer.kernel[1] // 2)
        began = time.process_time()
        if layer.groups > 1:
            y = depthwise_conv2d(x, weight, None, layer.stride, inside, layer.dilation)
        else:
            y = F.conv2d(x, weight, None, layer.stride, inside, layer.dilation)
        torch.autograd.grad(y, (x, weight), y.detach())
        seconds += time.process_time() - began
    return seconds


def product_speed() -> float:
    """GFLOP/s of one matrix product."""
    a, b = torch.ones(SIZE, SIZE), torch.ones(SIZE, SIZE)
    began = time.process_time()
    torch.mm(a, b)
    return 2 * SIZE**3 / (time.process_time() - began) / 1e9


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="CPU seconds of one training step of a small NVAE.")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--give-back", action="store_true")
    args = parser.parse_args(arguments)
    if not args.give_back:
        keep_freed_memory()
    torch.set_num_threads(1)
    measured = subject(args.level)
    optimizer = build_optimizer(measured.model, measured.train.optimizer)
    set_learning_rate(optimizer, 1e-6)  # the early steps of the warm-up: the work is the same at any rate
    one_step(measured, optimizer)  # the first 40 power iterations, and the optimizer's moments
    steps, unit, alone, met = [], 0.0, float("inf"), convolutions(measured)
    for _ in range(args.repeats):
        steps.append(one_step(measured, optimizer))
        unit = max(unit, product_speed())
        alone = min(alone, convolutions_alone(met))
    best = min(steps, key=lambda step: sum(step.values()))
    total = sum(best.values())
    parameters = sum(p.numel() for p in measured.model.parameters())
    print(f"{parameters:,} parameters, {len(measured.penalties.spectral or ())} convolutions, -O{args.level}")
    print("  ".join(f"{name} {seconds:.3f}" for name, seconds in best.items()) + f"  total {total:.3f} CPU seconds")
    print(
        f"{SIZE}³ float32 product: {unit:.0f} GFLOP/s; at {UNIT:.0f} that is {total * unit / UNIT:.3f} s, aim {AIM:.2f}"
    )
    print(f"the same convolutions alone: {alone:.3f} CPU seconds, {alone / total:.0%} of the step")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
