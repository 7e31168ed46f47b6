"""What generality costs: a training step of the emitted module against a plain hand-written one.

    python -m benchmarks.emitted_vs_handwritten [--repeats 24] [--threads 1]

Both run side by side in one process, forward and backward, on the same recorded noise, in process CPU time. Each round
times every one of them once, every other round in reverse order, and a ratio is that of one round's two times: other
work on the machine, which comes and goes in seconds, disturbs neighbours alike. The ratio that counts is the median of
the rounds', shown with its quartiles and with the ratio of the best times. The emitted module at -O0 must cost at
most 1.05 times the hand-written one. -O1 is shown beside, with the bytes that the backward passes keep.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import hvdsl
from benchmarks.handwritten_vdvae import Config, Vdvae
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import RecordedNoise
from hvdsl.runtime.latents import Traversal

LIMIT = 1.05
BATCH = 4
CONFIG = Config(
    image_size=32,
    width=96,
    zdim=16,
    mixtures=10,
    encoder="32x3,32d2,16x3,16d2,8x3,8d8,1x2",
    decoder="1x1,8m1,8x3,16m8,16x4,32m16,32x5",
)
SPEC = """hv 1
model vdvae_benchmark
use "vdvae_cells.hv"
let width = 96
let zdim = 16
default conv { bias_init = zeros }
data cifar10 { shape = 3x32x32, bits = 8, input = v, target = (v - 127.5) / 127.5 }
encoder {
  32: conv(3x3, width) -> block * 3 -> tap -> block -> avg_pool(2)
  16: block * 3 -> tap -> block -> avg_pool(2)
   8: block * 3 -> tap -> block -> avg_pool(8)
   1: block * 2 -> tap
}
decoder {
   1: learned(zeros, width) -> layer * 1
   8: nearest(8) -> add(learned(zeros)) -> layer * 4
  16: nearest(2) -> add(learned(zeros)) -> layer * 5
  32: nearest(2) -> add(learned(zeros)) -> layer * 6 -> affine -> conv(1x1, logits)
}
likelihood discretized_logistic_mixture(10, bins = published)
objective { unit = nats_per_dim }
"""


def emitted(level: int, noise: list[Tensor], x: Tensor, target: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A module of the spec, and its loss in nats per dimension."""
    model = hvdsl.build(Source("benchmark.hv", SPEC), level=level)

    def loss() -> Tensor:
        latents = Traversal(model.LATENTS, BATCH, RecordedNoise(BATCH, noise))
        params = model(x, latents)
        return (latents.rates.sum(0) - model.likelihood.log_prob(params, target)).mean() / target[0].numel()

    return model, loss


def handwritten(noise: list[Tensor], x: Tensor, target: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    model = Vdvae(CONFIG)
    return model, lambda: model.loss(x, target, noise)


def kept_bytes(loss: Callable[[], Tensor]) -> int:
    """Bytes of the distinct storages that the backward pass of one step keeps, parameters included."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss()
    del value
    return sum(storages.values())


def step(model: nn.Module, loss: Callable[[], Tensor]) -> float:
    """Process CPU seconds of one forward and backward."""
    model.zero_grad()
    start = time.process_time()
    loss().backward()
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x, target = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 256, (BATCH, 3, 32, 32)) / 127.5 - 1
    noise = [torch.randn(BATCH, *shape) for shape in Vdvae(CONFIG).noise_shapes()]
    runs = {"hand-written": handwritten(noise, x, target)}
    runs |= {f"emitted -O{level}": emitted(level, noise, x, target) for level in (0, 1)}
    for model, loss in runs.values():
        step(model, loss)
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    gc.disable()  # a collection would be charged to whoever runs when it comes
    for _ in range(args.repeats):
        for name in order:
            times[name].append(step(*runs[name]))
        order.reverse()
    gc.enable()
    for name, (_, loss) in runs.items():
        own, base = times[name], times["hand-written"]
        low, middle, high = quartiles(own, base)
        print(
            f"{name:14} best {1000 * min(own):7.1f} ms  median {1000 * statistics.median(own):7.1f} ms"
            f"  ratio {middle:5.3f} [{low:5.3f}, {high:5.3f}], of the best {min(own) / min(base):5.3f}"
            f"  kept {kept_bytes(loss) / 1e6:6.1f} MB"
        )
    return 0 if quartiles(times["emitted -O0"], times["hand-written"])[1] <= LIMIT else 1


def quartiles(times: Sequence[float], base: Sequence[float]) -> tuple[float, float, float]:
    """Of the ratios of times that were measured in one round."""
    low, middle, high = statistics.quantiles((t / b for t, b in zip(times, base, strict=True)), n=4)
    return low, middle, high


if __name__ == "__main__":
    sys.exit(main())
