"""One update of a model and all that it changes: parameters, moments, averages, counts. No data, files or display."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, cast

import torch
from torch import Tensor, nn

from hvdsl.compiler.settings import Budget, Quantile, Train
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.latents.noise import noise_scheme, set_noise_scheme
from hvdsl.runtime.layers.norms import DegenerateBatchError, statistics_held
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.objective.penalties import Penalties
from hvdsl.runtime.quantizers import Quantizer
from hvdsl.runtime.quantizers.usage import CHOSEN, agree, chosen_codes, load_chosen_codes, settle
from hvdsl.runtime.training.folder.checkpoint import Checkpoint, CheckpointError, Tensors
from hvdsl.runtime.training.folder.weights import copy_into, model_tensors
from hvdsl.runtime.training.schedule import Clock, LearningRate
from hvdsl.runtime.training.step.averages import Ema, RunningStatistics
from hvdsl.runtime.training.step.fast_paths import arithmetic, check_precision, gradient_scaler, train_in
from hvdsl.runtime.training.step.graphs import Capture, CapturedStep, Numbers, Rehearsal, capture
from hvdsl.runtime.training.step.guard import (
    SkipGuard,
    TrainingStalledError,
    add_gradients,
    clip_gradients,
    gradient_norm,
)
from hvdsl.runtime.training.step.optimizer import (
    build_optimizer,
    freeze,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
    update,
)
from hvdsl.runtime.training.step.processes import Loss, Measured, P, rehearse, synchronise_batch_norm
from hvdsl.runtime.training.step.recipes import checkpoint_groups
from hvdsl.runtime.training.step.start_from_batch import start_from_batch, starts_from_batch
from hvdsl.runtime.training.step.transfer import Readings

LEAST_SCALE = 2.0**-10
"""Of fp16's loss scale: gradients that overflow below it are no rare large ones."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did.

    Attributes:
        step: Its number, from 0.
        loss: The objective, over the whole batch and all ranks.
        terms: Means over the same: scalars, or one number per latent group.
        gradient_norm: Global, before clipping.
        learning_rate: The rate in force.
        applied: Whether the update was made.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    applied: bool
    terms: Mapping[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Note:
    """What is known of a step when it is launched: its number, its rate, and how many numbers each term has."""

    step: int
    rate: float
    terms: Mapping[str, int]


class Optimization(Generic[P]):
    """A model under training.

    Every step: the gradient of the mean loss over the parts and of the penalties, its global norm, the decision to
    skip, clipping, the update, the average. A skipped step changes neither parameters, moments, averages nor running
    statistics but advances the schedule.

    Args:
        model: Already on its device and initialised. Activation checkpointing, the float32 stream of mixed precision,
            channels-last parameters on accelerators and batch norm over all processes are put in place here, once.
        clock: Turns the schedule's durations into steps.
        penalties: Of the weights, once per step beside the loss of the batch.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Train,
        loss: Loss[P],
        clock: Clock,
        world: World | None = None,
        penalties: Penalties | None = None,
    ) -> None:
        self.model = model
        if next(model.parameters()).device.type != "cpu":
            # What convolutions are fastest in there; input comes in the same layout, and maps in between keep it.
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch states fewer
        self._penalties = penalties
        self.step_number = 0
        self.world = world or World()
        self.rate = LearningRate(train, clock)
        freeze(model, train.groups)
        self.optimizer = build_optimizer(model, train.optimizer, train.groups)
        self.guard = SkipGuard(train.skip_above)
        self.ema = None if train.ema is None else Ema(model, train.ema)
        self._clip, self._clip_each = train.clip, train.clip_each
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._device = self._parameters[0].device
        self._statistics = RunningStatistics(model)
        self._started = not starts_from_batch(model)
        check_precision(train.precision, self._device)
        self._precision = train.precision
        self.scaler = gradient_scaler(train.precision, train.initial_scale, self._device)
        agree(model, self.world)
        together = self._device.type != "cpu" and train.checkpointing == "none"
        train_in(model, train.precision, normalise_together=together)
        self._recomputes = train.checkpointing == "group" and checkpoint_groups(model) > 0
        self._awaits_plan = isinstance(train.checkpointing, Budget)
        if self.world.size > 1:
            synchronise_batch_norm(model)
        self._measure = loss
        self._objective: nn.Module = Measured(model, loss)
        if self.world.size > 1:
            # Emitted models have no control flow: what the first step uses, every step uses. So DDP may learn from the
            # first backward pass which parameters the objective never reaches, instead of searching in each step.
            self._objective = nn.parallel.DistributedDataParallel(self._objective, static_graph=True)
        self._began = False
        self._captured: CapturedStep[P] | None = None
        self._rehearsal: Rehearsal | None = None
        self._refusal_reported = False
        self._readings: Readings[_Note] = Readings(self._device)

    def recompute(self, names: Collection[str]) -> None:
        """Run these recipe instances again in the backward pass: the plan for a budget of bytes."""
        self._recomputes, self._awaits_plan = checkpoint_groups(self.model, names) > 0, False

    def step(self, parts: Sequence[P]) -> StepResult:
        """One step on this rank's share of a batch, given as one part or several; waits for what came of it.

        Raises:
            TrainingStalledError: Too many steps were skipped.
        """
        self.launch(parts)
        *_, result = self.results()
        return result

    def launch(self, parts: Sequence[P]) -> None:
        """Hand one step to the device, without reading anything from it: whether it counts is decided there.

        Where the loss or the norm is not finite, or the norm too large, the update is a masked one that leaves
        parameters, moments, averages, running statistics and codes as they are. Nothing is ever multiplied by a mask,
        since 0 · NaN is NaN.
        """
        if self._awaits_plan:
            raise HvdslError("`checkpointing = budget(…)`: say which recipes are run again for it, by `recompute`")
        if not self._started:
            self._start(parts[0])
        number, rate = self.step_number, self.rate(self.step_number)
        set_learning_rate(self.optimizer, rate)
        with arithmetic(self._precision, self._device):
            if self._captured is None:
                numbers, terms = self._on_device(parts)
            else:
                for scheduled in self._scheduled():
                    scheduled.refill(number)
                phase = self._measure.phase(number) if isinstance(self._measure, Objective) else None
                numbers, terms = self._captured(parts, phase)
        self.step_number += 1
        self._readings.push(_Note(number, rate, terms), numbers)

    def use_graphs(self, record: Capture[Numbers] = capture) -> str | None:
        """From now on launch steps as CUDA graphs; returns the reason where they cannot be.

        Args:
            record: How a step is captured.
        """
        reasons = {
            "graphs are of CUDA devices": self._device.type != "cuda" and record is capture,
            "several processes exchange gradients within a step": self.world.size > 1,
            "fp16 adapts its scale to what a step gave": self.scaler.is_enabled(),
            "activation checkpointing keeps random states on the host": self._recomputes,
            "the use of codes is counted on the host": any(isinstance(m, Quantizer) for m in self.model.modules()),
            "the threshold of skipping follows recent norms": isinstance(self.guard.limit, Quantile),
            "noise of scheme 1 is drawn on the host": noise_scheme(self.model) == 1,
            "several samples of an image are taken one after the other": isinstance(self._measure, Objective)
            and self._measure.settings.samples > 1,
        }
        for reason, holds in reasons.items():
            if holds:
                return reason
        for scheduled in self._scheduled():
            scheduled.scheduled.hold()
        self._rehearsal = Rehearsal(self._device, dict if self._penalties is None else self._penalties.moved)
        forget = partial(self.optimizer.zero_grad, set_to_none=True)
        self._captured = CapturedStep(self._on_device, self._rehearsal, record, forget)
        return None

    def refused_graphs(self) -> str | None:
        """Why a step that was to be a graph could not be captured: told once."""
        captured = self._captured
        if captured is None or captured.refused is None or self._refusal_reported:
            return None
        self._refusal_reported = True
        return captured.refused

    def _on_device(self, parts: Sequence[P]) -> Numbers:
        """Everything of a step that the device does: loss, norm, whether it counts and all terms as one vector."""
        self._statistics.keep()
        terms = self._backward(parts) | self._penalise()
        penalty = terms.pop("penalty", None)
        self.scaler.unscale_(self.optimizer)
        loss = terms.pop("loss") if penalty is None else terms.pop("loss") + penalty
        norm = gradient_norm(self._parameters)
        applied = self.guard.allows(loss, norm)
        if self._rehearsal is not None:
            applied = applied & self._rehearsal.counts
        clip_gradients(self._parameters, norm, self._clip, self._clip_each)
        update(self.optimizer, applied)
        self._statistics.settle(applied)
        settle(self.model, applied)
        if self.ema is not None:
            self.ema.update(applied)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        numbers = [loss, norm, applied, *terms.values()]
        together = torch.cat([value.detach().reshape(-1).float() for value in numbers])
        return together, {name: value.numel() for name, value in terms.items()}

    def _scheduled(self) -> list[Objective | Penalties]:
        """What has numbers of its own that change with the step."""
        return [part for part in (self._measure, self._penalties) if isinstance(part, Objective | Penalties)]

    def results(self, outstanding: int = 0) -> Iterator[StepResult]:
        """What came of the steps that were launched, in order, each once.

        Args:
            outstanding: How many may be left that the device is not done with; for others this waits.

        Raises:
            TrainingStalledError: Too many steps were skipped.
        """
        for note, (loss, norm, applied, *numbers) in self._readings.take(outstanding):
            self.guard.record(bool(applied), norm, loss)
            terms, start = {}, 0
            for name, size in note.terms.items():
                terms[name] = numbers[start : start + size]
                start += size
            yield StepResult(note.step, loss, norm, note.rate, bool(applied), terms)

    def loss_again(self, part: P) -> Tensor:
        """The loss of one part of the last step, computed anew, to look at what went wrong."""
        with arithmetic(self._precision, self._device):
            loss, _ = self._measure(self.model, part, max(0, self.step_number - 1))
        return loss

    def begin_from_weights(self) -> None:
        """Take the model's weights as they are: nothing is derived from a first batch any more."""
        self._started = True

    def check_scale(self) -> None:
        """Refuse to go on where gradients overflow in fp16 whatever they are scaled by.

        Raises:
            TrainingStalledError: The scale has collapsed.
        """
        if self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE:
            raise TrainingStalledError(
                f"the loss scale of fp16 fell to {self.scaler.get_scale():.3g}, and gradients still overflow: train in "
                "`bf16` or `fp32`, or lower `train.optimizer.lr`"
            )

    def tensors(self) -> dict[str, Tensors]:
        """The parts of a checkpoint, by file name."""
        parts: dict[str, Tensors] = {
            "model": model_tensors(self.model),
            "optimizer": optimizer_tensors(self.model, self.optimizer),
        }
        if self.ema is not None:
            parts["ema"] = self.ema.state_dict()
        if self._penalties is not None and (vectors := self._penalties.tensors()):
            parts["penalties"] = vectors
        if chosen := chosen_codes(self.model):
            parts[CHOSEN] = chosen
        return parts

    def state(self) -> dict[str, Any]:
        """The rest of a checkpoint, as JSON. The schedule, the order of the data and all noise follow from the step."""
        return {
            "guard": self.guard.state_dict(),
            "noise_scheme": noise_scheme(self.model),
            "scaler": self.scaler.state_dict(),
            "started_from_batch": self._started,
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, bit for bit; nothing is changed unless all of it fits.

        Raises:
            CheckpointError: It is damaged, belongs to another model, or holds weights only.
        """
        if "optimizer" not in checkpoint:
            raise CheckpointError(
                f"{checkpoint.path} holds weights but no optimizer: it can be evaluated and sampled, not resumed; "
                f"`hvdsl train SPEC --from {checkpoint.path.parent.parent} --out NEW` begins a run with its weights"
            )
        weights = checkpoint.tensors("model", model_tensors(self.model))
        averages = checkpoint.tensors("ema", self.ema.state_dict()) if self.ema is not None else {}
        vectors = {}
        if self._penalties is not None and "penalties" in checkpoint:
            vectors = checkpoint.tensors("penalties", self._penalties.expected(checkpoint.load("penalties")))
        chosen = checkpoint.tensors(CHOSEN, chosen_codes(self.model)) if CHOSEN in checkpoint else {}
        moments, scheme = checkpoint.load("optimizer"), checkpoint.noise_scheme
        guard = SkipGuard(self.guard.limit)
        try:
            guard.load_state_dict(checkpoint.state["guard"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(checkpoint.state["scaler"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the state in {checkpoint.path / 'manifest.json'} is not that of a training run: {error!r}"
            ) from error
        load_optimizer_tensors(self.model, self.optimizer, moments, checkpoint.path)
        copy_into(self.model, weights)
        self.guard = guard
        if self.ema is not None:
            self.ema.load_state_dict(averages)
        if self._penalties is not None and vectors:
            self._penalties.load(vectors)
        load_chosen_codes(self.model, chosen)
        set_noise_scheme(self.model, scheme)
        self._started = self._started or checkpoint.state.get("started_from_batch") is True
        self.step_number = checkpoint.step
        if self._captured is not None:
            self._captured.forget()

    def _backward(self, parts: Sequence[P]) -> dict[str, Tensor]:
        """Gradients of the mean loss over all parts and ranks; the means of the loss and of every term."""
        if self.world.size > 1 and not self._began:
            self._rehearse(parts)
        sums: dict[str, Tensor] = {}
        for part, share, first, last in self._passes(parts):
            held = nullcontext() if first else statistics_held(self.model.modules())
            with held, self._exchange(last):
                loss, terms = self._loss(part)
                torch.autograd.backward(self.scaler.scale(loss * share if share < 1 else loss))
            for name, value in {"loss": loss, **terms}.items():
                weighted = value.detach().float() * share
                sums[name] = sums[name] + weighted if name in sums else weighted
        return self._across_ranks(sums)

    def _rehearse(self, parts: Sequence[P]) -> None:
        """The first passes of this process, which count for nothing: see `rehearse`."""

        def backward() -> None:
            part, *_ = next(self._passes(parts))
            loss, _ = self._loss(part)
            torch.autograd.backward(self.scaler.scale(loss))

        rehearse(backward, self._device)
        nothing = torch.zeros((), dtype=torch.bool, device=self._device)
        self._statistics.settle(nothing)
        settle(self.model, nothing)
        self.optimizer.zero_grad(set_to_none=True)
        self._began = True

    def _passes(self, parts: Sequence[P]) -> Iterator[tuple[P, float, bool, bool]]:
        """Each forward pass of a step with its share of the loss; whether it is the first of its images or the last.

        Batch norms hear of a batch once, however many samples are taken of its latents.
        """
        total = sum(len(part.x) for part in parts)
        for i, part in enumerate(parts):
            share, final = len(part.x) / total, i == len(parts) - 1
            if not isinstance(self._measure, Objective) or not isinstance(part, ModelBatch):
                yield part, share, True, final
                continue
            count = self._measure.passes_of(part)
            for n, piece in enumerate(self._measure.passes(self.model, part)):
                yield cast(P, piece), share * piece.share, n == 0, final and n == count - 1

    def _loss(self, part: P) -> tuple[Tensor, Mapping[str, Tensor]]:
        try:
            loss: tuple[Tensor, Mapping[str, Tensor]] = self._objective(part, self.step_number)
        except DegenerateBatchError as error:
            raise HvdslError(str(error)) from error
        return loss

    def _start(self, part: P) -> None:
        """The phase before the first step: gains and biases from a real batch, where layers ask for it."""
        start_from_batch(self.model, lambda: self._measure(self.model, part, self.step_number), self.world)
        if self.ema is not None:
            self.ema.restart()
        self._started = True

    def _penalise(self) -> dict[str, Tensor]:
        """Add the penalties' gradient to that of the batch; their sum as `penalty`, and their terms.

        All ranks hold the same weights, so nothing is exchanged: DDP has done its part when the batch's gradient is
        there, and leaves alone what is added afterwards.
        """
        penalty, terms = (None, {}) if self._penalties is None else self._penalties(self.step_number)
        if penalty is None:
            return {}
        add_gradients(self.scaler.scale(penalty), self._parameters)
        return {"penalty": penalty.detach(), **terms}

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        """Ranks exchange gradients once per step, with its last part."""
        ddp = self._objective
        if last or not isinstance(ddp, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return ddp.no_sync()

    def _across_ranks(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Means over the ranks, by one exchange for all terms together."""
        if self.world.size == 1:
            return sums
        flat = self.world.sum(torch.cat([value.reshape(-1) for value in sums.values()])) / self.world.size
        means = torch.split(flat, [value.numel() for value in sums.values()])
        return {name: mean.view_as(value) for (name, value), mean in zip(sums.items(), means, strict=True)}
