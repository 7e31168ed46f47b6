"""A digest of data: whether a run goes on with the images that it began with."""

from __future__ import annotations

import hashlib

import numpy as np

from hvdsl.runtime.data.arrays import Arrays
from hvdsl.runtime.data.dataset import Dataset, Images, Subset
from hvdsl.runtime.data.fields import ImageField
from hvdsl.runtime.data.folder import ImageFiles

PROBES = 64
"""Images, evenly spread, whose pixels are part of a digest."""
WHOLE = 1 << 30
"""Bytes of an array up to which all of it is."""

BLIND_SPOT = f"other pixels in images that are none of the {PROBES} compared, where names and sizes are the same"
"""What a digest of files cannot see."""


def dataset_digest(dataset: Dataset) -> str:
    """SHA-256 of the stored images of a part, and of the conditions beside them; where they lie has no part in it.

    It covers their number, the names and sizes of files, classes and numbers beside all of them, and the pixels of 64
    images that are evenly spread and of the second images of these; of an array of up to a GiB all of it. What
    settings make of the images is not in it, nor which of them are held out: those are compared as settings.
    """
    images: Images = dataset.images.images if isinstance(dataset.images, Subset) else dataset.images
    digest = hashlib.sha256(f"{len(images)}".encode())
    if isinstance(images, ImageFiles):
        for record in images.records:
            size = record.header and (record.header.height, record.header.width, record.header.channels)
            digest.update(f"\0{record.name} {size}".encode(errors="surrogateescape"))
    stored = images.stored if isinstance(images, Arrays) else None
    if stored is not None and stored.nbytes <= WHOLE:
        digest.update(f"\0{stored.dtype.str} {stored.shape}\0".encode())
        digest.update(np.ascontiguousarray(stored).data)
    for name, field in sorted(dataset.fields.items()):
        digest.update(f"\0{name}".encode())
        for index in range(len(images)):
            digest.update(b"\0" + field.stamp(index, images.name(index)))
    for index in np.unique(np.linspace(0, max(0, len(images) - 1), min(PROBES, len(images))).astype(int)).tolist():
        values = images.image(index, 0).values
        digest.update(f"\0{index} {values.dtype.str} {values.shape} {images.label(index)}\0".encode())
        digest.update(np.ascontiguousarray(values).data)
        for field in (field for field in dataset.fields.values() if isinstance(field, ImageField)):
            second = field.value(index, images.name(index))
            digest.update(b"\0" if second is None else np.ascontiguousarray(second).data)
    return digest.hexdigest()
