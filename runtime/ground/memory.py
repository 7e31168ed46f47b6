"""Running out of memory, told as what it is: nobody's bug, and something that options change."""

from __future__ import annotations

import re

import torch

from hvdsl.errors import HvdslError

_BYTES = re.compile(r"allocate (\d[\d.,]*) ?(bytes|[KMGT]i?B)", re.IGNORECASE)
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


class OutOfMemoryError(HvdslError):
    """More memory was asked for than there is."""


def out_of_memory(failure: BaseException, remedy: str = "take a smaller batch") -> OutOfMemoryError | None:
    """What to say of a failure, if it is that of memory; None if it is another.

    Args:
        remedy: What to do about it, as the end of a sentence.
    """
    text = str(failure)
    has_sign = isinstance(failure, RuntimeError | OSError) and any(sign in text.lower() for sign in _SIGNS)
    if not (has_sign or isinstance(failure, MemoryError | torch.OutOfMemoryError)):
        return None
    where = "on the accelerator" if isinstance(failure, torch.OutOfMemoryError) and "CUDA" in text else "of the machine"
    amount = _BYTES.search(text)
    wanted = f": {_size(amount[1], amount[2])} more were asked for" if amount else ""
    return OutOfMemoryError(f"out of memory {where}{wanted}; {remedy}")


def _size(number: str, unit: str) -> str:
    if unit.lower() != "bytes":
        return f"{number} {unit}"
    count = float(number.replace(",", ""))
    for name in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or name == "GiB":
            return f"{count:.4g} {name}"
        count /= 1024
    raise AssertionError("the loop ends with the largest unit")
