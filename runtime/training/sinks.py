"""Where measurements and pictures of a run go: its folder, and beside it whatever a person looks at them with.

A sink is TensorBoard, Weights & Biases, an object of one's own, or what another package offers under the entry point
`hvdsl.sinks`. All of them hear the same, from the first process alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from PIL import Image

from hvdsl.compiler.settings import ModelSettings
from hvdsl.errors import UsageError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.disk import writing
from hvdsl.runtime.training.folder.logs import Measurement, MetricsLog
from hvdsl.runtime.training.folder.run import RESOLVED, Run

ENTRY_POINTS = "hvdsl.sinks"
NOTHING = "none"


@dataclass(frozen=True, slots=True)
class SinkRun:
    """What a sink is told of the run when it is opened.

    Attributes:
        folder: The run folder.
        spec: The text of the resolved spec; empty where there is none.
        settings: The resolved settings, as JSON has them.
        groups: Of each latent group, in order of generation, its name and shape: `z 16x8x8`.
        step: Steps done before; what was told of later ones is to be forgotten, since it is measured again.
    """

    folder: Path
    spec: str
    settings: Mapping[str, Any]
    groups: tuple[str, ...]
    step: int


class Sink:
    """Hears of everything that is measured or drawn while a model trains; one of your own overrides what it wants.

    Examples:
        >>> class Curve(hvdsl.Sink):
        ...     def write(self, event, step, values):
        ...         print(event, step, values.get("bits_per_dim"))
        >>> hvdsl.train("vdvae_digits", steps=200, sinks=[Curve()])
    """

    def write(self, event: str, step: int, values: Mapping[str, Measurement]) -> None:
        """Take a record as it stands in `metrics.jsonl`, but for NaN, which stays NaN.

        Args:
            event: `train`, `validation`, …
            values: Numbers, and lists with a number for each latent group, by the names of `docs/objective.md`.
        """

    def picture(self, name: str, step: int, picture: Image.Image) -> None:
        """Take a picture: `samples`, `reconstructions`, `rate_per_group`."""

    def close(self) -> None:
        """Training, of a stage where there are several, has ended, well or not."""


Factory = Callable[[SinkRun], Sink]


class TensorBoard(Sink):
    """Curves, one for each latent group too, and pictures, by TensorBoard's own writer, in `events/`."""

    def __init__(self, run: SinkRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = run.step + 1 if run.step else None  # what a resumed run measures again
        self._writer: Any = SummaryWriter(str(run.folder / "events"), purge_step=purge)
        self._groups = [f"{i:03d}_{label.replace(' ', '_')}" for i, label in enumerate(run.groups)]
        if run.spec:
            self._writer.add_text("spec", "\n".join(f"    {line}" for line in run.spec.splitlines()), run.step)
        self._writer.add_custom_scalars(_charts())

    def write(self, event: str, step: int, values: Mapping[str, Measurement]) -> None:
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{event}/{name}", value, step)
            elif isinstance(value, Sequence) and not isinstance(value, str):
                for i, number in enumerate(value):
                    if number is not None:
                        group = self._groups[i] if len(value) == len(self._groups) else f"{i:03d}"
                        self._writer.add_scalar(f"{event}_{name}/{group}", number, step)
        self._writer.flush()

    def picture(self, name: str, step: int, picture: Image.Image) -> None:
        import numpy as np

        self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _charts() -> dict[str, dict[str, list[Any]]]:
    """What TensorBoard's "custom scalars" show together."""
    rates = names.RATE_PER_GROUP_NATS_PER_IMAGE
    both = [f"{event}/{names.BITS_PER_DIM}" for event in ("train", "validation")]
    parts = [f"train/{name}" for name in (names.DISTORTION_NATS_PER_DIM, names.RATE_NATS_PER_DIM)]
    return {
        "bound": {"bits per dimension": ["Multiline", both], "distortion and rate": ["Multiline", parts]},
        "latent groups": {"rate, nats per image": ["Multiline", [f"train_{rates}/.*"]]},
        "gradient": {"norm and skips": ["Multiline", [f"train/{names.GRADIENT_NORM}", f"train/{names.SKIPPED_STEPS}"]]},
    }


class WeightsAndBiases(Sink):
    """The same in Weights & Biases; project, entity and mode are its own variables (`WANDB_MODE=offline`)."""

    def __init__(self, run: SinkRun) -> None:
        import wandb

        self._wandb: Any = wandb
        folder = run.folder / "events"
        folder.mkdir(exist_ok=True)
        name_of = hashlib.sha256(str(run.folder.resolve()).encode())
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "hvdsl"),
            name=run.folder.name,
            id=name_of.hexdigest()[:16],  # the same for the same folder: a resumed run goes on with its own
            resume="allow",
            dir=str(folder),
            config={**run.settings, "groups": list(run.groups)},
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, event: str, step: int, values: Mapping[str, Measurement]) -> None:
        flat: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, Sequence) and not isinstance(value, str):
                flat |= {f"{event}/{name}/{i:03d}": n for i, n in enumerate(value) if n is not None}
            elif value is not None:
                flat[f"{event}/{name}"] = value
        self._run.log({"step": step, **flat})

    def picture(self, name: str, step: int, picture: Image.Image) -> None:
        self._run.log({"step": step, f"pictures/{name}": self._wandb.Image(picture)})

    def close(self) -> None:
        self._run.finish()


