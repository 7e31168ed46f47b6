"""Structural mutations of a spec's text: pure functions of a generator."""

from __future__ import annotations

import random
import re
from collections.abc import Callable


def _flow(line: str) -> list[str]:
    """The steps of a line, apart at arrows that stand in no brackets."""
    parts, depth = [""], 0
    for token in re.split(r"( -> |[(){}\[\]])", line):
        depth += (token in ("(", "{", "[")) - (token in (")", "}", "]"))
        if token == " -> " and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return parts


_HEADS = re.compile(r"^\s*(hv|model|\}|.*\{$)")
_WORD = re.compile(r"\b[a-z_]\w*\b")


def mutate(text: str, other: str, rng: random.Random) -> str:
    """One structural change of a spec: statements dropped, swapped, doubled, taken from another; steps; names."""
    lines = text.splitlines()
    places = [i for i, line in enumerate(lines) if not _HEADS.match(line)]
    i, j = rng.choice(places), rng.choice(places)

    def drop() -> None:
        del lines[i]

    def swap() -> None:
        lines[i], lines[j] = lines[j], lines[i]

    def double() -> None:
        lines.insert(i, lines[i])

    def splice() -> None:
        donor = [line for line in other.splitlines() if not _HEADS.match(line)]
        line = rng.choice(donor)
        if rng.random() < 0.5:
            lines[i] = line
        else:
            lines.insert(i, line)

    def discard() -> None:
        _, _, body = lines[i].partition(" = ")
        space = lines[i][: len(lines[i]) - len(lines[i].lstrip())]
        lines[i] = f"{space}_ = {body or lines[i].strip()}"

    def steps() -> None:
        parts = _flow(lines[i])
        k = rng.randrange(len(parts))
        action = rng.randrange(3)
        if action == 0 and len(parts) > 1:
            del parts[k]
        elif action == 1:
            donors = [p for line in (text + other).splitlines() for p in _flow(line)[1:]]
            parts.insert(k + 1, rng.choice(donors))
        else:
            m = rng.randrange(len(parts))
            parts[k], parts[m] = parts[m], parts[k]
        lines[i] = " -> ".join(parts)

    def rename() -> None:
        words = _WORD.findall(text)
        old, new = rng.choice(words), rng.choice(words)
        if rng.random() < 0.5:
            lines[i] = re.sub(rf"\b{old}\b", new, lines[i])
        else:
            lines[:] = [re.sub(rf"\b{old}\b", new, line) for line in lines]

    changes: tuple[Callable[[], None], ...] = (drop, swap, double, splice, splice, discard, steps, steps, rename)
    rng.choice(changes)()
    return "\n".join(lines) + "\n"
