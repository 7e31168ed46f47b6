"""The training loop: batches in, measurements and checkpoints out."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from rich.console import Console
from torch import nn

from hvdsl.compiler.settings import ModelSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.disk import write_json
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.latents import LatentGroup
from hvdsl.runtime.latents.conditions import fields_of
from hvdsl.runtime.quantizers.usage import usage
from hvdsl.runtime.training.batches import Order, PixelBatch, PixelSource, batches
from hvdsl.runtime.training.display import ProgressDisplay
from hvdsl.runtime.training.folder.logs import Measurement, MetricsLog, plain
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.saving import Saver, circumstances, differences
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.signals import Stopped, StopRequest, StopVote
from hvdsl.runtime.training.sinks import RunLog, Sink, find_sinks
from hvdsl.runtime.training.step.fast_paths import fast_paths
from hvdsl.runtime.training.step.guard import TrainingStalledError, at_initialisation, diagnose_stall
from hvdsl.runtime.training.step.optimization import StepResult
from hvdsl.runtime.training.step.optimizer import group_lines
from hvdsl.runtime.training.step.processes import check_replicas
from hvdsl.runtime.training.step.transfer import Ahead
from hvdsl.runtime.training.tasks import ImageTask, Task
from hvdsl.runtime.training.window import WINDOW, Collapse, Window, peak_memory

Graphs = Literal["on", "off", "auto"]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How training ended.

    Attributes:
        step: Steps done over all resumes.
        signal: What stopped it early, if anything did.
        saved: The step of the newest checkpoint, where it is not the last: updates were being skipped at the end.
    """

    step: int
    signal: signal.Signals | None = None
    saved: int | None = None


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
        sinks: What hears of the run beside its folder, by name or as objects (default: TensorBoard, if installed).
        graphs: Whether to launch steps as CUDA graphs; where that cannot be, training says why and runs them as they
            are. `auto` is `off` until graphs have been measured on a device.
        level: The optimisation level that the model was built at, for the line that tells which fast paths are on.

    Raises:
        HvdslError: There is no `train` section, the batch fits neither the data nor the processes, or there is no such
            sink.
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
        sinks: Sequence[str | Sink] | None = None,
        graphs: Graphs = "auto",
        level: int | None = None,
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
        self.log: RunLog | None = None  # of the first process, while it trains
        self.periodic: list[Periodic] = []
        self._sinks = find_sinks(sinks)
        self._console = console if self.world.leads else None
        self._device = next(model.parameters()).device
        # Where the host is to stay ahead of the device, images are never decoded on its thread.
        self._workers = workers if self._device.type == "cpu" else max(1, workers)
        self._graphs, self._level = graphs, level
        self._ahead, self._vote = Ahead(self._device), StopVote(self.world)
        self._read, self._since = 0, 0.0  # steps whose results were read, and when the last of them was
        self._saver = Saver(None, self.train.keep, self.train.patience)
        self._window, self._collapse = Window(), Collapse()
        self._last: PixelBatch | None = None
        self._first: StepResult | None = None  # the first step of a run that has made no update

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
        self._saver = self._new_saver()
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
            step = checkpoint.step
            window = Window.of(checkpoint)
            self.optimization.load(checkpoint)
            self._window = window
            self._saver.restore(checkpoint, self.run.metrics())
            if self.world.leads and (aside := store.put_aside(step)):
                self._say(f"newer checkpoints are put aside in {aside}")
            for note in differences(checkpoint, circumstances(self.train, self.world, self._device)):
                self._say(note)
        if self.world.leads:
            log = MetricsLog(self.run.metrics_path)
            log.rewind(step)
            there = {record["event"] for record in self.run.metrics() if record["step"] == step}
            for event, values in self._saver.measured(step).items():
                if values and event not in there:  # a lost line: the checkpoint has it
                    log.write(event, step, values)
        return step

    def fit(self) -> TrainingResult:
        """Train to the end, or until SIGINT, SIGTERM or SIGHUP comes to any process; saves either way.

        Raises:
            TrainingStalledError: Too many steps were skipped.
            CheckpointError: A checkpoint could not be written; those before it are intact.
            KeyboardInterrupt: A second Ctrl-C.
        """
        start, total = self.optimization.step_number, self.clock.total
        if self._saver.saved is None:  # no checkpoint to go on from
            self._saver = self._new_saver()
        self._collapse = Collapse(total, start)
        display = self._display(start)
        self.log = log = self._open_log(start, display)
        display.say(self._fast_paths())
        for line in group_lines(self.model, self.train.groups):
            display.say(line)
        self.model.train()
        stream = batches(self.data, self.order, start, self._workers, fields_of(self.model))
        try:
            with StopRequest() as stop, display:
                stopped = False
                self._read, self._since = start, time.perf_counter()
                if start > 0:  # what a killed process saved and did not come to
                    self._do_periodic(log, display, stop)
                while not (stopped or self._saver.exhausted or self.optimization.step_number == total):
                    self._one_step(stream, log, display, stop)
                    stopped = self._vote(stop)
                    if self._vote.save and not stopped:
                        self._hear(log, display)
                        display.say(f"{self._save(wait=True)}, as SIGUSR1 asks")
                stopped = self._vote.count() or stopped
                self._hear(log, display)
                self._save(wait=True, at_end=not stopped)
                if not stopped:
                    self._do_periodic(log, display, stop, at_end=True)
                    if not self.optimization.guard.doubtful:
                        self._saver.prove()
                    self._tell_of_the_best(display)
                    stopped = self._vote.last(stop)
                saved = None if self._saver.saved == self.optimization.step_number else self._saver.saved
                return TrainingResult(self.optimization.step_number, self._vote.stop if stopped else None, saved)
        finally:
            stream.close()
            self._saver.join()
            self.log = None
            if log is not None:
                log.close()

    def _fast_paths(self) -> str:
        """Begin to launch steps as graphs where that is wanted and can be; tell what is on and what is not."""
        reasons = {"auto": "not measured yet, `--graphs on`", "off": "`--graphs off`"}
        return fast_paths(
            self._device,
            level=self._level,
            precision=self.train.precision,
            graphs=self.optimization.use_graphs() if self._graphs == "on" else reasons[self._graphs],
            optimizer=self.optimization.optimizer,
            workers=self._workers,
        )

    def _display(self, start: int) -> ProgressDisplay:
        resolutions = [f"{g.shape[1]}x{g.shape[2]}" for g in self._groups()]
        return ProgressDisplay(self._console, start, self.clock.total, self.settings.model, resolutions)

    def _open_log(self, start: int, display: ProgressDisplay) -> RunLog | None:
        if self.run is None or not self.world.leads:
            return None
        groups = tuple(f"{g.name} {'x'.join(map(str, g.shape))}" for g in self._groups())
        return RunLog(self.run, self.settings, groups, start, self._sinks, display.say)

    def _groups(self) -> Sequence[LatentGroup]:
        """The latent groups that lists of measurements are of; a prior of codes has none."""
        groups: Sequence[LatentGroup] = getattr(self.model, "LATENTS", ())
        return groups

    def step(self, batch: PixelBatch) -> StepResult:
        """One step on this rank's images, and what came of it: the loop's own, for those who drive it themselves."""
        self.launch(batch)
        *_, result = self.optimization.results()
        return result

    def launch(self, batch: PixelBatch) -> None:
        """Hand a step on this rank's images to the device."""
        # Dropout draws from the global generator; seeded by the step, that generator needs no place in a checkpoint.
        torch.manual_seed(derive_seed(self.train.seed, "step", batch.step, self.world.rank))
        self._last = batch
        self.optimization.launch(self._ahead(lambda: self._task.parts(self.model, batch, self.train)))

    def _one_step(
        self, stream: Iterator[PixelBatch], log: RunLog | None, display: ProgressDisplay, stop: StopRequest
    ) -> None:
        """Launch a step and hear of those that are done: on a CPU of itself, on an accelerator of the one before."""
        self.launch(next(stream))
        if (refused := self.optimization.refused_graphs()) is not None:
            display.say(f"steps are no longer launched as graphs: {refused}")
        self._hear(log, display, outstanding=1)
        done = self.optimization.step_number
        if done == self.clock.total:
            return
        every = self.clock.every(self.train.checkpoint_every)
        if every is not None and done % every == 0:
            self._hear(log, display)
            check_replicas(self.optimization.tensors(), self.world, done)
            self._save()  # before anything that may fail
            self._since = time.perf_counter()
        self._do_periodic(log, display, stop)

    def _hear(self, log: RunLog | None, display: ProgressDisplay, outstanding: int = 0) -> None:
        """Read what came of steps, but for so many that are still under way; log it where it is time to."""
        try:
            for result in self.optimization.results(outstanding):
                now = time.perf_counter()
                self._window.add(result, self.train.batch, now - self._since)
                self._read, self._since = result.step + 1, now
                if result.step == 0 and not result.applied:
                    self._first = result
                if result.applied and self._saver.saved is not None and result.step >= self._saver.saved:
                    self._saver.prove()
                display.advance(self._read)
                if self._read % self.train.log_every == 0 or self._read == self.clock.total:
                    self._measure(log, display)
        except TrainingStalledError as error:
            if log is not None:
                log.write(names.STALLED, self._read + 1, self._skips())
            raise TrainingStalledError(self._explained(error)) from error

    def _explained(self, error: TrainingStalledError) -> str:
        """What to say of a run that stalled: what went bad first, and where to go on from."""
        guard, step = self.optimization.guard, self._read + 1
        sentences = [str(error)]
        if self._first is not None and guard.skipped == step and guard.lost_numbers:
            rates = self._first.terms.get(names.RATE_PER_GROUP_NATS_PER_IMAGE, ())
            sentences = [at_initialisation(self._first.loss, self._group_names(), rates)]
        self._saver.join()
        if guard.lost_numbers and self._last is not None:
            sentences.append(self._report(self._last, step))
        good = self._saver.last_before(step - guard.streak)
        if good is not None and self.run is not None:
            again = f"hvdsl train --resume --checkpoint {good} --out {shlex.quote(str(self.run.folder))}"
            sentences.append(f"the last good checkpoint is that of step {good}: `{again}` goes on from it")
        return "; ".join(sentences)

    def _report(self, batch: PixelBatch, step: int) -> str:
        """Compute the batch of the last step again and say what was not finite first; the report is kept in the run."""
        torch.manual_seed(derive_seed(self.train.seed, "step", batch.step, self.world.rank))
        parts = self._task.parts(self.model, batch, self.train)
        diagnosis = diagnose_stall(self.model, lambda: self.optimization.loss_again(parts[0]), batch.names)
        first = f"{diagnosis.first} is not finite first" if diagnosis.first else "computed again, all is finite"
        if self.run is None or not self.world.leads:
            return first
        path = write_json(self.run.folder / f"stalled-{step}.json", plain(diagnosis.as_json()), indent=1)
        return f"{first} (report: {path})"

    def _group_names(self) -> list[str]:
        """By their paths: the groups of a repeated recipe have one name."""
        return [group.path for group in self._groups()]

    def _measure(self, log: RunLog | None, display: ProgressDisplay) -> None:
        self.optimization.check_scale()
        step = self._read
        values = (
            self._window.summary()
            | {names.EPOCH: step / self.order.per_epoch, names.PEAK_MEMORY_BYTES: peak_memory(self._device)}
            | self._skips()
            | self._codes(display)
        )
        rates, groups = values.get(names.RATE_PER_GROUP_NATS_PER_IMAGE), self._group_names()
        if isinstance(rates, list) and len(rates) == len(groups):
            for line in self._collapse.rates(groups, rates, step):
                display.say(line)
        display.show(step, values)
        if log is not None:
            log.write(names.TRAIN, step, values)
        self._saver.note(step, "train", values)

    def _skips(self) -> dict[str, Measurement]:
        guard = self.optimization.guard
        threshold = guard.threshold
        limit: dict[str, Measurement] = {} if threshold is None else {names.GRADIENT_NORM_LIMIT: threshold}
        return limit | {
            names.SKIPPED_STEPS: guard.skipped,
            names.SKIP_STREAK_STEPS: guard.streak,
            names.LONGEST_SKIP_STREAK_STEPS: guard.longest_streak,
        }

    def _codes(self, display: ProgressDisplay) -> dict[str, Measurement]:
        """How the codes of discrete latents were used since this was last asked."""
        levels = usage(self.model)
        for line in self._collapse.codes(levels):
            display.say(line)
        if not levels:
            return {}
        return {
            names.CODES_USED_PER_GROUP_FRACTION: [level.used for level in levels],
            names.CODE_PERPLEXITY_PER_GROUP_CODES: [level.perplexity for level in levels],
        }

    def _do_periodic(
        self, log: RunLog | None, display: ProgressDisplay, stop: StopRequest, at_end: bool = False
    ) -> None:
        """Evaluate and draw what it is time for. One process leaves that when it is to stop, and does it anew later."""
        step = self.optimization.step_number
        for periodic in self.periodic:
            if periodic.every is None or not (at_end or step % periodic.every == 0):
                continue
            if periodic.event in self._saver.measured(step):
                continue
            self._hear(log, display)
            self.model.eval()
            try:
                with stop.at_once() if self.world.size == 1 else nullcontext(), self._weights(periodic.use_ema):
                    values = periodic.action(step)
            except Stopped:
                return
            finally:
                self.model.train()
            self._since = time.perf_counter()
            if values:
                display.show(step, values, periodic.event)
                if log is not None:
                    log.write(periodic.event, step, values)
            if self._saver.note(step, periodic.event, values) and self._saver.keeps_best:
                self._save()

    def _weights(self, use_ema: bool) -> AbstractContextManager[None]:
        ema = self.optimization.ema
        return ema.applied() if use_ema and ema is not None else nullcontext()

    def _new_saver(self) -> Saver:
        return Saver(self.run if self.world.leads else None, self.train.keep, self.train.patience)

    def _save(self, wait: bool = False, at_end: bool = False) -> str:
        """Save, unless the weights may be broken; says what was done.

        What training ends with is saved wherever its loss is a number: earlier checkpoints stay beside it.
        """
        step, newest, guard = self.optimization.step_number, self._saver.saved, self.optimization.guard
        if guard.broken if at_end else guard.doubtful:
            return f"not saved at step {step}, since updates are being skipped"
        if step != newest:
            state = self.optimization.state() | circumstances(self.train, self.world, self._device)
            state[WINDOW] = self._window.state_dict()
            self._saver.save(step, self.optimization.tensors(), state, wait=wait)
        elif wait:
            self._saver.wait()
        return f"saved at step {step}"

    def _tell_of_the_best(self, display: ProgressDisplay) -> None:
        best = self._saver.best
        if self._saver.exhausted and best is not None:
            display.say(
                f"ends at step {self.optimization.step_number}: no validation was better in {best.since} than that of "
                f"step {best.step} ({best.value:.4f})"
            )

    def _say(self, line: str) -> None:
        ProgressDisplay(self._console, 0, None).say(line)
