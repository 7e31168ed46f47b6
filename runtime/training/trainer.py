"""The training loop: batches in, measurements and checkpoints out."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import nn

from hvdsl.compiler.settings import ModelSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.seeds import derive_seed
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.latents.conditions import fields_of
from hvdsl.runtime.quantizers.usage import usage
from hvdsl.runtime.training.batches import Order, PixelBatch, PixelSource, batches
from hvdsl.runtime.training.checkpoint import Checkpoint
from hvdsl.runtime.training.guard import TrainingStalledError
from hvdsl.runtime.training.metrics import Measurement, MetricsLog
from hvdsl.runtime.training.optimization import StepResult
from hvdsl.runtime.training.progress import ProgressDisplay
from hvdsl.runtime.training.run import Run
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.signals import StopRequest, StopVote
from hvdsl.runtime.training.tasks import ImageTask, Task
from hvdsl.runtime.training.transfer import Ahead
from hvdsl.runtime.training.window import Window


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How training ended: steps done over all resumes, and the signal that stopped it early, if one did."""

    step: int
    signal: signal.Signals | None = None


@dataclass(frozen=True, slots=True)
class Periodic:
    """Something done every so many steps and at the end: an evaluation, a page of samples.

    `action(step)` returns measurements for the log. Every rank calls it, with the averaged weights where `use_ema` asks
    for them and the model in evaluation mode; what it writes is rank 0's to write.
    """

    event: str
    every: int | None
    action: Callable[[int], Mapping[str, Measurement]]
    use_ema: bool = True


