"""Time the nearest-code lookup against a bare chunked product with argmin, and against vector-quantize-pytorch.

    python benchmarks/codebook_lookup.py [--vectors 65536] [--repeats 5] [--threads 1]

The three take turns in one run, so that what else the machine does meets all of them; the least time of each counts.
`vector-quantize-pytorch` (pip install vector-quantize-pytorch) is measured where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hvdsl.runtime.quantizers.clustering import BUDGET_BYTES, nearest_rows

DIM = 64
CODES = (512, 8192)


def bare(vectors: Tensor, codes: Tensor) -> Tensor:
    """Distances but for |v|², chunk by chunk of the same budget, and their argmin: what a product and argmin cost."""
    offsets, directions = codes.square().sum(1), codes.t() * -2
    rows = max(1, BUDGET_BYTES // (4 * len(codes)))
    chunks = [torch.addmm(offsets, chunk, directions).argmin(1) for chunk in torch.split(vectors, rows)]
    return torch.cat(chunks)


def library(codes: Tensor) -> Callable[[Tensor], Tensor] | None:
    """The library's lookup of the same codes, as it runs in evaluation; None where it is not installed."""
    if importlib.util.find_spec("vector_quantize_pytorch") is None:
        return None
    from vector_quantize_pytorch import VectorQuantize  # type: ignore[import-untyped]  # it has no types

    module = VectorQuantize(dim=DIM, codebook_size=len(codes)).eval()
    module._codebook.embed.copy_(codes[None])

    def look_up(vectors: Tensor) -> Tensor:
        indices: Tensor = module(vectors[None])[1][0]
        return indices

    return look_up


def measure(functions: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """Least seconds of each, the functions in turn."""
    best = {name: float("inf") for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="nearest-code lookup against a bare product and a library")
    parser.add_argument("--vectors", type=int, default=65_536)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(args.vectors, DIM, generator=generator)
    print(f"{args.vectors:,} vectors of {DIM}, {args.threads} thread(s), torch {torch.__version__}")
    for size in CODES:
        codes = torch.randn(size, DIM, generator=generator)
        functions: dict[str, Callable[[], Tensor]] = {
            "hvdsl": partial(nearest_rows, vectors, codes),
            "bare": partial(bare, vectors, codes),
        }
        other = library(codes)
        if other is not None:
            functions["vector-quantize-pytorch"] = partial(other, vectors)
        same = (nearest_rows(vectors, codes) == bare(vectors, codes)).double().mean().item()
        seconds = measure(functions, args.repeats)
        told = ", ".join(f"{name} {s:.3f} s ({s / seconds['bare']:.2f}x)" for name, s in seconds.items())
        print(f"K = {size:,}: {told}; {same:.2%} of the codes equal the bare lookup's")


if __name__ == "__main__":
    main()
