"""A start of a run: what was asked, what changed since the last one, and the weights that it begins with."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import hvdsl
from hvdsl.compiler.model import Model, structure
from hvdsl.compiler.setting_words import Settings
from hvdsl.compiler.settings import Train
from hvdsl.errors import HvdslError, UsageError
from hvdsl.grammar import print_text
from hvdsl.runtime.data.digest import BLIND_SPOT
from hvdsl.runtime.data.hub import noted_place
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.training.folder.checkpoint import MANIFEST, Checkpoint, CheckpointStore, content_is_whole
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.weights import model_tensors
from hvdsl.workflows.runs import read_model

CHANGES = ("data", "objective")
"""What a run may go on with changed, if its consent is given: `--changed data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is trained from now on.

    Attributes:
        train: The section of the stage that is trained.
        digest: Of the data.
        noise_scheme: None before that is known: of a run that goes on, its checkpoint says it.
    """

    model: Model
    train: Train
    data: Path | None
    digest: str
    device: torch.device
    level: int
    overrides: tuple[str, ...] = ()
    noise_scheme: int | None = None
    weights: Path | None = None

    @property
    def resolved(self) -> str:
        return print_text(self.model.resolved)

    def entry(self, step: int = 0) -> dict[str, Any]:
        """The line of the run's history."""
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "version": hvdsl.__version__,
            "torch": torch.__version__,
            "argv": sys.argv,
            "overrides": list(self.overrides),
            "data": None if self.data is None else noted_place(self.data),
            "data_digest": self.digest,
            "device": str(self.device),
            "world": world().size,
            "precision": self.train.precision,
            "level": self.level,
            "noise_scheme": self.noise_scheme,
            "from_step": step,
        } | ({} if self.weights is None else {"weights": str(self.weights.resolve())})

    def check_ranks(self) -> None:
        """Refuse processes that were started differently.

        Raises:
            HvdslError: It names the rank and what differs.
        """
        world().check_same(
            {
                "data": self.digest[:12],
                "precision": self.train.precision,
                "seed": self.train.seed,
                "spec": hashlib.sha256(self.resolved.encode()).hexdigest()[:12],
                "optimisation level": self.level,
                "version of hvdsl": hvdsl.__version__,
                "version of torch": torch.__version__,
                "kind of device": self.device.type,
            }
        )


def changed_since(run: Run, start: Start) -> dict[str, list[str]]:
    """What of data and objective is not as at the run's last start: sentences by the word that consents to them."""
    before = read_model(run)
    old, new = before.settings, start.model.settings
    data = _differences("data", old.data, new.data, besides=("source",))
    digest = run.history.entries()[-1].get("data_digest")
    if digest is not None and digest != start.digest:
        where = f" at {start.data}" if start.data else ""
        data.append(f"the images{where} are others (digest {start.digest[:12]}, before {str(digest)[:12]})")
    objective = _differences("objective", old.objective, new.objective)
    return {name: lines for name, lines in (("data", data), ("objective", objective)) if lines}


def consent(run: Run, changes: Mapping[str, Sequence[str]], allowed: Sequence[str]) -> list[str]:
    """Return a line to show for each change that is consented to.

    Raises:
        HvdslError: One is not; the message says what to write.
        UsageError: There is no such consent.
    """
    for name in allowed:
        if name not in CHANGES:
            raise UsageError(f"--changed {name}: say what may have changed, {' or '.join(CHANGES)}")
    missing = [name for name in changes if name not in allowed]
    if missing:
        lines = "; ".join(line for name in missing for line in changes[name])
        flags = " ".join(f"--changed {name}" for name in missing)
        raise HvdslError(
            f"{run.folder} would go on with what it was not begun with: {lines}; if that is meant, write {flags}"
        )
    return [f"from here on {line}" for name in changes for line in changes[name]]


def same_structure(run: Run, given: Model) -> bool:
    """Whether a spec describes the model of a run, whatever data and objective it has."""
    own = read_model(run)
    settings = given.settings.model_copy(update={"data": own.settings.data})
    return structure(replace(given, settings=settings)) == structure(own)


def hold(run: Run, held: ExitStack) -> None:
    """Let the first process hold the run's lock until `held` is left, and finish what a killed start left undone.

    Raises:
        LockError: Another process trains the run.
    """
    here = world()
    if here.leads:
        run.check_places()
        held.enter_context(run.lock())
        run.clear_remains()
        run.history.settle()
    here.any(False)  # the others end with the first, where it is refused


def note_start(run: Run, start: Start, step: int) -> None:
    """Write what is asked into the run: a line of its history, and its spec."""
    here = world()
    if here.leads:
        run.history.add(start.entry(step), start.resolved)
    here.any(False)  # nobody goes on before it is there


def unseen(run: Run) -> str | None:
    """What to say where nothing tells whether the data are those that the run began with."""
    if run.history.entries()[-1].get("data_digest") is None:
        return (
            f"{run.folder} has no digest of the data that it was trained on (version 0.1 wrote none), so whether they "
            f"are the same is not known; from now on it has, which does not see {BLIND_SPOT}"
        )
    return None


def _differences(section: str, old: Settings, new: Settings, besides: Sequence[str] = ()) -> list[str]:
    before, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [
        f"`{section}.{key}` is {_shown(now.get(key))}, before {_shown(before.get(key))}"
        for key in now
        if key not in besides and now.get(key) != before.get(key)
    ]


def _shown(value: object) -> str:
    return "not set" if value is None else f"`{value}`"


WRAPPERS = frozenset({"module", "model", "net", "network", "state_dict", "ema_model", "ema"})
"""First parts of names that DistributedDataParallel, Lightning and the like put before a model's own."""
COMPILED = "_orig_mod"
"""What `torch.compile` puts into names, at any place."""
_NAMED = 3  # tensors that a line names; the others it counts


@dataclass(frozen=True, slots=True)
class Match:
    """Which of a model's tensors were found in a source.

    Attributes:
        taken: By the model's names.
        missing: Names of the model's that the source has not.
        reshaped: Names with the shapes there and here.
        unused: Names in the source that the model has not.
    """

    source: Path
    taken: Mapping[str, Tensor]
    missing: list[str]
    reshaped: list[str]
    unused: list[str]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.reshaped)

    def lines(self) -> list[str]:
        """What to say of it."""
        total = len(self.taken) + len(self.missing) + len(self.reshaped)
        count = sum(tensor.numel() for tensor in self.taken.values())
        lines = [f"weights from {self.source}: {len(self.taken)} of the model's {total} tensors ({count:,} numbers)"]
        for names, what in (
            (self.missing, "not there, so as initialised"),
            (self.reshaped, "of another shape there, so as initialised"),
            (self.unused, "there and not in the model"),
        ):
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                lines.append(f"  {what}: {', '.join(names[:_NAMED])}{more}")
        return lines


def take_weights(module: nn.Module, source: Path) -> Match:
    """Copy into a module what of its tensors a source has, by name; averaged weights where there are some.

    Names are matched as they are, then without what wrappers put before or into them.

    Raises:
        HvdslError: The source cannot be read, or has none of the module's tensors.
    """
    own, there = model_tensors(module), _read(source)
    names = {_unwrapped(name, own): name for name in there}
    taken = {name: there[names[name]] for name in own if name in names and there[names[name]].shape == own[name].shape}
    match = Match(
        source,
        taken,
        [name for name in own if name not in names],
        [
            f"{name} {list(there[names[name]].shape)}, here {list(tensor.shape)}"
            for name, tensor in own.items()
            if name in names and name not in taken
        ],
        [theirs for name, theirs in names.items() if name not in own],
    )
    if not taken:
        first = next(iter(there), "nothing")
        raise HvdslError(
            f"{source} has none of the model's tensors: it holds {len(there)}, as `{first}`, and the model has "
            f"`{next(iter(own))}`; published weights are imported by `hvdsl import`"
        )
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    return match


def _unwrapped(name: str, own: Mapping[str, Tensor]) -> str:
    """A name without what wrappers add to it."""
    if name in own:
        return name
    parts = [part for part in name.split(".") if part != COMPILED]
    while ".".join(parts) not in own and len(parts) > 1 and parts[0] in WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def _read(source: Path) -> dict[str, Tensor]:
    if (source / MANIFEST).is_file() and source.name.isdigit():
        return _of_checkpoint(CheckpointStore(source.parent).open(int(source.name)))
    if source.is_dir():
        checkpoint = Run.open(source).checkpoints().latest()
        if checkpoint is None:
            raise HvdslError(f"{source} has no complete checkpoint, and so no weights to begin with")
        return _of_checkpoint(checkpoint)
    if source.suffix != ".safetensors":
        raise HvdslError(
            f"{source} is no run, checkpoint or .safetensors file: published weights of another form are imported by "
            "`hvdsl import`"
        )
    try:
        tensors = load_file(source)
        if content_is_whole(source):
            return tensors
        raise HvdslError(f"{source} is damaged: its content is not what the SHA-256 in its metadata says")
    except (SafetensorError, OSError, ValueError) as error:
        raise HvdslError(f"{source} cannot be read as safetensors ({error})") from error


def _of_checkpoint(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return checkpoint.load("ema" if "ema" in checkpoint else "model")
