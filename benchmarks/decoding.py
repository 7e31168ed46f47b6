"""Images per second that a data set decodes, beside Pillow alone on the same threads.

    python benchmarks/decoding.py [--images 300] [--size 256] [--threads 2]

Writes JPEG files of noise to a temporary folder, reads all of them several times in both ways in turn, prints the best.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data import open_splits

TURNS, SIDE = 5, 64


def write(folder: Path, count: int, size: int) -> list[Path]:
    """Write `count` JPEG files whose content is about as smooth as a photograph's."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:05}.jpg" for i in range(count)]
    for path in paths:
        noise = Pillow.fromarray(rng.integers(0, 256, (size // 12, size // 12, 3), dtype=np.uint8))
        noise.resize((size, size)).save(path, quality=90)
    return paths


def alone(path: Path) -> Any:
    """What any loader has to do with a square picture."""
    with Pillow.open(path) as picture:
        small = picture.convert("RGB").resize((SIDE, SIDE), Pillow.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def rate(pool: ThreadPoolExecutor, work: Callable[[Any], Any], items: list[Any]) -> float:
    """Items per second."""
    began = time.perf_counter()
    list(pool.map(work, items))
    return len(items) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = write(Path(name), args.images, args.size)
        train = open_splits(
            Data(name="images", shape=(3, SIDE, SIDE), resize=(SIDE, SIDE), holdout=1), Path(name)
        ).train
        indices = list(range(len(train)))
        with ThreadPoolExecutor(args.threads) as pool:
            turns = [
                (rate(pool, alone, list(paths)), rate(pool, lambda i: train.batch([i]), indices)) for _ in range(TURNS)
            ]
    pillow, ours = (max(column) for column in zip(*turns, strict=True))
    print(
        f"{args.threads} threads: Pillow alone {pillow:,.0f} images/s, the data set {ours:,.0f} ({ours / pillow:.0%})"
    )


if __name__ == "__main__":
    main()
