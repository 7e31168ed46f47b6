"""The whole step as one CUDA graph: captured once, then replayed on new input in the same tensors.

A step of small maps is thousands of short kernels, and launching them takes the host longer than the device needs to
run them. A graph is launched at once. What a captured step reads must lie where it lay when it was captured: its input,
its noise and the numbers of its schedule are copied into tensors of their own before each replay.

A graph is trusted once a replay of it, which changes nothing, gave what the step itself gives.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from hvdsl.runtime.training.step.transfer import tensors_copied, tensors_of

P = TypeVar("P")
R = TypeVar("R")

WARM_UP = 3  # steps that are run as they are first: what is made once is made, and libraries have chosen their kernels

Capture = Callable[[Callable[[], R]], Callable[[], R]]
Numbers = tuple[Tensor, Mapping[str, int]]
"""Loss, norm, whether the step counts, and all terms as one vector; the terms' names and sizes."""

CLOSE = 1e-3  # relative: a replay that is wrong is wrong by more, and kernels that add in any order differ by less


def capture(run: Callable[[], R]) -> Callable[[], R]:
    """Record what `run` does on the current device, without doing it; the function returned does it.

    Raises:
        RuntimeError: It cannot be recorded. Stream and generator are those of before.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    before = generator.clone_state()
    try:
        # A checkpoint may be on its way to the disk: what its thread does must not end the capture of this one.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = run()
    except RuntimeError:
        # torch ends a capture first and then all else, and so nothing else where ending it fails: its own stream stays
        # the current one, and the generator is captured for good, which the next dropout would end in.
        torch.cuda.set_stream(stream)
        generator.graphsafe_set_state(before)
        raise

    def replay() -> R:
        graph.replay()
        return result

    return replay


class Rehearsal:
    """Replays a captured step so that it changes nothing.

    The step is made one that is skipped; what it moves all the same is put back.

    Args:
        moved: Gives the tensors that a skipped step moves, too.

    Attributes:
        counts: Whether a step may change anything: a scalar that the step reads.
    """

    def __init__(self, device: torch.device, moved: Callable[[], Mapping[str, Tensor]]) -> None:
        self.counts = torch.ones((), dtype=torch.bool, device=device)
        self._device, self._moved = device, moved

    def __call__(self, replay: Callable[[], Numbers]) -> Tensor:
        """What the step gave."""
        moved, cuda = self._moved(), self._device.type == "cuda"
        kept = {name: tensor.clone() for name, tensor in moved.items()}
        random = torch.cuda.get_rng_state(self._device) if cuda else torch.get_rng_state()
        self.counts.fill_(False)
        numbers = replay()[0].clone()
        self.counts.fill_(True)
        if cuda:
            torch.cuda.set_rng_state(random, self._device)
        else:
            torch.set_rng_state(random)
        for name, tensor in kept.items():
            moved[name].copy_(tensor)
        return numbers


def difference(replayed: Tensor, run: Tensor) -> str | None:
    """How the numbers of a replayed step differ from those of the step itself; None where they agree."""
    (loss, norm, _, *terms), (loss_run, norm_run, _, *terms_run) = replayed.tolist(), run.tolist()
    pairs = [("loss", loss, loss_run), ("gradient norm", norm, norm_run)]
    pairs += [("term", a, b) for a, b in zip(terms, terms_run, strict=True)]
    for name, a, b in pairs:
        if not (math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE * CLOSE) or (math.isnan(a) and math.isnan(b))):
            return f"its {name} is {a:.6g}, and {b:.6g} when it is run"
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    inputs: list[Tensor]
    replay: Callable[[], Numbers]


class CapturedStep(Generic[P]):
    """Runs a step as a graph for each phase of the schedule and each shape of the input.

    Args:
        run: The step: a function of its input that reads nothing from the device.
        rehearse: How a replay is tried before it is trusted.
        record: How it is captured.
        undo: Called where capturing failed, before the step is run as it is: what the attempt left behind, such as
            gradients in memory of the graph that was not made, is none of that step's.

    Attributes:
        refused: Why steps run as they are, where capturing one has failed or a replay gave something else.
    """

    def __init__(
        self,
        run: Callable[[Sequence[P]], Numbers],
        rehearse: Rehearsal,
        record: Capture[Numbers] = capture,
        undo: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._rehearse, self._record, self._undo = run, rehearse, record, undo
        self._met: Counter[Hashable] = Counter()
        self._captured: dict[Hashable, _Captured] = {}
        self.refused: str | None = None

    def __call__(self, parts: Sequence[P], phase: Hashable = None) -> Numbers:
        """One step. What it returns is overwritten by the next."""
        key = (phase, tuple((tuple(t.shape), t.dtype, t.stride()) for t in tensors_of(parts)))
        self._met[key] += 1
        if self.refused is not None or self._met[key] <= WARM_UP:
            return self._run(parts)
        if key not in self._captured:
            return self._begin(key, parts)
        captured = self._captured[key]
        for held, new in zip(captured.inputs, tensors_of(parts), strict=True):
            held.copy_(new)
        return captured.replay()

    def forget(self) -> None:
        """Capture anew: tensors that steps work on were exchanged for others."""
        self._met.clear()
        self._captured.clear()

    def _begin(self, key: Hashable, parts: Sequence[P]) -> Numbers:
        """Capture a step, then run it; what was captured is kept where a replay gives the same."""
        copied: Any = tensors_copied(parts)
        try:
            captured = _Captured(list(tensors_of(copied)), self._record(lambda: self._run(copied)))
            rehearsed = self._rehearse(captured.replay)
        except RuntimeError as error:
            self.refused = f"a step could not be captured: {str(error).splitlines()[0]}"
            self._undo()
            return self._run(parts)
        result = self._run(parts)
        apart = difference(rehearsed, result[0])
        if apart is None:
            self._captured[key] = captured
        else:
            self.refused = f"a replayed step is not the step: {apart}"
        return result
