"""Latent groups that say nothing of the image: told once, when they have been so for a while."""

from __future__ import annotations

from collections.abc import Sequence

from hvdsl.runtime.quantizers.usage import Usage

SILENT_NATS = 0.01
"""A continuous group whose rate is below so many nats per image tells nothing of it."""
SILENT_WINDOWS, CODE_WINDOWS = 10, 2
"""Records in a row after which that is told; of codes fewer, since too few of them in use is plain sooner."""


class Collapse:
    """Remembers for how many records in a row each group was silent, or its codes too few."""

    def __init__(self) -> None:
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

    def rates(self, groups: Sequence[str], rates: Sequence[float | None]) -> list[str]:
        """What to say of continuous groups.

        Args:
            groups: Their names, in order of generation.
            rates: Nats per image of each, means since the record before.
        """
        silent = []
        for name, rate in zip(groups, rates, strict=True):
            if self._turn("rate", name, rate is not None and rate < SILENT_NATS) == SILENT_WINDOWS:
                silent.append(name)
        if not silent:
            return []
        names = f"group {silent[0]} has" if len(silent) == 1 else f"groups {', '.join(silent)} have"
        return [
            f"{names} collapsed: below {SILENT_NATS} nats per image in each of the last {SILENT_WINDOWS} records, so "
            "nothing depends on what is inferred there; free bits (`objective { free = at_least(…) }`) or a slower "
            "rise of `beta` keep groups in use"
        ]

    def _turn(self, kind: str, name: str, holds: bool) -> int:
        key = kind, name
        self._windows[key] = self._windows.get(key, 0) + 1 if holds else 0
        return self._windows[key]
