"""Drawing a code map: one full forward per position against the emitted position-by-position form. CPU seconds.

`python -m benchmarks.prior_sampling` prints a table for 16², 32² and 64² codes at batch 1 and 16, and the speed of a
1024³ float32 product on the same thread, to which times are to be scaled. A full-forward run would take hours: its
time is extrapolated from forwards on the first rows, by a quadratic fit in the number of positions (linear for
convolutions, quadratic for attention), summed over all positions; only the rows so far are fed, as public samplers do.
`--run` runs it in full at 16², batch 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hvdsl.compiler.check import check
from hvdsl.compiler.emit import emit_priors
from hvdsl.compiler.load import load
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.sampling import draw_codes, greedy

SPEC = Path(__file__).with_name("prior_sampling.hv")
TARGETS = {(16, 1): 0.09, (32, 1): 0.35, (32, 16): 1.5, (64, 1): 1.6}  # seconds where the unit is 90 GFLOP/s
FITTED = 0.02, 0.1, 0.2, 0.35  # shares of the rows that are timed


def build(side: int) -> nn.Module:
    model = check(SPEC, [f"side={side}"])
    prior: nn.Module = load(emit_priors(model), f"prior_sampling_{side}").PRIORS["z"]()
    initialize(prior, 0)
    return prior.eval()


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
    positions, seconds = [], []
    for share in FITTED:
        rows = max(1, round(share * side))
        codes = torch.zeros(batch, rows, side, dtype=torch.long)
        prior(codes)
        positions.append(rows * side)
        seconds.append(cpu_seconds(partial(prior, codes), 2))
        if seconds[-1] > 4:
            break
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run full-forward sampling at 16², batch 1, in full")
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--cached-only", action="store_true", help="leave the full-forward side out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    speed = unit()
    print(f"unit: {speed:.0f} GFLOP/s (1024³ float32 product, one thread)")
    print("codes  batch  position by position  µs per position  target, scaled  full forward  ratio")
    with torch.inference_mode():
        for side in options.sides:
            prior = build(side)
            for batch in options.batches:
                cached = cpu_seconds(partial(draw_codes, prior, greedy, batch=batch), 3 if side < 64 else 1)
                target = TARGETS.get((side, batch))
                wanted = f"{target * 90 / speed:8.3f} s" if target is not None else "         –"
                line = f"{side:3}²  {batch:5}  {cached:18.3f} s  {cached / side**2 * 1e6:15.0f}  {wanted:>14}"
                if not options.cached_only:
                    ran = options.run and (side, batch) == (16, 1)
                    naive = run_in_full(prior, side) if ran else full_forward(prior, side, batch)
                    line += f"  {naive:10.1f} s{' ' if ran else '~'}  {naive / cached:5.0f}"
                print(line, flush=True)
    if not options.cached_only:
        print("~ extrapolated from forwards on the first rows")


if __name__ == "__main__":
    main()
