"""The whole step as one CUDA graph: captured once, then replayed on new input in the same tensors.

A step of small maps is thousands of short kernels, and launching them takes the host longer than the device needs to
run them. A graph is launched at once. What a captured step reads must lie where it lay when it was captured: its input,
its noise and the numbers of its schedule are copied into tensors of their own before each replay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from hvdsl.runtime.training.transfer import tensors_copied, tensors_of

P = TypeVar("P")
R = TypeVar("R")

WARM_UP = 3  # steps that are run as they are first: what is made once is made, and libraries have chosen their kernels

Capture = Callable[[Callable[[], R]], Callable[[], R]]


def capture(run: Callable[[], R]) -> Callable[[], R]:
    """Record what `run` does on the current device, without doing it; the function returned does it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> R:
        graph.replay()
        return result

    return replay


@dataclass(frozen=True, slots=True, eq=False)
class _Captured(Generic[R]):
    inputs: list[Tensor]
    replay: Callable[[], R]


class CapturedStep(Generic[P, R]):
    """Runs a step as a graph for each phase of the schedule and each shape of the input.

    Args:
        run: The step: a function of its input that reads nothing from the device.
        record: How it is captured.
        undo: Called where capturing failed, before the step is run as it is: what the attempt left behind, such as
            gradients in memory of the graph that was not made, is none of that step's.

    Attributes:
        refused: Why steps run as they are, where capturing one has failed.
    """

    def __init__(
        self,
        run: Callable[[Sequence[P]], R],
        record: Capture[R] = capture,
        undo: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._record, self._undo = run, record, undo
        self._met: Counter[Hashable] = Counter()
        self._captured: dict[Hashable, _Captured[R]] = {}
        self.refused: str | None = None

    def __call__(self, parts: Sequence[P], phase: Hashable = None) -> R:
        """One step. What it returns is overwritten by the next."""
        key = (phase, tuple((tuple(t.shape), t.dtype, t.stride()) for t in tensors_of(parts)))
        self._met[key] += 1
        if self.refused is not None or self._met[key] <= WARM_UP:
            return self._run(parts)
        if key not in self._captured and not self._begin(key, parts):
            return self._run(parts)
        captured = self._captured[key]
        for held, new in zip(captured.inputs, tensors_of(parts), strict=True):
            held.copy_(new)
        return captured.replay()

    def forget(self) -> None:
        """Capture anew: tensors that steps work on were exchanged for others."""
        self._met.clear()
        self._captured.clear()

    def _begin(self, key: Hashable, parts: Sequence[P]) -> bool:
        copied: Any = tensors_copied(parts)
        try:
            replay = self._record(lambda: self._run(copied))
        except RuntimeError as error:
            self.refused = f"a step could not be captured: {str(error).splitlines()[0]}"
            self._undo()
            return False
        self._captured[key] = _Captured(list(tensors_of(copied)), replay)
        return True
