"""What lossy file formats take for the test images of a data set at a model's error, as a table of docs/results.md.

    python scripts/file_formats.py --data mnist.npz --psnr 31.8

The images are one mosaic, so that headers count for nothing and what lies beside an image may help with it. For each
format it is the smallest quality at which the mean PSNR of the images, in dB, is at least the one asked for.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS: dict[str, list[dict[str, Any]]] = {  # of rising quality
    "JPEG": [{"quality": quality} for quality in range(20, 96, 2)],
    "JPEG2000": [{"quality_mode": "rates", "quality_layers": [8 / rate]} for rate in np.arange(0.4, 3, 0.04)],
    "WEBP": [{"quality": quality, "method": 6} for quality in range(0, 101, 2)],
}


def mosaic(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(N, H, W) as one picture of `side` images a row; what fills no row is left out."""
    _, height, width = images.shape
    rows = len(images) // side
    grid = images[: rows * side].reshape(rows, side, height, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid.reshape(rows * height, side * width))


def mean_psnr(decoded: NDArray[np.uint8], page: NDArray[np.uint8], height: int, width: int) -> float:
    """Mean PSNR in dB over the images of two mosaics."""
    error = (decoded.astype(np.float64) - page) ** 2
    rows, side = page.shape[0] // height, page.shape[1] // width
    each = error.reshape(rows, height, side, width).mean((1, 3))
    return float((10 * np.log10(255**2 / np.maximum(each, 1e-9))).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="arrays with `test` images, (N, H, W) of uint8")
    parser.add_argument("--psnr", type=float, required=True, help="dB, the mean over images")
    args = parser.parse_args()
    images = np.load(args.data)["test"]
    images = images.reshape(-1, *images.shape[-2:]) if images.ndim == 4 else images
    page = mosaic(images, side=int(len(images) ** 0.5))
    for name, qualities in FORMATS.items():
        for options in qualities:
            file = io.BytesIO()
            Image.fromarray(page).save(file, name, **options)
            psnr = mean_psnr(np.asarray(Image.open(file).convert("L")), page, *images.shape[-2:])
            if psnr >= args.psnr:
                print(f"{name}: {8 * len(file.getvalue()) / page.size:.3f} bits/dim at {psnr:.2f} dB")
                break


if __name__ == "__main__":
    main()
