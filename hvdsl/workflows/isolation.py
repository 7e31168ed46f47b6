"""What a call may not change (random state, threads, default type, warning filters), nor fail with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hvdsl.runtime.ground.memory import out_of_memory

SMALLER = "take a smaller `batch`"


@contextmanager
def no_global_effect(threads: int | None = None, remedy: str | None = SMALLER) -> Iterator[None]:
    """Run a block in which torch computes with so many `threads`, and leave the process as it was before.

    The state of the global generators (CPU and accelerator), the number of threads, the default floating type and
    Python's warning filters are put back, whatever happens inside.

    Args:
        remedy: What to do about too little memory, as the end of a sentence; None leaves that error as it is.

    Raises:
        OutOfMemoryError: More memory was asked for inside than there is, by whatever.
    """
    before, dtype = torch.get_num_threads(), torch.get_default_dtype()
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    kind = "cpu" if accelerator is None else accelerator.type
    devices = range(0 if accelerator is None else torch.accelerator.device_count())
    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices, device_type="cuda" if kind == "cpu" else kind),
    ):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        except (MemoryError, RuntimeError) as error:
            failure = None if remedy is None else out_of_memory(error, remedy)
            if failure is None:
                raise
            raise failure from error
        finally:
            torch.set_num_threads(before)
            torch.set_default_dtype(dtype)
