"""Drawing a code map: one full forward per position against the emitted position-by-position form. CPU seconds.

`python -m benchmarks.prior_sampling` prints a table for 16², 32² and 64² codes at batch 1 and 16, and the speed of a
1024³ float32 product on the same thread, to which times are to be scaled. Full-forward sampling feeds only the rows so
far, as public samplers do. It is run in full at 16², batch 1; elsewhere it would take up to hours, and is extrapolated:
forwards on the first 1, 2, 4, … rows are timed, up to one of `SLOWEST` seconds, and a quadratic in the number of
positions (linear for convolutions, quadratic for attention) is fitted and summed over all positions. Read these as
±35 %, and as the order of magnitude at 64², batch 16, where only small maps are timed. The floor is what the tensor
operations of one position in the middle of the map take, each repeated alone with everything it reads in the nearest
cache: what lies between it and the time per position is work per row, set-up, Python, and memory. `--quick` takes a few
seconds: 16² and 32² at batch 1, all extrapolated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from hvdsl.compiler.emit import emit_priors, emit_steps
from hvdsl.compiler.load import load_module
from hvdsl.compiler.pipeline import check
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import draw_codes, greedy

SPEC = Path(__file__).with_name("prior_sampling.hv")
TARGETS = {(16, 1): 0.09, (32, 1): 0.35, (32, 16): 1.5, (64, 1): 1.6}  # seconds where the unit is 90 GFLOP/s
RUN_IN_FULL = {(16, 1)}  # side, batch
SLOWEST = 2.0  # seconds of one forward, where timing stops


def build(side: int) -> StepwisePrior:
    model = check(SPEC, [f"side={side}"])
    prior: nn.Module = load_module(emit_priors(model), f"prior_sampling_{side}").PRIORS["z"]()
    initialize(prior, 0)
    return StepwisePrior(prior.eval(), load_module(emit_steps(model), f"prior_sampling_{side}_steps").STEPS["z"])


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """The best of some runs: the machine may do other work."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def unit() -> float:
    """GFLOP/s of a 1024³ float32 product."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return 2 * 1024**3 / cpu_seconds(lambda: a @ b, 5) / 1e9


def full_forward(prior: nn.Module, side: int, batch: int) -> float:
    """Seconds of a whole map, extrapolated."""
    positions: list[int] = []
    seconds: list[float] = []
    rows = 1
    while rows <= side and max(seconds, default=0.0) < SLOWEST:
        codes = torch.zeros(batch, rows, side, dtype=torch.long)
        positions.append(rows * side)
        seconds.append(cpu_seconds(partial(prior, codes), 2))
        rows *= 2
    fit = np.polyfit(positions, seconds, min(2, len(positions) - 1))
    return float(sum(side * np.polyval(fit, rows * side) for rows in range(1, side + 1)))


def run_in_full(prior: nn.Module, side: int) -> float:
    """The public way, at batch 1."""
    codes = torch.zeros(1, side, side, dtype=torch.long)
    start = time.process_time()
    for i in range(side):
        for j in range(side):
            codes[:, i, j] = prior(codes[:, : i + 1])[:, :, i, j].argmax(1)
    return time.process_time() - start


class Operations(TorchDispatchMode):
    """Keeps every tensor operation, to be done again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], object]] = []

    def __torch_dispatch__(
        self,
        function: OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        self.calls.append(partial(function, *args, **(kwargs or {})))
        return function(*args, **(kwargs or {}))


def floor(prior: StepwisePrior, side: int, batch: int) -> tuple[int, float]:
    """The number of tensor operations of a position, and the seconds they take alone."""
    operations = Operations()
    start, stop = (side // 2, 1), (side // 2, 2)

    def choose(logits: Tensor, i: int, j: int) -> Tensor:
        if (i, j) == start:
            operations.__enter__()
        elif (i, j) == stop:
            operations.__exit__(None, None, None)
        return greedy(logits, i, j)

    draw_codes(prior, choose, batch=batch)
    return len(operations.calls), sum(alone(call) for call in operations.calls)


def alone(call: Callable[[], object], count: int = 100) -> float:
    def repeated() -> None:
        for _ in range(count):
            call()

    return cpu_seconds(repeated, 5) / count


def compare(side: int, batch: int, speed: float, options: argparse.Namespace) -> str:
    """One line of the table."""
    prior = build(side)
    cached = cpu_seconds(partial(draw_codes, prior, greedy, batch=batch), 5 if side * batch < 256 else 1)
    target = TARGETS.get((side, batch))
    wanted = f"{target * 90 / speed:8.3f} s" if target is not None else "–"
    count, least = floor(prior, side, batch)
    per_position = f"{cached / side**2 * 1e6:15.0f}  {f'{least * 1e6:.0f} ({count})':>10}"
    line = f"{side:3}²  {batch:5}  {cached:18.3f} s  {per_position}  {wanted:>14}"
    if options.cached_only:
        return line
    in_full = (side, batch) in RUN_IN_FULL and not options.quick
    whole = run_in_full(prior.module, side) if in_full else full_forward(prior.module, side, batch)
    return f"{line}  {whole:10.1f} s{' ' if in_full else '~'}  {whole / cached:5.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="16² and 32² at batch 1 only, nothing run in full")
    parser.add_argument("--sides", type=int, nargs="+", default=None)
    parser.add_argument("--batches", type=int, nargs="+", default=None)
    parser.add_argument("--cached-only", action="store_true", help="leave the full-forward side out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    speed = unit()
    print(f"unit: {speed:.0f} GFLOP/s (1024³ float32 product, one thread)")
    print("codes  batch  position by position  µs per position  floor (of)  target, scaled  full forward  ratio")
    with torch.inference_mode():
        for side in options.sides or ([16, 32] if options.quick else [16, 32, 64]):
            for batch in options.batches or ([1] if options.quick else [1, 16]):
                print(compare(side, batch, speed, options), flush=True)
    print("floor (of): µs of a position's tensor operations, each repeated alone, and their number")
    if not options.cached_only:
        print("~ extrapolated from forwards on the first rows")


if __name__ == "__main__":
    main()
