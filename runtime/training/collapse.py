"""Latent groups that say nothing of the image: told once, when they have been so for a while."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.runtime.quantizers.usage import Usage

SILENT_NATS = 0.01
"""A continuous group whose rate is below so many nats per image tells nothing of it."""
SILENT_WINDOWS, CODE_WINDOWS = 10, 2
"""Records in a row after which that is told; of codes fewer, since too few of them in use is plain sooner."""
SILENT_STEPS = 1000
"""Steps that those records must cover at least, or half of the whole run: a record may be of one step."""


class Collapse:
    """Remembers for how many records in a row each group was silent, or its codes too few.

    Args:
        total: Steps of the whole run; None where it has no end.
        start: Steps done before.
    """

    def __init__(self, total: int | None = None, start: int = 0) -> None:
        self._least = SILENT_STEPS if total is None else min(SILENT_STEPS, total / 2)
        self._since: dict[str, int] = {}  # the record before a group became silent, by its step
        self._told: set[str] = set()
        self._last = start
        self._windows: dict[
            tuple[str, str], int
        ] = {}  # by "codes" or "rate", which may hold of one group, and its name

    def codes(self, levels: Sequence[Usage]) -> list[str]:
        """What to say of levels of codes."""
        return [
            level.warning
            for level in levels
            if self._turn("codes", level.level, level.warning is not None) == CODE_WINDOWS and level.warning is not None
        ]

    def rates(self, groups: Sequence[str], rates: Sequence[float | None], step: int) -> list[str]:
        """What to say of continuous groups, once of each while it stays silent.

        Args:
            groups: Their names, in order of generation.
            rates: Nats per image of each, means since the record before.
            step: Of this record.
        """
        silent = []
        for name, rate in zip(groups, rates, strict=True):
            turns = self._turn("rate", name, rate is not None and rate < SILENT_NATS)
            if turns <= 1:
                self._since[name] = self._last
                self._told.discard(name)
            if turns >= SILENT_WINDOWS and step - self._since[name] >= self._least and name not in self._told:
                silent.append(name)
                self._told.add(name)
        self._last = step
        if not silent:
            return []
        oldest = max(self._since[name] for name in silent)
        names = f"group {silent[0]} has" if len(silent) == 1 else f"groups {', '.join(silent)} have"
        return [
            f"{names} collapsed: below {SILENT_NATS} nats per image in every record of the last {step - oldest:,} "
            "steps, so nothing depends on what is inferred there; free bits (`objective { free = at_least(…) }`) or a "
            "slower rise of `beta` keep groups in use"
        ]

    def _turn(self, kind: str, name: str, holds: bool) -> int:
        key = kind, name
        self._windows[key] = self._windows.get(key, 0) + 1 if holds else 0
        return self._windows[key]
