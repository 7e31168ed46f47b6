"""Weights that others published: read without executing anything, and renamed to a model's by a table of patterns."""

from __future__ import annotations

import pickle  # for its exception only: torch's restricted reader raises it
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hvdsl.errors import HvdslError

_LABEL = re.compile(r"(?<=\.)r\d+(?:x\d+)?(?=\.)")  # of a row, in a parameter's name


class WeightsError(HvdslError):
    """Weights that are not readable, or not this model's."""


class UnknownNameError(WeightsError):
    """A parameter that no rule of a release knows."""


@dataclass(frozen=True, eq=False)
class Rule:
    """A row of the table: the YAML files beside this module say what the fields mean."""

    ours: re.Pattern[str]
    theirs: str
    among: tuple[re.Pattern[str], ...]
    reversed: bool
    spelling: Mapping[str, Mapping[str, str]]  # group name -> text of the group -> published text
    transpose: bool = False


@dataclass(frozen=True)
class Release:
    title: str
    strip: tuple[str, ...]
    entry: str  # of the file, where the tensors are not the file itself
    aliases: tuple[re.Pattern[str], ...]
    names: tuple[str, ...]  # of recipes, bindings and latents, by which the rules find a spec's parameters
    written_in: str  # the shipped file that has them
    rules: tuple[Rule, ...]
    by_place: bool = False  # rows go by their place in the section
    ranked: re.Pattern[str] | None = None  # published names whose number is replaced by its rank
    priors: str = ""  # the table of the second-stage priors that belong to the release


def sources() -> list[str]:
    """Return the names of the releases that weights can be imported from."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in files(__package__).iterdir() if entry.name.endswith(".yaml")
    )


def read_release(source: str) -> Release:
    """Load the table of names of a release.

    Raises:
        WeightsError: there is none of that name.
    """
    if source not in sources():
        raise WeightsError(f"weights cannot be imported from `{source}`: choose one of {', '.join(sources())}")
    raw = yaml.safe_load((files(__package__) / f"{source}.yaml").read_text("utf-8"))
    return Release(
        raw["title"],
        tuple(raw["strip"]),
        raw.get("entry", ""),
        tuple(re.compile(pattern) for pattern in raw.get("aliases", ())),
        tuple(raw["names"]),
        raw["written_in"],
        tuple(_rule(rule) for rule in raw["rules"]),
        by_place=raw.get("rows") == "numbered",
        ranked=re.compile(raw["ranked"]) if "ranked" in raw else None,
        priors=raw.get("priors", ""),
    )


def _rule(raw: Mapping[str, Any]) -> Rule:
    spelling = {
        name: {str(i): word for i, word in enumerate(words)} if isinstance(words, list) else dict(words)
        for name, words in raw.items()
        if name not in ("ours", "theirs", "among", "reversed", "transpose")
    }
    return Rule(
        re.compile(raw["ours"]),
        raw["theirs"],
        tuple(re.compile(pattern) for pattern in raw.get("among", ())),
        raw.get("reversed", False),
        spelling,
        transpose=raw.get("transpose", False),
    )


def published_names(names: Iterable[str], rules: Sequence[Rule], published: Iterable[str] = ()) -> dict[str, str]:
    """Map each of a model's names, given in order of execution, to its published name.

    `published` are the names to choose among, for rules that do.

    Raises:
        UnknownNameError: no rule knows a name: the spec has another structure than the release.
    """
    return {name: theirs for name, (theirs, _) in _matched(names, rules, published).items()}


def _matched(names: Iterable[str], rules: Sequence[Rule], published: Iterable[str] = ()) -> dict[str, tuple[str, Rule]]:
    """The same, with the rule that says so."""
    instances = {id(rule): _instances(rule, published) for rule in rules}
    counted: dict[object, dict[str, int]] = {}
    matches: dict[str, tuple[str, Rule]] = {}
    for name in names:
        for rule in rules:
            match = rule.ours.fullmatch(name)
            if match is None or (rule.among and not instances[id(rule)]):
                continue
            words = {group: rule.spelling.get(group, {}).get(text, text) for group, text in match.groupdict().items()}
            if "instance" in words:
                # Rules that name the same list of the release (`decoder.dec_blocks.`) count the same instances.
                seen = counted.setdefault(rule.among or rule.theirs.partition("{")[0], {})
                number = seen.setdefault(match["instance"], len(seen))
                spelled = rule.spelling.get("instance", {}).get(str(number), str(number))
                words["instance"] = _nth(instances[id(rule)], number) if rule.among else spelled
            matches[name] = rule.theirs.format(**words), rule
            break
        else:
            raise UnknownNameError(f"the spec's parameter {name} has no counterpart in that release")
    return matches


def _instances(rule: Rule, published: Iterable[str]) -> list[str]:
    """What a rule's patterns match of published names, in order."""
    rows: dict[str, tuple[int, list[int]]] = {}
    for name in published:
        for place, pattern in enumerate(rule.among):
            if (match := pattern.match(name)) is not None:
                rows[match[0]] = place, [int(digits) for digits in re.findall(r"\d+", match[0])]
    return sorted(rows, key=rows.__getitem__, reverse=rule.reversed)


def _nth(instances: Sequence[str], number: int) -> str:
    """One of the published instances; beyond them a name that no release has, which is then reported as missing."""
    return instances[number] if number < len(instances) else f"{instances[-1]} + {number + 1 - len(instances)}"


