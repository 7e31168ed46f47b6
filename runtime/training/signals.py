"""Ctrl-C and SIGTERM: finish the step, save, leave. A second Ctrl-C leaves at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

from hvdsl.runtime.ground.world import World


class StopRequest:
    """While entered, remembers SIGINT and SIGTERM instead of dying of them.

    Attributes:
        signal: The one that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python delivers signals nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @property
    def requested(self) -> bool:
        return self.signal is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


class StopVote:
    """Whether any of several processes was asked to stop, learned without waiting for the others.

    A vote begins with one step and is counted with the next, on a group of its own between processors, so that neither
    the accelerators nor their exchange of gradients have a part in it. All processes learn the same in the same step.
    """

    def __init__(self, world: World) -> None:
        self._group: Any = dist.new_group(backend="gloo") if world.size > 1 else None
        self._votes = torch.zeros(1)
        self._begun: Any = None

    def __call__(self, requested: bool) -> bool:
        """Cast this process's vote; returns what came of the vote before, or of this one where there is one process."""
        if self._group is None:
            return requested
        stopped = self.count()
        self._votes = torch.full((1,), float(requested))
        self._begun = dist.all_reduce(self._votes, group=self._group, async_op=True)
        return stopped

    def count(self) -> bool:
        """What came of the last vote, once all have cast theirs."""
        if self._begun is None:
            return False
        self._begun.wait()
        self._begun = None
        return bool(self._votes > 0)
