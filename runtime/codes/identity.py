"""What codes are of: the digests by which a store, and a prior, know their autoencoder and their data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hvdsl.runtime.training.batches import PixelSource
from hvdsl.runtime.training.weights import model_tensors

PROBES = 64
"""Images whose pixels enter the digest of a data set, evenly spread over it."""


def autoencoder_digest(model: nn.Module, structure: str) -> str:
    """SHA-256 of a model's tensors (names, types, shapes, bytes) and of the text that says what is computed of them."""
    digest = hashlib.sha256(structure.encode())
    for name, tensor in sorted(model_tensors(model).items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class LabelledImages(PixelSource, Protocol):
    """Images that may have classes."""

    def labels(self, indices: Sequence[int]) -> NDArray[np.int64] | None: ...


def data_digest(images: LabelledImages, *, labelled: bool = False) -> str:
    """SHA-256 of the number of images and of the pixels of up to 64 of them: cheap, and blind to where files lie.

    Args:
        labelled: The classes of all images are part of the data.
    """
    count = len(images)
    digest = hashlib.sha256(str(count).encode())
    for index in np.unique(np.linspace(0, max(0, count - 1), min(PROBES, count)).astype(int)).tolist():
        pixels = images.batch([index], 0)
        if pixels.dtype == np.uint8:  # digests are of 16 bits, however few there are
            pixels = pixels.astype(np.uint16)
        digest.update(f"\0{index} {pixels.shape}\0".encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
    labels = images.labels(range(count)) if labelled else None
    if labels is not None:
        digest.update(b"\0labels\0" + labels.tobytes())
    return digest.hexdigest()
