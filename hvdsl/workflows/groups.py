"""Which latent groups a person means: by place, name or resolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hvdsl.errors import UsageError
from hvdsl.runtime.latents import LatentGroup


def group_names(groups: Sequence[LatentGroup]) -> list[str]:
    """Return a name for each group: as in the spec, or its path where the spec draws it in several places."""
    times = Counter(group.name for group in groups)
    return [group.name if times[group.name] == 1 else group.path for group in groups]


def select_groups(groups: Sequence[LatentGroup], text: str, option: str) -> list[int]:
    """Return the places of the groups that `text` means, in order of generation.

    Parts are parted by commas. Each is a place (`3`, or `-1` for the last), a range of places (`0:10`), a name or path
    as `hvdsl info` shows it (`z`, `decoder.r8.layer.0.z`, also the beginning of a path: `decoder.r8`), the n-th group
    of a name (`z.3`, from 0), or a resolution (`8x8`).

    Raises:
        UsageError: there is no such group.
    """
    places: set[int] = set()
    for part in (word.strip() for word in text.split(",")):
        found = _places(groups, part)
        if not found:
            names = group_names(groups)
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise UsageError(
                f"{option} {text}: the model has no latent group `{part}`; it has {len(groups)}, which are {shown}: "
                "give a place (0), a range (0:10), a name or a resolution (8x8)"
            )
        places.update(found)
    return sorted(places)


def at_resolution(groups: Sequence[LatentGroup], text: str) -> list[int]:
    """Return the places of the groups at a resolution, `8` or `8x8`."""
    sides = text.split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) > 2:
        return []
    size = (int(sides[0]), int(sides[-1]))
    return [place for place, group in enumerate(groups) if group.shape[1:] == size]


def _places(groups: Sequence[LatentGroup], part: str) -> list[int]:
    everywhere = range(len(groups))
    first, colon, last = part.partition(":")
    if colon and all(_whole(end) or not end for end in (first, last)):
        return list(everywhere[int(first) if first else None : int(last) if last else None])
    if _whole(part):
        return [everywhere[int(part)]] if -len(groups) <= int(part) < len(groups) else []
    named = [i for i in everywhere if part in (groups[i].name, groups[i].path)]
    if not named and part:
        named = [i for i in everywhere if groups[i].path.startswith(f"{part}.")]
    name, _, number = part.rpartition(".")
    if not named and number.isdecimal():
        of_name = [i for i in everywhere if groups[i].name == name]
        named = of_name[int(number) : int(number) + 1]
    return named or (at_resolution(groups, part) if "x" in part else [])


def _whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
