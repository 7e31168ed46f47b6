"""The model's list of latents, folded where their paths count up."""

from __future__ import annotations

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
        inner, place = _run(groups, start)
        outer, above = _blocks(groups, start, inner)
        if inner * outer < REPEATED:
            inner, place, outer, above = 1, -1, 1, -1
        lines += _folded(groups[start], (outer, above), (inner, place))
        start += inner * outer
    return [*lines, "    )"]


def _folded(first: LatentGroup, outer: tuple[int, int], inner: tuple[int, int]) -> list[str]:
    """One entry, or a comprehension over one or two numbers of the path."""
    steps = first.path.split(".")
    turns, names = [], iter("ij")
    for count, place in (outer, inner):
        if count > 1:
            variable, base = next(names), int(steps[place])
            steps[place] = "{" + (variable if base == 0 else f"{base} + {variable}") + "}"
            turns.append(f"for {variable} in range({count})")
    path = ".".join(step if step[0] == "{" or step.isdigit() else identifier(step) for step in steps)
    shape = ", ".join(str(int(n)) for n in first.shape)
    quoted = f'f"{path}"' if turns else f'"{path}"'
    entry = f'LatentGroup("{identifier(first.name)}", {quoted}, "{identifier(first.family)}", ({shape}){_codes(first)})'
    if not turns:
        return [f"        {entry},"]
    flat = f"        *({' '.join([entry, *turns])}),"
    if len(flat) <= layout.WIDTH:
        return [flat]
    return ["        *(", f"            {entry}", *(f"            {turn}" for turn in turns), "        ),"]


def _codes(group: LatentGroup) -> str:
    """What only a discrete latent has."""
    if group.codes is None:
        return ""
    depth = f", depth={int(group.depth)}" if group.depth > 1 else ""
    return f", codes={int(group.codes)}{depth}"


def _run(groups: Sequence[LatentGroup], start: int) -> tuple[int, int]:
    """How many groups from `start` differ only in one number of the path that counts up, and which number."""
    place = _counting(groups[start], groups[start + 1], 1) if start + 1 < len(groups) else None
    if place is None:
        return 1, -1
    length = 2
    while start + length < len(groups) and _counting(groups[start], groups[start + length], length) == place:
        length += 1
    return length, place


def _blocks(groups: Sequence[LatentGroup], start: int, length: int) -> tuple[int, int]:
    """How often such a run follows on itself, with another number that counts up."""

    def place(block: int) -> int | None:
        at = start + block * length
        if at + length > len(groups):
            return None
        places = {_counting(groups[start + i], groups[at + i], block) for i in range(length)}
        return places.pop() if len(places) == 1 else None

    first = place(1) if length > 1 else None
    if first is None:
        return 1, -1
    count = 2
    while place(count) == first:
        count += 1
    return count, first


def _counting(first: LatentGroup, other: LatentGroup, by: int) -> int | None:
    """Which number of the path is larger by `by`, where nothing else differs."""
    if (first.name, first.family, first.shape, _codes(first)) != (other.name, other.family, other.shape, _codes(other)):
        return None
    a, b = first.path.split("."), other.path.split(".")
    places = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    if len(a) != len(b) or len(places) != 1:
        return None
    x, y = a[places[0]], b[places[0]]
    return places[0] if x.isdigit() and y.isdigit() and int(y) == int(x) + by else None
