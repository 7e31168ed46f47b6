"""Apply `--set name=value` to a merged spec: a top-level `let`, or `section.key` for any setting.

--set width=64    --set train.batch=16    --set train.z_top.batch=16    --set likelihood.bins=exact
--set train.optimizer.lr=1e-3    --set objective.beta.length.n=10
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hvdsl.compiler.assembly.declared import arguments, holder
from hvdsl.compiler.assembly.merge import Layer, lets, merge_settings
from hvdsl.compiler.catalogue.likelihoods import CHOICE
from hvdsl.compiler.catalogue.table import Argument
from hvdsl.compiler.diagnostics.assembly import BAD_OVERRIDE, UNKNOWN_OVERRIDE
from hvdsl.compiler.graph import Term
from hvdsl.compiler.settings import SECTIONS, Train, keys
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostics, Fault
from hvdsl.grammar.printer import print_expression
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.reader import read_expression


def apply_overrides(items: Layer, overrides: Iterable[str], diagnostics: Diagnostics) -> Layer:
    """Return the items with every override applied, in order; record what cannot be in `diagnostics`."""
    for text in overrides:
        with diagnostics.collecting():
            items = _apply_one(items, text)
    return items


def _apply_one(items: Layer, text: str) -> Layer:
    name, equals, written = text.partition("=")
    whole = Source(f"--set {text}", text)
    if not equals or not name.strip() or not written.strip():
        raise Fault(
            BAD_OVERRIDE,
            "this sets nothing",
            Span(whole, 0, len(text)),
            f"`{text}`",
            "`name=value` or `section.key=value`",
            "as in `--set width=64` or `--set train.batch=16`",
        )
    value = read_expression(Source(f"--set {text}", written))
    place = Span(whole, 0, len(name))
    match name.strip().split("."):
        case ["likelihood", *path]:
            return _set_likelihood(items, path, value, place)
        case [let]:
            return _set_let(items, let, value, place)
        case ["train", prior, key, *path] if prior not in keys(Train):
            return _set_setting(items, "train", prior, (key, *path), value, place)
        case [section, *path] if section in SECTIONS:
            return _set_setting(items, section, None, path, value, place)
        case [section, *_]:
            known = [*SECTIONS, "likelihood"]
            help = did_you_mean(section, known)
            raise _unknown(f"there is no section `{section}`", place, "a settings section", help)
    raise TypeError("a split text has a part")


def _unknown(message: str, place: Span, expected: str, help: str) -> Fault:
    return Fault(UNKNOWN_OVERRIDE, message, place, f"`{place.text.strip()}`", expected, help)


def _set_let(items: Layer, name: str, value: tree.Expr, place: Span) -> Layer:
    lets = [item.name.id for item in items if isinstance(item, tree.Let)]
    if name not in lets:
        section = next((kind for kind, model in SECTIONS.items() if name in keys(model)), None)
        help = f"settings take their section's name, as `{section}.{name}`" if section else did_you_mean(name, lets)
        raise _unknown(f"the spec has no `let {name}`", place, "the name of a top-level `let`", help)
    return tuple(
        replace(item, value=value) if isinstance(item, tree.Let) and item.name.id == name else item for item in items
    )


def _set_setting(
    items: Layer, section: str, prior: str | None, path: Sequence[str], value: tree.Expr, place: Span
) -> Layer:
    key, *inner = path
    declared = arguments(SECTIONS[section])
    if key not in declared:
        message = f"`{section}` has no setting `{key}`"
        inside = holder(SECTIONS[section], key)
        help = f"write `{section}.{inside}.{key}`" if inside else did_you_mean(key, declared)
        raise _unknown(message, place, f"a setting of `{section}`", help)
    priors = [item.name.id for item in items if isinstance(item, tree.Prior)]
    if prior is not None and prior not in priors:
        raise _unknown(f"there is no prior `{prior}`", place, "the name of a prior", did_you_mean(prior, priors))
    at = next((i for i, item in enumerate(items) if _is_section(item, section, prior)), None)
    if at is None and section == "data":
        raise _unknown("the spec has no `data` to set", place, "a spec with a `data` section", "add one")
    section_item = items[at] if at is not None else None
    settings = section_item.settings if isinstance(section_item, tree.SettingsNode) else ()
    present = next((s.value for s in settings if s.key.id == key), None)
    new = _put(present, declared[key], inner, value, _Place(place, lets([items])))
    setting = tree.Setting(span=place, key=tree.Name(key, span=place), value=new)
    if at is not None and isinstance(section_item, tree.SettingsNode):
        merged = replace(section_item, settings=merge_settings(settings, (setting,)))
        return (*items[:at], merged, *items[at + 1 :])
    name = tree.Name(prior, span=place) if prior is not None else None
    return (*items, tree.SettingsNode(section, name, (setting,), span=place))  # type: ignore[arg-type]  # a key of SECTIONS


def _is_section(item: tree.SpecItem, section: str, prior: str | None) -> bool:
    if not isinstance(item, tree.SettingsNode) or item.kind != section:
        return False
    name = item.name.id if isinstance(item.name, tree.Name) else None
    return section != "train" or name == prior


def _set_likelihood(items: Layer, path: Sequence[str], value: tree.Expr, place: Span) -> Layer:
    """Set one argument of the likelihood, by its name."""
    for i, item in enumerate(items):
        if isinstance(item, tree.LikelihoodNode):
            new = _put(item.value, CHOICE, path, value, _Place(place, lets([items])))
            return (*items[:i], replace(item, value=new), *items[i + 1 :])
    raise _unknown("the spec has no likelihood to set", place, "a spec with a `likelihood`", "add one")


@record
class _Place(Record):
    """Where an override is written, and the `let`s that may stand for what it changes."""

    span: Span
    lets: Mapping[str, tree.Expr]


def _put(
    present: tree.Expr | None, argument: Argument, path: Sequence[str], value: tree.Expr, place: _Place
) -> tree.Expr:
    """Return an argument's expression with `value` at a path into it: `["lr"]` into `adamw(lr = 1e-3)`."""
    if not path:
        return value
    if present is None and isinstance(argument.default, Term):
        present = tree.Name(argument.default.name, span=place.span)
    for _ in place.lets:
        if isinstance(present, tree.Name) and present.id in place.lets and present.id not in argument.words:
            present = place.lets[present.id]
    head = present.function if isinstance(present, tree.Call) else present
    if not isinstance(head, tree.Name) or head.id not in argument.words:
        written = f"`{print_expression(present)}`" if present is not None else "nothing"
        words = ", ".join(f"`{call.name}(…)`" for call in argument.calls)
        message = f"`{argument.name}` is {written} here, and has no `{path[0]}`"
        raise _unknown(message, place.span, f"one of {words}" if words else "a setting alone", "set it as a whole")
    declared = argument.takes(head.id)
    names = [a.name for a in declared]
    key, *inner = path
    if key not in names:
        help = did_you_mean(key, names) if names else f"`{head.id}` takes no arguments"
        raise _unknown(f"`{head.id}` has no argument `{key}`", place.span, f"an argument of `{head.id}`", help)
    written_arguments = present.arguments if isinstance(present, tree.Call) else ()
    kept: list[tree.ArgumentNode] = []
    before: tree.Expr | None = None
    for position, one in enumerate(written_arguments):
        name = names[position] if one.name is None and position < len(names) else one.name
        if name == key:
            before = one.value
        else:  # positions shift when one is taken out: name those that follow
            kept.append(replace(one, name=name) if before is not None else one)
    new = _put(before, declared[names.index(key)], inner, value, place)
    return tree.Call(head, (*kept, tree.ArgumentNode(key, new, span=place.span)), span=place.span)
