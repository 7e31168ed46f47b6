"""What the host learns of a step: numbers that travel from the device while it goes on with the next one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Readings(Generic[T]):
    """Tensors on their way to the host, each with a note of what it is, in the order of their steps.

    On an accelerator a tensor is copied into pinned memory and an event says when it is there, so that nobody waits
    before that; memory is taken up again once it was read. On the CPU a tensor is there at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._copies = device.type == "cuda"
        self._on_their_way: deque[tuple[T, Tensor, torch.cuda.Event | None]] = deque()
        self._free: list[Tensor] = []

    def push(self, note: T, values: Tensor) -> None:
        """Send `values`, a vector."""
        if not self._copies:
            self._on_their_way.append((note, values, None))
            return
        fitting = [i for i, buffer in enumerate(self._free) if buffer.shape == values.shape]
        if fitting:
            buffer = self._free.pop(fitting[0])
        else:
            buffer = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        buffer.copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own
        event.record()
        self._on_their_way.append((note, buffer, event))

    def take(self, outstanding: int = 0) -> Iterator[tuple[T, list[float]]]:
        """Those that have arrived, the oldest first; waits for as many as it takes to leave `outstanding`."""
        while self._on_their_way:
            note, values, event = self._on_their_way[0]
            if event is not None:
                if not event.query():  # type: ignore[no-untyped-call]  # torch's own
                    if len(self._on_their_way) <= outstanding:
                        return
                    event.synchronize()
                self._free.append(values)
            self._on_their_way.popleft()
            yield note, values.tolist()
