"""Freed memory that stays with the process for what is allocated next."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's numbers of them, `malloc.h`
_NEVER, _LARGEST = -1, 1 << 25  # bytes: 32 MiB is the most that glibc takes
_VARIABLES = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_MMAP_MAX_",
    "GLIBC_TUNABLES",
)


def keep_freed_memory() -> bool:
    """Let the C library give nothing back to the system before the process ends; returns whether it does so.

    A training step frees and allocates the same hundreds of megabytes again and again. glibc returns what is free at
    the heap's end, and blocks of their own, at once; then every page of them is asked for anew, which costs a small
    model up to a fifth of its step. The most that the process holds stays about the same; it is held longer.

    There is no way back, so this is for processes that are ours alone. Nothing changes where the environment sets
    glibc's allocator, or where there is another one.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _VARIABLES):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    return bool(set_option(_MMAP_THRESHOLD, _LARGEST) and set_option(_TRIM_THRESHOLD, _NEVER))
