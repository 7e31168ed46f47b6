"""Counts and sizes in few digits, as tables, drawings and messages show them."""

from __future__ import annotations

from collections.abc import Sequence


def abbreviated(count: int) -> str:
    """Return a count with a decimal prefix and three digits: `2.36 M`."""
    return _with_prefix(count, 1000, ("", " k", " M", " G", " T", " P"))


def in_bytes(count: int) -> str:
    """Return a size with a binary prefix and three digits, or as many as it has: `82.3 MiB`, `1 KiB`."""
    return _with_prefix(count, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def _with_prefix(count: int, base: int, prefixes: Sequence[str]) -> str:
    value, place = float(count), 0
    while value >= base and place < len(prefixes) - 1:
        value /= base
        place += 1
    whole = base == 1024 and value.is_integer()
    digits = 0 if whole or place == 0 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}{prefixes[place]}"
