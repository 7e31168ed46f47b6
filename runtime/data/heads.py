"""The sizes of images that are packed in larger files, by their heads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data.dataset import Images
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.picture import UnreadableError, read_header
from hvdsl.runtime.data.preprocess import Preprocess

_CHECKED, _THREADS = 20_000, 8


def check_sizes(images: Images, settings: Data, size: Callable[[int], tuple[int, int] | None]) -> None:
    """Refuse, by the heads of up to 20,000 images evenly spread, what cannot fit the spec.

    Args:
        size: Height and width of an image by its number; None where its head does not say.

    Raises:
        DataError: it names the first image.
    """
    preprocess = Preprocess(settings, training=False)
    indices = np.unique(np.linspace(0, len(images) - 1, min(_CHECKED, len(images))).astype(int)).tolist()
    with ThreadPoolExecutor(_THREADS) as pool:
        for index, stored in zip(indices, pool.map(size, indices), strict=True):
            if stored is not None and preprocess.size_of(*stored) != settings.shape[1:]:
                wanted = "x".join(map(str, settings.shape[1:]))
                raise DataError(
                    f"{images.name(index)} is {stored[0]}x{stored[1]}, the spec's data section says {wanted}: "
                    f"change `shape`, or set `resize = {wanted}` (or `crop`, `pad`) in `data`"
                )


def size_of_head(head: bytes) -> tuple[int, int] | None:
    """Return the height and width of a picture by the first bytes of its file; None where they do not say."""
    try:
        header = read_header(head)
    except UnreadableError:
        return None
    return header.height, header.width
