"""Ctrl-C, SIGTERM and SIGHUP: finish the step, save, leave. A second Ctrl-C leaves at once. SIGUSR1: save, go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

from hvdsl.runtime.ground.world import World

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING: signal.Signals | None = getattr(signal, "SIGUSR1", None)


class Stopped(KeyboardInterrupt):  # so that nothing takes it for a failure of what it interrupts
    """A signal to stop came where nothing is lost by leaving at once."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """While entered, SIGTERM and SIGHUP raise `Stopped` wherever the main thread is: around training, not in it.

    SIGUSR1 is passed over, since there is nothing to save. Ctrl-C is Python's own.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    def go_on(number: int, frame: FrameType | None) -> None:
        pass

    handlers = {number: leave for number in STOPPING if number != signal.SIGINT}
    handlers |= {} if SAVING is None else {SAVING: go_on}
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class StopRequest:
    """While entered, remembers signals instead of dying of them.

    A signal that the process ignores, as SIGHUP under `nohup`, stays ignored.

    Attributes:
        signal: The one to stop by that came, or None.
        save: Whether a checkpoint is asked for.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.save = False
        self._at_once = False
        self._before: dict[signal.Signals, Any] = {}

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, a signal to stop also raises `Stopped`: around what is done anew when training goes on."""
        if self.signal is not None:
            raise Stopped(self.signal)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python delivers signals nowhere else
            for number in (*STOPPING, *(() if SAVING is None else (SAVING,))):
                # `nohup` has hang-ups ignored, and they stay so. Shells ignore interrupts for what they start behind
                # them, but whoever sends one to training means it.
                if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == SAVING:
            self.save = True
            return
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if self._at_once:
            self._at_once = False
            raise Stopped(number)


class StopVote:
    """What any of several processes was asked by signals, learned without waiting for the others.

    A vote begins with one step and is counted with the next, on a group of its own between processors, so that neither
    the accelerators nor their exchange of gradients have a part in it. All processes learn the same in the same step:
    the number of the signal to stop by (0: none), and whether to save.
    """

    def __init__(self, world: World) -> None:
        self._group: Any = dist.new_group(backend="gloo") if world.size > 1 else None
        self._votes = torch.zeros(2)
        self._begun: Any = None
        self.stop: signal.Signals | None = None
        self.save = False

    def __call__(self, request: StopRequest) -> bool:
        """Cast this process's vote, and learn what came of the vote before, or of this one where there is one process.

        Returns whether to stop.
        """
        if self._group is None:
            self.stop, self.save = request.signal, request.save
        else:
            self.count()
            number = 0 if request.signal is None else int(request.signal)
            self._votes = torch.tensor([float(number), float(request.save)])
            self._begun = dist.all_reduce(self._votes, dist.ReduceOp.MAX, group=self._group, async_op=True)
        request.save = False
        return self.stop is not None

    def last(self, request: StopRequest) -> bool:
        """Cast this process's last vote and wait for all: what came while training ended counts. Returns as a call."""
        self(request)
        self.count()
        return self.stop is not None

    def count(self) -> bool:
        """Learn what came of the last vote, once all have cast theirs; returns whether to stop."""
        if self._begun is not None:
            self._begun.wait()
            self._begun = None
            number, save = (int(vote) for vote in self._votes.tolist())
            self.stop = signal.Signals(number) if number else None
            self.save = bool(save)
        return self.stop is not None
