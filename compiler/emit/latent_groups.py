"""The model's list of latents, folded where their paths count up."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hvdsl.compiler.emit import layout
from hvdsl.compiler.emit.constructor import REPEATED
from hvdsl.compiler.emit.names import identifier
from hvdsl.compiler.graph import LatentGroup


def latent_groups(groups: Sequence[LatentGroup]) -> list[str]:
    """`LATENTS = (…)`, in order of generation."""
    lines = ["    LATENTS = ("]
    start = 0
    while start < len(groups):
        stop = _run(groups, start)
        if stop - start >= REPEATED:
            before, number, after = _split(groups[start].path)
            counted = "i" if number == 0 else f"{number} + i"
            path = f'f"{before}{{{counted}}}{after}"'
            entry, turns = _entry(groups[start], path), f"for i in range({stop - start})"
            if len(entry) + len(turns) + 14 <= layout.WIDTH:
                lines.append(f"        *({entry} {turns}),")
            else:
                lines += ["        *(", f"            {entry}", f"            {turns}", "        ),"]
            start = stop
        else:
            lines.append(f"        {_entry(groups[start], _quoted(groups[start].path))},")
            start += 1
    return [*lines, "    )"]


def _entry(group: LatentGroup, path: str) -> str:
    shape = ", ".join(str(int(n)) for n in group.shape)
    return f'LatentGroup("{identifier(group.name)}", {path}, "{identifier(group.family)}", ({shape}))'


def _quoted(path: str) -> str:
    for step in path.split("."):
        if not step.isdigit():
            identifier(step)
    return f'"{path}"'


def _run(groups: Sequence[LatentGroup], start: int) -> int:
    """Where the run of groups ends that differ only in a number that counts up."""
    first = groups[start]
    _quoted(first.path)
    stop = start + 1
    before, number, after = _split(first.path)
    while stop < len(groups):
        group = groups[stop]
        same = (group.name, group.family, group.shape) == (first.name, first.family, first.shape)
        if not same or number < 0 or group.path != f"{before}{number + stop - start}{after}":
            break
        stop += 1
    return stop


def _split(path: str) -> tuple[str, int, str]:
    """A path around its last number: that of the repeated instance. -1 without one."""
    found = re.match(r"(.*\.)(\d+)(\.[^0-9]*)?\Z", path)
    if found is None:
        return path, -1, ""
    return found[1], int(found[2]), found[3] or ""
