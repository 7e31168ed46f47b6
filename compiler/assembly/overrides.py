"""Apply `--set name=value` to a merged spec: a top-level `let`, or `section.key` for any setting.

--set width=64    --set train.batch=16    --set train.z_top.batch=16    --set likelihood.bins=exact
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pydantic import BaseModel

from hvdsl.compiler.assembly.merge import Layer, merge_settings
from hvdsl.compiler.catalogue.likelihoods import LIKELIHOODS
from hvdsl.compiler.diagnostics.assembly import BAD_OVERRIDE, UNKNOWN_OVERRIDE
from hvdsl.compiler.settings import SECTIONS, keys
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, SpecError
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.reader import read_expression


def apply(items: Layer, overrides: Iterable[str], found: Diagnostics) -> Layer:
    """Return the items with every override applied, in order; record what cannot be in `found`."""
    for text in overrides:
        name, equals, written = text.partition("=")
        name = name.strip()
        whole = Source(f"--set {text}", text)
        place = Span(whole, 0, len(text))
        if not equals or not name or not written.strip():
            found.add(
                Diagnostic(
                    BAD_OVERRIDE,
                    "this sets nothing",
                    place,
                    found=f"`{text}`",
                    expected="`name=value` or `section.key=value`",
                    help="as in `--set width=64` or `--set train.batch=16`",
                )
            )
            continue
        try:
            value = read_expression(Source(f"--set {text}", written))
        except SpecError as error:
            for diagnostic in error.diagnostics:
                found.add(diagnostic)
            continue
        items = _apply_one(items, name.split("."), value, Span(whole, 0, len(text.partition("=")[0])), found)
    return items


def _apply_one(items: Layer, path: list[str], value: tree.Expr, at: Span, found: Diagnostics) -> Layer:
    match path:
        case [name]:
            return _set_let(items, name, value, at, found)
        case ["likelihood", key]:
            return _set_likelihood(items, key, value, at, found)
        case [section, key] if section in SECTIONS:
            return _set_setting(items, section, None, key, value, at, found)
        case ["train", prior, key]:
            return _set_setting(items, "train", prior, key, value, at, found)
    known = [*SECTIONS, "likelihood"]
    found.add(_unknown(f"there is no section `{path[0]}`", at, "a settings section", did_you_mean(path[0], known)))
    return items


def _unknown(message: str, at: Span, expected: str, help: str) -> Diagnostic:
    return Diagnostic(UNKNOWN_OVERRIDE, message, at, found=f"`{at.text.strip()}`", expected=expected, help=help)


def _set_let(items: Layer, name: str, value: tree.Expr, at: Span, found: Diagnostics) -> Layer:
    lets = [item.name.id for item in items if isinstance(item, tree.Let)]
    if name not in lets:
        help = (
            f"settings take their section's name, as `train.{name}`"
            if name in _all_keys()
            else did_you_mean(name, lets)
        )
        found.add(_unknown(f"the spec has no `let {name}`", at, "the name of a top-level `let`", help))
        return items
    return tuple(
        replace(item, value=value) if isinstance(item, tree.Let) and item.name.id == name else item for item in items
    )


def _all_keys() -> set[str]:
    return {key for model in SECTIONS.values() for key in keys(model)}


def _set_setting(
    items: Layer, section: str, prior: str | None, key: str, value: tree.Expr, at: Span, found: Diagnostics
) -> Layer:
    model: type[BaseModel] = SECTIONS[section]
    if key not in keys(model):
        message = f"`{section}` has no setting `{key}`"
        found.add(_unknown(message, at, f"a setting of `{section}`", did_you_mean(key, keys(model))))
        return items
    priors = [item.name.id for item in items if isinstance(item, tree.Prior)]
    if prior is not None and prior not in priors:
        found.add(_unknown(f"there is no prior `{prior}`", at, "the name of a prior", did_you_mean(prior, priors)))
        return items
    setting = tree.Setting(span=at, key=tree.Name(key, span=at), value=value)
    for i, item in enumerate(items):
        if isinstance(item, tree.Settings) and item.kind == section and _named(item, prior):
            merged = replace(item, settings=merge_settings(item.settings, (setting,)))
            return (*items[:i], merged, *items[i + 1 :])
    if section == "data":
        found.add(_unknown("the spec has no `data` to set", at, "a spec with a `data` section", "add one"))
        return items
    name = tree.Name(prior, span=at) if prior is not None else None
    return (*items, tree.Settings(section, name, (setting,), span=at))  # type: ignore[arg-type]  # a key of SECTIONS


def _named(item: tree.Settings, prior: str | None) -> bool:
    if item.kind != "train":
        return True
    name = item.name.id if isinstance(item.name, tree.Name) else None
    return name == prior


def _set_likelihood(items: Layer, key: str, value: tree.Expr, at: Span, found: Diagnostics) -> Layer:
    """Set one argument of the likelihood, by its name."""
    for i, item in enumerate(items):
        if not isinstance(item, tree.Likelihood):
            continue
        written = item.value
        head = written.function if isinstance(written, tree.Call) else written
        entry = LIKELIHOODS.get(head.id) if isinstance(head, tree.Name) else None
        if entry is None:
            break
        known = [a.name for a in entry.arguments]
        if key not in known:
            message = f"`{entry.name}` has no argument `{key}`"
            found.add(_unknown(message, at, f"an argument of `{entry.name}`", did_you_mean(key, known)))
            return items
        arguments = written.arguments if isinstance(written, tree.Call) else ()
        kept = [a for j, a in enumerate(arguments) if a.name != key and not (a.name is None and known.index(key) == j)]
        named = [  # positions shift when one is taken out: name those that follow
            replace(a, name=known[j]) if a.name is None and j > known.index(key) and j < len(known) else a
            for j, a in enumerate(arguments)
            if a in kept
        ]
        call = tree.Call(head, (*named, tree.Argument(key, value, span=at)), span=written.span)
        return (*items[:i], replace(item, value=call), *items[i + 1 :])
    found.add(_unknown("the spec has no likelihood to set", at, "a spec with a `likelihood`", "add one"))
    return items
