"""Which parameters a pattern of `train { groups = … }` means: of a spec's graph and of a built module alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from hvdsl.compiler.settings import ParameterGroup


def grouped(names: Iterable[str], groups: Mapping[str, ParameterGroup]) -> dict[str, list[str]]:
    """Return the names of the parameters that each pattern is for, in order: the first pattern that matches has one.

    A pattern is a whole name or the path of what holds it, with `*` for any run of characters, dots included:
    `encoder`, `decoder.r8.*`, `*.bias`.
    """
    found: dict[str, list[str]] = {pattern: [] for pattern in groups}
    for name in names:
        own = next((p for p in groups if fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*")), None)
        if own is not None:
            found[own].append(name)
    return found
