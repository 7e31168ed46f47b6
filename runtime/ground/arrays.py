"""Array files, whatever is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hvdsl.runtime.ground.disk import DiskError


def read_array(path: Path, mode: Literal["r", "c"] = "r") -> NDArray[Any]:
    """The array of an `.npy` file, mapped into memory: read-only, or with changes that are not written back.

    Raises:
        FileNotFoundError: There is no such file.
        DiskError: It cannot be read, or is no array file.
    """
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # of damaged headers NumPy raises almost anything: it parses them as Python
        reason = " ".join(str(error).split())[:120] or type(error).__name__  # it may hold the header
        raise DiskError(f"{path} cannot be read as an array file ({reason})", reason) from error
    if not isinstance(array, np.ndarray):
        raise DiskError(f"{path} is no array file but an archive of some", "an archive")
    return array
