"""A start of a run: what was asked, written into the run; what changed since the last one, said and consented to."""

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

import hvdsl
from hvdsl.compiler.model import Model, structure
from hvdsl.compiler.setting_words import Settings
from hvdsl.compiler.settings import Train
from hvdsl.errors import HvdslError, UsageError
from hvdsl.grammar import print_text
from hvdsl.runtime.data.digest import BLIND_SPOT
from hvdsl.runtime.ground.world import world
from hvdsl.runtime.training.folder.run import Run
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
            "data": None if self.data is None else str(self.data.resolve()),
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