class Trainer:
    """Trains one model on one data set.

    Args:
        model: Initialised and on its device.
        settings: A spec's settings; `settings.train` must be there.
        data: The training images.
        run: Where to write; without one nothing is written.
        console: Where to show progress; without one nothing is shown.
        workers: Threads that read ahead; at least one where the model is on an accelerator.
        task: What the model is trained for; by default the spec's objective on images.
        graphs: Launch steps as CUDA graphs where that can be; where not, training says why and runs them as they are.

    Raises:
        HvdslError: There is no `train` section, or the batch fits neither the data nor the processes.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: ModelSettings,
        data: PixelSource,
        *,
        run: Run | None = None,
        console: Console | None = None,
        workers: int = 0,
        task: Task | None = None,
        graphs: bool = False,
    ) -> None:
        if settings.train is None:
            raise HvdslError(
                f"`{settings.model}` has no `train` section: add one, or give its values with `--set train.…`"
            )
        self.model, self.settings, self.train, self.data = model, settings, settings.train, data
        self.world = world()
        self.order = Order(len(data), self.train.batch, self.train.seed, self.world, self.train.accumulate)
        self.clock = Clock.of(self.train, self.order.per_epoch)
        self._task: Task = task or ImageTask(settings.objective)
        self.optimization = self._task.optimization(model, self.train, self.clock, self.world)
        self.run = run
        self.periodic: list[Periodic] = []
        self._console = console if self.world.leads else None
        self._device = next(model.parameters()).device
        # Where the host is to stay ahead of the device, images are never decoded on its thread.
        self._workers = workers if self._device.type == "cpu" else max(1, workers)
        self._graphs = graphs
        self._ahead, self._vote = Ahead(self._device), StopVote(self.world)
        self._read, self._since = 0, 0.0  # steps whose results were read, and when the last of them was
        self._saved: int | None = None
        self._window = Window()
        self._collapsed: dict[str, int] = {}  # by level of codes: windows in a row without enough codes in use

    def resume(self, step: int | None = None) -> int:
        """Continue from a checkpoint, the run's newest or that of a `step`, bit for bit; returns its step.

        A run that was stopped before its first checkpoint was complete begins anew: that is step 0. Checkpoints newer
        than the one that is asked for are put aside, into a folder beside them.

        Raises:
            CheckpointError: The checkpoint does not fit this model.
            HvdslError: It is of a later step than the run's last.
        """
        if self.run is None:
            raise HvdslError("only a run with a folder can be resumed")
        store = self.run.checkpoints()
        checkpoint = store.latest() if step is None else store.open(step)
        at, total = 0 if checkpoint is None else checkpoint.step, self.clock.total
        if total is not None and at > total:
            raise HvdslError(
                f"{self.run.folder} is at step {at} already, and the whole run is to have {total}: "
                "say how long it is with `--steps`"
            )
        step = 0
        if checkpoint is None:
            self._say(f"{self.run.folder} has no complete checkpoint: training begins anew")
        else:
            step = self._saved = checkpoint.step
            self.optimization.load(checkpoint)
            if self.world.leads and (aside := store.put_aside(step)):
                self._say(f"newer checkpoints are put aside in {aside}")
            for note in self._differences(checkpoint):
                self._say(note)
        if self.world.leads:
            MetricsLog(self.run.metrics_path).rewind(step)
        return step

    def fit(self) -> TrainingResult:
        """Train to the end, or until SIGINT, SIGTERM or SIGHUP comes to any process; saves either way.

        Raises:
            TrainingStalledError: Too many steps were skipped.
            CheckpointError: A checkpoint could not be written; those before it are intact.
            KeyboardInterrupt: A second Ctrl-C.
        """
        start, total = self.optimization.step_number, self.clock.total
        log = self.run.metrics_log() if self.run is not None and self.world.leads else None
        display = ProgressDisplay(self._console, start, total)
        if log is not None and not log.writes_events:
            display.say("TensorBoard is not installed: measurements go to metrics.jsonl only")
        if self._graphs and (reason := self.optimization.use_graphs()) is not None:
            display.say(f"steps are not launched as graphs: {reason}")
        self.model.train()
        stream = batches(self.data, self.order, start, self._workers, fields_of(self.model))
        try:
            with StopRequest() as stop, display:
                stopped = False
                self._read, self._since = start, time.perf_counter()
                while not stopped and (total is None or self.optimization.step_number < total):
                    self._one_step(stream, log, display)
                    stopped = self._vote(stop)
                    if self._vote.save and not stopped:
                        self._hear(log, display)
                        self._save()
                        display.say(f"saved at step {self.optimization.step_number}, as SIGUSR1 asks")
                stopped = self._vote.count() or stopped
                self._hear(log, display)
                self._save()
                if not stopped:
                    self._do_periodic(log, display, at_end=True)
                return TrainingResult(self.optimization.step_number, self._vote.stop if stopped else None)
        finally:
            stream.close()
            if log is not None:
                log.close()

    def step(self, batch: PixelBatch) -> StepResult:
        """One step on this rank's images, and what came of it: the loop's own, for those who drive it themselves."""
        self.launch(batch)
        *_, result = self.optimization.results()
        return result

    def launch(self, batch: PixelBatch) -> None:
        """Hand a step on this rank's images to the device."""
        # Dropout draws from the global generator; seeded by the step, that generator needs no place in a checkpoint.
        torch.manual_seed(derive_seed(self.train.seed, "step", batch.step, self.world.rank))
        self.optimization.launch(self._ahead(lambda: self._task.parts(self.model, batch, self.train)))

    def _one_step(self, stream: Iterator[PixelBatch], log: MetricsLog | None, display: ProgressDisplay) -> None:
        """Launch a step and hear of those that are done: on a CPU of itself, on an accelerator of the one before."""
        self.launch(next(stream))
        self._hear(log, display, outstanding=1)
        done = self.optimization.step_number
        if done == self.clock.total:
            return
        every = self.clock.every(self.train.checkpoint_every)
        if every is not None and done % every == 0:
            self._hear(log, display)
            self._save()  # before anything that may fail
            self._since = time.perf_counter()
        self._do_periodic(log, display)

    def _hear(self, log: MetricsLog | None, display: ProgressDisplay, outstanding: int = 0) -> None:
        """Read what came of steps, but for so many that are still under way; log it where it is time to."""
        try:
            for result in self.optimization.results(outstanding):
                now = time.perf_counter()
                self._window.add(result, self.train.batch, now - self._since)
                self._read, self._since = result.step + 1, now
                display.advance(self._read)
                if self._read % self.train.log_every == 0 or self._read == self.clock.total:
                    self._measure(log, display)
        except TrainingStalledError:
            if log is not None:
                log.write("stalled", self._read + 1, self._skips())
            raise

    def _measure(self, log: MetricsLog | None, display: ProgressDisplay) -> None:
        step = self._read
        values = (
            self._window.summary() | {names.EPOCH: step / self.order.per_epoch} | self._skips() | self._codes(display)
        )
        display.show(step, values)
        if log is not None:
            log.write("train", step, values)

    def _skips(self) -> dict[str, Measurement]:
        guard = self.optimization.guard
        return {
            names.SKIPPED_STEPS: guard.skipped,
            names.SKIP_STREAK_STEPS: guard.streak,
            names.LONGEST_SKIP_STREAK_STEPS: guard.longest_streak,
        }

    def _codes(self, display: ProgressDisplay) -> dict[str, Measurement]:
        """How the codes of discrete latents were used since this was last asked.

        A level that stays collapsed from one window to the next is told once; in the first steps few codes are common.
        """
        levels = usage(self.model)
        for level in levels:
            windows = 0 if level.warning is None else self._collapsed.get(level.level, 0) + 1
            self._collapsed[level.level] = windows
            if level.warning is not None and windows == 2:
                display.say(level.warning)
        if not levels:
            return {}
        return {
            names.CODES_USED_PER_GROUP_FRACTION: [level.used for level in levels],
            names.CODE_PERPLEXITY_PER_GROUP_CODES: [level.perplexity for level in levels],
        }

    def _do_periodic(self, log: MetricsLog | None, display: ProgressDisplay, at_end: bool = False) -> None:
        step = self.optimization.step_number
        for periodic in self.periodic:
            if periodic.every is None or not (at_end or step % periodic.every == 0):
                continue
            self._hear(log, display)
            with self._weights(periodic.use_ema):
                self.model.eval()
                values = periodic.action(step)
                self.model.train()
            self._since = time.perf_counter()
            if values:
                display.show(step, values, periodic.event)
                if log is not None:
                    log.write(periodic.event, step, values)

    def _weights(self, use_ema: bool) -> AbstractContextManager[None]:
        ema = self.optimization.ema
        return ema.applied() if use_ema and ema is not None else nullcontext()

    def _save(self) -> None:
        step = self.optimization.step_number
        if self.run is None or not self.world.leads or step == self._saved:
            return
        state = self.optimization.state() | self._circumstances()
        self.run.checkpoints(self.train.keep).save(step, self.optimization.tensors(), state)
        self._saved = step

    def _circumstances(self) -> dict[str, Any]:
        """What bitwise continuation depends on beside the state."""
        return {
            "threads": torch.get_num_threads(),
            "processes": self.world.size,
            "device": self._device.type,
            "torch": torch.__version__,
            "train": self.train.model_dump(mode="json", by_alias=True),
        }

    def _differences(self, checkpoint: Checkpoint) -> list[str]:
        """One line for each thing that keeps the continuation from being bit for bit what it would have been."""
        now, notes = self._circumstances(), []
        for name in ("threads", "processes", "device", "torch"):
            before = checkpoint.state.get(name)
            if before != now[name]:
                notes.append(f"resuming with {name} {now[name]}, not {before}: results will differ in the last digits")
        before = checkpoint.state.get("train")
        for key, value in now["train"].items():
            if isinstance(before, Mapping) and before.get(key) != value and key not in _HARMLESS:
                notes.append(f"resuming with `train.{key}` changed from {before.get(key)} to {value}")
        return notes

    def _say(self, line: str) -> None:
        ProgressDisplay(self._console, 0, None).say(line)


# Settings of `train` that do not touch what is learned; `steps` and `epochs` are what one changes to go on for longer.
_HARMLESS = frozenset({"log_every", "evaluate_every", "sample_every", "checkpoint_every", "keep", "steps", "epochs"})