OWN: dict[str, Factory] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
"""Sinks of ours, by the name of the module that each needs and of the extra that brings it."""


@dataclass(frozen=True, slots=True)
class Sinks:
    """Sinks that are asked for.

    Attributes:
        named: Name and what opens it.
        own: Objects of the caller's, open already.
        note: What to tell of those that nobody asked for.
    """

    named: tuple[tuple[str, Factory], ...] = ()
    own: tuple[Sink, ...] = ()
    note: str = ""


def find_sinks(wanted: Sequence[str | Sink] | None) -> Sinks:
    """What is asked for; where nothing is, TensorBoard if it is installed.

    Raises:
        UsageError: There is nothing of that name, or what it needs is not installed.
    """
    if wanted is None:
        if installed("tensorboard"):
            return Sinks((("tensorboard", TensorBoard),))
        return Sinks(note="measurements go to metrics.jsonl; `pip install 'hvdsl[tensorboard]'` also brings curves")
    if NOTHING in wanted and len(wanted) > 1:
        raise UsageError(f"`{NOTHING}` means no sink at all: leave it out, or the others")
    names = [sink for sink in wanted if isinstance(sink, str) and sink != NOTHING]
    return Sinks(tuple(_named(name) for name in names), tuple(s for s in wanted if not isinstance(s, str)))


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _named(name: str) -> tuple[str, Factory]:
    if name in OWN:
        if not installed(name):
            raise UsageError(f"the sink `{name}` is not installed: `pip install 'hvdsl[{name}]'`")
        return name, OWN[name]
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in offered:
        known = ", ".join(sorted({*OWN, *offered, NOTHING}))
        raise UsageError(f"there is no sink `{name}`; there are {known}")
    factory: Factory = offered[name].load()
    return name, factory


class RunLog:
    """Everything that hears of one training: the run folder first, then its sinks.

    A sink that was named and fails is told of and left out from there on: no service that is away ends a training.
    What an object of one's own raises ends it, since that may be meant.
    """

    def __init__(
        self,
        run: Run,
        settings: ModelSettings,
        groups: tuple[str, ...],
        step: int,
        sinks: Sinks,
        tell: Callable[[str], None],
    ) -> None:
        self._pictures, self._metrics, self._tell = run.pictures, MetricsLog(run.metrics_path), tell
        self._own, self._named = sinks.own, dict[str, Sink]()
        if sinks.note:
            tell(sinks.note)
        spec = run.spec() if (run.folder / RESOLVED).is_file() else ""
        sink_run = SinkRun(run.folder, spec, settings.model_dump(mode="json", by_alias=True), groups, step)
        for name, opened in sinks.named:
            try:
                self._named[name] = opened(sink_run)
            except Exception as error:
                self._failed(name, error)

    def write(self, event: str, step: int, values: Mapping[str, Measurement]) -> None:
        """Add one record.

        Raises:
            DiskError: `metrics.jsonl` cannot be written.
        """
        self._metrics.write(event, step, values)
        self._each(lambda sink: sink.write(event, step, values))

    def picture(self, name: str, step: int, picture: Image.Image, *, numbered: bool = True) -> None:
        """Write `pictures/<name>-<step>.png`, or without a number over the one before.

        Raises:
            DiskError: It cannot be written.
        """
        file = f"{name}-{step}.png" if numbered else f"{name}.png"
        with writing(self._pictures / file) as stream:
            picture.save(stream, format="PNG")
        self._each(lambda sink: sink.picture(name, step, picture))

    def close(self) -> None:
        self._each(lambda sink: sink.close())

    def _each(self, act: Callable[[Sink], None]) -> None:
        for name, sink in list(self._named.items()):
            try:
                act(sink)
            except Exception as error:
                del self._named[name]
                self._failed(name, error)
        for sink in self._own:
            act(sink)

    def _failed(self, name: str, error: Exception) -> None:
        reason = " ".join(str(error).split())[:200]
        self._tell(f"the sink `{name}` is left out from here on, since it failed: {type(error).__name__}: {reason}")
