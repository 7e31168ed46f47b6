"""When a run is saved, what of it is kept, and what a resume compares: checkpoints written beside training."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvdsl.compiler.settings import Best, Train
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.training.folder.checkpoint import Checkpoint, CheckpointStore, Tensors
from hvdsl.runtime.training.folder.logs import Measurement, plain
from hvdsl.runtime.training.folder.run import Run

BEST = (names.BITS_PER_DIM, names.ERROR_PER_DIM, names.NATS_PER_CODE)
"""What a validation is judged by: the first of these that it measured, the lower the better."""
MEASURED, RECORD = "measured", "best"
"""Entries of a checkpoint's state: what was measured at its step, by event; the best validation so far."""


@dataclass(frozen=True, slots=True)
class BestValidation:
    """The best validation so far.

    Attributes:
        since: How many came after it.
    """

    value: float
    step: int
    since: int = 0


class Saver:
    """The checkpoints of a run under training.

    A checkpoint is copied at once and written by a thread, while training goes on. Older ones are removed when a later
    step has shown that the newest one is sound, so that weights that were broken by their last update never push out
    good ones. What is measured at the step of a checkpoint is part of it, be it measured afterwards.

    Args:
        run: Where to write; without one nothing is written, as on all processes but the first.
        keep: The newest so many, or as `Best` says; the one that is evaluated best is not among them.
        patience: Validations without a better one after which training ends.
    """

    def __init__(self, run: Run | None, keep: int | Best, patience: int | None = None) -> None:
        self._run = run
        self._newest = keep if isinstance(keep, int) else keep.newest
        self._keeps_best = not isinstance(keep, int)
        self._metrics = BEST if isinstance(keep, int) else (keep.metric,)
        self._patience = patience
        self._measured: dict[str, dict[str, Any]] = {}
        self._measured_at = -1
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._unproved = self._proved = False  # whether there is a newest one of which nothing is known, or good
        self.saved: int | None = None
        self.best: BestValidation | None = None

    @property
    def _store(self) -> CheckpointStore | None:
        """Where checkpoints are; asked for anew each time, since files of weights hold the run's spec of the time."""
        return None if self._run is None else self._run.checkpoints()

    def restore(self, checkpoint: Checkpoint, log: Sequence[Mapping[str, Any]] = ()) -> None:
        """Go on from a checkpoint; one of version 0.1 says nothing of what was measured, so the run's log does."""
        self.saved = checkpoint.step
        if MEASURED not in checkpoint.state:
            there: dict[str, dict[str, Any]] = {
                str(r["event"]): {} for r in log if r["step"] == checkpoint.step and "event" in r
            }
            self._measured = there | ({"pictures": {}} if "validation" in there else {})
            self._measured_at = checkpoint.step
        measured, best = checkpoint.state.get(MEASURED), checkpoint.state.get(RECORD)
        if isinstance(measured, Mapping):
            self._measured = {event: dict(values) for event, values in measured.items() if isinstance(values, Mapping)}
            self._measured_at = checkpoint.step
        if isinstance(best, Mapping) and isinstance(best.get("value"), int | float):
            self.best = BestValidation(float(best["value"]), int(best["step"]), int(best["since"]))

    def measured(self, step: int) -> Mapping[str, Mapping[str, Any]]:
        """What was measured at a step so far, by event."""
        return self._measured if step == self._measured_at else {}

    def note(self, step: int, event: str, values: Mapping[str, Measurement]) -> bool:
        """Make what was measured at a step part of its checkpoint; returns whether it is the best validation so far."""
        if step != self._measured_at:
            self._measured, self._measured_at = {}, step
        self._measured[event] = {name: plain(value) for name, value in values.items()}
        better = event == "validation" and self._judge(step, values)
        if step == self.saved and (store := self._store) is not None:
            self.wait()
            store.annotate(step, self._notes(step))
        return better

    @property
    def exhausted(self) -> bool:
        """Whether patience with validations that are no better has come to an end."""
        return self._patience is not None and self.best is not None and self.best.since >= self._patience

    @property
    def keeps_best(self) -> bool:
        return self._keeps_best

    def save(self, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any], *, wait: bool = False) -> None:
        """Save a copy of these tensors.

        Args:
            wait: Be done with it on return.

        Raises:
            CheckpointError: This one or the one before could not be written.
        """
        self.wait()
        self._prune()
        if self._run is None:
            self.saved = step
            return
        copies = parts if wait else {part: _copied(tensors) for part, tensors in parts.items()}
        self.saved, self._unproved, self._proved = step, True, False
        self._thread = threading.Thread(
            target=self._write, args=(step, copies, dict(state) | self._notes(step)), name="checkpoint"
        )
        self._thread.start()
        if wait:
            self.wait()

    def prove(self) -> None:
        """A later step was sound: remove what is no longer kept, when the newest checkpoint is written.

        Raises:
            CheckpointError: The newest could not be written.
        """
        self._proved = self._unproved
        if self._thread is not None and not self._thread.is_alive():
            self.wait()
        if self._thread is None:
            self._prune()

    def _prune(self) -> None:
        if self._proved and (store := self._store) is not None:
            store.prune(self._newest, self.best.step if self._keeps_best and self.best is not None else None)
            self._unproved = self._proved = False

    def wait(self) -> None:
        """Wait for a checkpoint that is being written.

        Raises:
            CheckpointError: It could not be; those before it are intact.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self.saved = None
            raise failure

    def last_before(self, step: int) -> int | None:
        """The step of the newest checkpoint that was taken before so many steps were done."""
        steps = [] if self._run is None else self._run.checkpoints().steps()
        return max((number for number in steps if number < step), default=None)

    def join(self) -> None:
        """Let a checkpoint that is being written be finished, whatever comes of it."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
        try:
            if (store := self._store) is not None:
                store.save(step, parts, state)
        except BaseException as error:  # raised again where training hears of it
            self._failure = error

    def _notes(self, step: int) -> dict[str, Any]:
        best = self.best
        record = None if best is None else {"value": best.value, "step": best.step, "since": best.since}
        return {MEASURED: dict(self.measured(step)), RECORD: record}

    def _judge(self, step: int, values: Mapping[str, Measurement]) -> bool:
        value = next((values[name] for name in self._metrics if name in values), None)
        if not isinstance(value, int | float):
            return False
        if math.isfinite(value) and (self.best is None or value < self.best.value):
            self.best = BestValidation(float(value), step)
            return True
        if self.best is not None and step > self.best.step:
            self.best = BestValidation(self.best.value, self.best.step, self.best.since + 1)
        return False


def _copied(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


_HARMLESS = frozenset(
    {"log_every", "evaluate_every", "sample_every", "checkpoint_every", "keep", "patience", "steps", "epochs"}
)
"""Settings of `train` that do not touch what is learned; `steps` and `epochs` are what one changes to go on longer."""


def circumstances(train: Train, world: World, device: torch.device) -> dict[str, Any]:
    """Those of this process, as JSON."""
    return {
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "device": device.type,
        "torch": torch.__version__,
        "train": train.model_dump(mode="json", by_alias=True),
    }


def differences(checkpoint: Checkpoint, now: Mapping[str, Any]) -> list[str]:
    """One line for each thing that keeps the continuation from being bit for bit what it would have been."""
    notes = []
    for name in ("threads", "processes", "device", "torch"):
        before = checkpoint.state.get(name)
        if before != now[name]:
            notes.append(f"resuming with {name} {now[name]}, not {before}: results will differ in the last digits")
    before = checkpoint.state.get("train")
    for key, value in now["train"].items():
        if isinstance(before, Mapping) and before.get(key) != value and key not in _HARMLESS:
            notes.append(f"resuming with `train.{key}` changed from {before.get(key)} to {value}")
    return notes
