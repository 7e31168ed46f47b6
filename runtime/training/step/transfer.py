"""Between host and device, where nobody waits: a step's input on its way there, its numbers on their way back."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvdsl.runtime.ground.noise import JointNoise

P = TypeVar("P")


def on_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor of its type on the device; unsigned 16-bit values as int32.

    To an accelerator it travels from pinned memory, and nobody waits for it.
    """
    unsigned = values.dtype == np.uint16
    raw = torch.from_numpy(np.ascontiguousarray(values).view(np.int16) if unsigned else values)
    if device.type == "cuda":
        raw = raw.pin_memory()
    raw = raw.to(device, non_blocking=True)
    return raw.to(torch.int32).bitwise_and(0xFFFF) if unsigned else raw


def pixels_on(pixels: NDArray[Any], like: Tensor) -> Tensor:
    """Pixel values `(N, C, H, W)` as floats of the type of `like` and where it is; channels last on accelerators."""
    if like.device.type == "cpu":
        return torch.from_numpy(pixels.astype(np.float32)).to(like)
    values = on_device(pixels, like.device).to(like.dtype)
    return values.contiguous(memory_format=torch.channels_last)


class Ahead:
    """Prepares a step's input on a stream of its own.

    The host hands a step to an accelerator while the one before still runs there; on its own stream, the next input's
    copies, maps and noise run beside that one instead of after it.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own

    def __call__(self, prepare: Callable[[], Sequence[P]]) -> Sequence[P]:
        """What `prepare` returns, for use on the current stream."""
        if self._stream is None:
            return prepare()
        with torch.cuda.stream(self._stream):
            parts = prepare()
        current = torch.cuda.current_stream()
        current.wait_stream(self._stream)
        for tensor in tensors_of(parts):
            tensor.record_stream(current)
        return parts


def tensors_of(value: object) -> Iterator[Tensor]:
    """Every tensor in what a step takes: in dataclasses, sequences, mappings and drawn noise."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, JointNoise):
        yield from value.draw().values()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors_of(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_of(getattr(value, field.name))


def tensors_copied(value: Any) -> Any:
    """The same again with a copy of every tensor, in the order of `tensors_of`."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, JointNoise):
        copied = copy.copy(value)
        copied.hold({kind: numbers.clone() for kind, numbers in value.draw().items()})
        return copied
    if isinstance(value, Mapping):
        return {name: tensors_copied(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [tensors_copied(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: tensors_copied(getattr(value, field.name)) for field in fields(value)})
    return value


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
