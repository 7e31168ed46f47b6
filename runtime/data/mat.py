"""OMNIGLOT as Burda, Grosse & Salakhutdinov (2016) cut it: a MATLAB file of 28x28 characters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.data.arrays import Arrays
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.extras import optional

_KEYS = {"train": "data", "test": "testdata"}


def read_mat(path: Path) -> dict[str, Arrays]:
    """Return the training and test images of `chardata.mat`: (784, N) values from 0 to 1, each image column by column.

    Raises:
        DataError: not readable, not such a file, or scipy is not installed.
    """
    try:
        stored = optional("scipy.io", "mat", f"reading {path}").loadmat(path, variable_names=list(_KEYS.values()))
    except DataError:
        raise
    except Exception as error:  # of damaged files scipy raises almost anything
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}") from error
    return {split: Arrays(f"{path}[{key}]", _images(path, key, stored.get(key))) for split, key in _KEYS.items()}


def _images(path: Path, key: str, values: object) -> NDArray[np.uint8]:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fu":
        raise DataError(
            f"{path} has no array `{key}` of characters: of MATLAB files only OMNIGLOT's `chardata.mat` is read, which "
            "holds `data` and `testdata`; save other arrays as .npz"
        )
    side = round(values.shape[0] ** 0.5)
    if side * side != values.shape[0] or not 0 <= float(values.min()) <= float(values.max()) <= 1:
        raise DataError(f"`{key}` in {path} is {values.shape}: each column is a square image of values from 0 to 1")
    images: NDArray[np.uint8] = np.rint(values.T * 255).astype(np.uint8).reshape(-1, side, side)
    return images.transpose(0, 2, 1)
