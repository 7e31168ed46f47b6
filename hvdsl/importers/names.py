"""Published parameter names to a compiled model's, by a table of patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TypeVar

import yaml

from hvdsl.errors import HvdslError

Tensor = TypeVar("Tensor")


class WeightsError(HvdslError):
    """Weights that are not readable, or not this model's."""


@dataclass(frozen=True)
class Rule:
    """A row of the table: the YAML files beside this module say what the fields mean."""

    ours: re.Pattern[str]
    theirs: str
    spelling: Mapping[str, Mapping[str, str]]  # group name -> text of the group -> published text


@dataclass(frozen=True)
class Table:
    title: str
    strip: tuple[str, ...]
    rules: tuple[Rule, ...]


def sources() -> list[str]:
    """Return the names of the releases that weights can be imported from."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in files(__package__).iterdir() if entry.name.endswith(".yaml")
    )


def table(source: str) -> Table:
    """Load the table of a release.

    Raises:
        WeightsError: there is none of that name.
    """
    if source not in sources():
        raise WeightsError(f"weights cannot be imported from `{source}`: choose one of {', '.join(sources())}")
    raw = yaml.safe_load((files(__package__) / f"{source}.yaml").read_text("utf-8"))
    return Table(raw["title"], tuple(raw["strip"]), tuple(_rule(rule) for rule in raw["rules"]))


def _rule(raw: Mapping[str, str | list[str] | dict[str, str]]) -> Rule:
    spelling = {
        name: {str(i): word for i, word in enumerate(words)} if isinstance(words, list) else dict(words)
        for name, words in raw.items()
        if not isinstance(words, str)
    }
    return Rule(re.compile(str(raw["ours"])), str(raw["theirs"]), spelling)


def published_names(names: Iterable[str], rules: Sequence[Rule]) -> dict[str, str]:
    """Map each of a model's names, given in order of execution, to its published name.

    Raises:
        WeightsError: no rule knows a name: the spec has another structure than the release.
    """
    counted: dict[str, dict[str, int]] = {}
    found: dict[str, str] = {}
    for name in names:
        for rule in rules:
            match = rule.ours.fullmatch(name)
            if match is None:
                continue
            words = {group: rule.spelling.get(group, {}).get(text, text) for group, text in match.groupdict().items()}
            if "instance" in words:
                # Rules that name the same list of the release (`decoder.dec_blocks.`) count the same instances.
                seen = counted.setdefault(rule.theirs.partition("{")[0], {})
                number = str(seen.setdefault(match["instance"], len(seen)))
                words["instance"] = rule.spelling.get("instance", {}).get(number, number)
            found[name] = rule.theirs.format(**words)
            break
        else:
            raise WeightsError(
                f"the spec's parameter {name} has no counterpart in that release: is this the right spec?"
            )
    return found


def rename(source: str, names: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published `weights` under a model's `names` (name -> shape, in order of execution).

    Shapes may differ by axes of length 1 only.

    Raises:
        WeightsError: a tensor is missing, left over, or of another shape; up to five are named.
    """
    rules = table(source)
    given = {_strip(key, rules.strip): value for key, value in weights.items()}
    wanted = published_names(names, rules.rules)
    missing = [theirs for theirs in wanted.values() if theirs not in given]
    extra = sorted(set(given) - set(wanted.values()))
    wrong = [
        f"{theirs} is {_shape(given[theirs])}, the spec needs {names[ours]}"
        for ours, theirs in wanted.items()
        if theirs in given and _essential(_shape(given[theirs])) != _essential(names[ours])
    ]
    problems = [("lack", missing), ("also hold", extra), ("do not fit:", wrong)]
    told = [f"{verb} {', '.join(items[:5])}{', …' if len(items) > 5 else ''}" for verb, items in problems if items]
    if told:
        raise WeightsError(f"the weights {'; they '.join(told)}: is this the spec that they were trained with?")
    return {ours: given[theirs] for ours, theirs in wanted.items()}


def _strip(key: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        key = key.removeprefix(prefix)
    return key


def _shape(tensor: object) -> tuple[int, ...]:
    return tuple(getattr(tensor, "shape", ()))


def _essential(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