def rename(source: str, names: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published `weights` under a model's `names` (name -> shape, in order of execution), in its shapes.

    Published shapes may differ by axes of length 1, and where the table says so by transposition.

    Raises:
        WeightsError: a tensor is missing, left over, or of another shape; up to five are named.
    """
    rules = read_release(source)
    given = {_strip(key, rules.strip): value for key, value in weights.items()}
    original = {new: key for key, new in _ranked(given, rules.ranked).items()}
    given = {new: given[key] for new, key in original.items()}
    places = _by_place(names) if rules.by_place else {name: name for name in names}
    try:
        published = _matched(places.values(), rules.rules, given)
    except UnknownNameError as error:
        raise WeightsError(f"{error}: is this the right spec? {_wanted_names(rules)}") from None
    wanted = {ours: published[place] for ours, place in places.items()}
    missing = [theirs for theirs, _ in wanted.values() if theirs not in given]
    left = (original[key] for key in set(given) - {theirs for theirs, _ in wanted.values()})
    extra = sorted(key for key in left if not any(alias.fullmatch(key) for alias in rules.aliases))
    wrong = [
        f"{original[theirs]} is {_shape(given[theirs])}, the spec needs {_published_shape(names[ours], rule)}"
        for ours, (theirs, rule) in wanted.items()
        if theirs in given and _essential(_shape(given[theirs])) != _essential(_published_shape(names[ours], rule))
    ]
    problems = [("lack", missing), ("also hold", extra), ("do not fit:", wrong)]
    clauses = [f"{verb} {', '.join(items[:5])}{', …' if len(items) > 5 else ''}" for verb, items in problems if items]
    if clauses:
        hint = f" {_wanted_names(rules)}" if missing and extra else ""  # what a renamed recipe looks like
        raise WeightsError(
            f"the weights {'; they '.join(clauses)}: is this the spec that they were trained with?{hint}"
        )
    return {
        ours: (given[theirs].t() if rule.transpose else given[theirs]).reshape(names[ours])
        for ours, (theirs, rule) in wanted.items()
    }


def _wanted_names(rules: Release) -> str:
    names = ", ".join(f"`{name}`" for name in rules.names)
    return f"Tensors are found by the names of recipes, bindings and latents, as `{rules.written_in}` has them: {names}"


def _ranked(keys: Iterable[str], pattern: re.Pattern[str] | None) -> dict[str, str]:
    """Each published name, with the number that `pattern` finds replaced by its rank among those of the same prefix."""
    keys = list(keys)
    if pattern is None:
        return {key: key for key in keys}
    numbers: dict[str, set[int]] = {}
    matches = {key: pattern.match(key) for key in keys}
    for key, match in matches.items():
        if match is not None:
            numbers.setdefault(key[: match.start(1)], set()).add(int(match[1]))
    ranks = {prefix: {n: i for i, n in enumerate(sorted(seen))} for prefix, seen in numbers.items()}
    return {
        key: key if m is None else f"{key[: m.start(1)]}{ranks[key[: m.start(1)]][int(m[1])]}{key[m.end(1) :]}"
        for key, m in matches.items()
    }


def _by_place(names: Iterable[str]) -> dict[str, str]:
    """Each name with its row's label replaced: `encoder.r256.conv.0` gives `encoder.row0.conv.0`."""
    seen: dict[str, dict[str, int]] = {}

    def place(match: re.Match[str]) -> str:
        rows = seen.setdefault(match.string[: match.start()], {})
        return f"row{rows.setdefault(match[0], len(rows))}"

    return {name: _LABEL.sub(place, name, count=1) for name in names}


def _strip(key: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        key = key.removeprefix(prefix)
    return key


def _shape(tensor: object) -> tuple[int, ...]:
    return tuple(getattr(tensor, "shape", ()))


def _published_shape(shape: tuple[int, ...], rule: Rule) -> tuple[int, ...]:
    """A model's shape as the release has it, but for axes of length 1."""
    return _essential(shape)[::-1] if rule.transpose else shape


def _essential(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


# torch's reader trusts the structure of a file and refuses only what it names: damage surfaces as almost anything.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


class _Record:
    """What stands for an `argparse.Namespace` in a training checkpoint: its attributes, and no behaviour."""


def read_weights(path: Path, entry: str = "") -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file, or of a `.th`/`.pt` file through torch's restricted reader.

    That reader runs nothing: it makes tensors, plain values and records of options, and refuses whatever else a file
    asks for. `entry` names the state dict within a training checkpoint; a file that is a state dict is taken as it is.

    Raises:
        WeightsError: not readable, or it holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_inflated(path)
        with torch.serialization.safe_globals([(_Record, "argparse.Namespace")]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of no concern to who asked for tensors
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist: give the published weights file") from error
    except _UNREADABLE as error:
        raise WeightsError(_refusal(path, error)) from error
    if isinstance(loaded, dict) and isinstance(loaded.get(entry), dict):
        loaded = loaded[entry]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in loaded.items()):
        raise WeightsError(f"{path} is not a state dict: it should hold named tensors only")
    return loaded


def _refuse_inflated(path: Path) -> None:
    """Refuse an archive that would unpack to more than its own length: `torch.save` never compresses."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        inside = sum(entry.file_size for entry in archive.infolist())
    length = path.stat().st_size
    if inside > length:
        raise WeightsError(f"{path} is refused: it is {length:,} bytes long and says that it holds {inside:,}")


def _refusal(path: Path, error: Exception) -> str:
    """Why a file was refused. torch's own words recommend to execute it, so they are not repeated."""
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused is not None:
        return f"{path} is refused: it asks for `{refused[1]}`, and nothing but tensors and plain values is ever read"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{path} cannot be read: {error.strerror}"
    return (
        f"{path} is damaged or of another form: it should be a .safetensors file, or named tensors as `torch.save` "
        "writes them; download it again"
    )
