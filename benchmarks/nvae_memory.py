"""Memory of one training step of a small NVAE (`nvae_step.hv`), with activation checkpointing per cell and without.

    python -m benchmarks.nvae_memory

The allocator's peak is the most bytes held at once beyond what is there before the step, from the profiler's record of
every allocation; with checkpointing it must be at most 45 % of that without. The gradients must be bitwise equal. The
largest resident set of a process that does such steps and nothing else stands beside it: that is another
quantity, to which fragmentation adds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import profile

from benchmarks.nvae_step import Subject, forward, penalty, subject
from hvdsl.runtime.training.step.recipes import checkpoint_groups

LIMIT = 0.45
MEGABYTE = 1e6


def prepared(checkpointing: bool) -> Subject:
    of = subject(level=1)
    if checkpointing:
        checkpoint_groups(of.model)
    return of


def gradients(of: Subject) -> dict[str, Tensor]:
    """Of the batch's loss and the penalties together."""
    loss, _ = forward(of)
    torch.autograd.backward(loss + penalty(of))
    return {name: p.grad for name, p in of.model.named_parameters() if p.grad is not None}


def allocator_peak(of: Subject) -> int:
    """Bytes held at once during forward, penalties and backward, beyond those held before."""
    with profile(profile_memory=True) as record:
        gradients(of)
    held = peak = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]  # set once the profile ended
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def resident(checkpointing: bool) -> float:
    """Megabytes of the largest resident set of a process of its own (Linux)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident, (checkpointing,))


def _resident(checkpointing: bool) -> float:
    torch.set_num_threads(1)
    of = prepared(checkpointing)
    for _ in range(2):
        gradients(of)
    # Not `ru_maxrss`, which a new process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MEGABYTE


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(description="Memory of one training step of a small NVAE.").parse_args(arguments)
    torch.set_num_threads(1)
    peaks = {}
    for checkpointing in (False, True):
        peaks[checkpointing] = allocator_peak(prepared(checkpointing)) / MEGABYTE
        told = "with" if checkpointing else "without"
        print(f"{told} checkpointing: allocator peak {peaks[checkpointing]:.0f} MB,", end=" ")
        print(f"process RSS {resident(checkpointing):.0f} MB")
    plain, again = gradients(prepared(False)), gradients(prepared(True))
    equal = plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)
    ratio = peaks[True] / peaks[False]
    print(f"ratio {ratio:.3f}, limit {LIMIT}; gradients bitwise equal: {'yes' if equal else 'no'}")
    return 0 if equal and ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
