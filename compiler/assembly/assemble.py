"""Make one closed spec of everything that a spec names: used files, what it extends, a variant, overrides.

The merged tree prints as a spec of its own (`resolved.hv`), and assembles to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hvdsl import grammar
from hvdsl.compiler.assembly import overrides as override
from hvdsl.compiler.assembly.files import find, locate, variants_of
from hvdsl.compiler.assembly.libraries import Defined, Need, check_needs, resolved, under
from hvdsl.compiler.assembly.merge import Layer, check_duplicates, key_of, key_text, lets, merge
from hvdsl.compiler.assembly.read_likelihood import read_likelihood
from hvdsl.compiler.assembly.read_settings import read_settings
from hvdsl.compiler.assembly.unread import check_unread, defined
from hvdsl.compiler.diagnostics.assembly import (
    AMBIGUOUS_USE,
    CIRCULAR_USE,
    MISSING_ITEM,
    NOT_IN_VARIANT,
    UNKNOWN_VARIANT,
    USED_FILE_HOLDS_MORE,
)
from hvdsl.compiler.diagnostics.settings import DOES_NOT_APPLY, MISSING_SETTING
from hvdsl.compiler.graph import Term
from hvdsl.compiler.settings import CODES, ModelSettings
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Severity, SpecError
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.reader import read_text


@record
class Assembled(Record):
    """A spec, closed and merged, with its settings read."""

    spec: tree.Spec  # no `use`, `extends` or `variant` left
    settings: ModelSettings
    likelihood: Term  # complete: every argument named, defaults filled in
    logits: int | None  # channels that the decoder must end with; None: unknown, since the likelihood is wrong
    sources: tuple[Source, ...]  # every text that was read, for digests
    warnings: tuple[Diagnostic, ...] = ()
    unread: tuple[Diagnostic, ...] = ()  # warnings that are worth saying only of what is otherwise right
    defined: frozenset[str] = frozenset()  # every name of the top level, those of variants included
    variants: tuple[str, ...] = ()  # that the spec itself declares, where none of them was chosen


def assemble(
    spec: str | Path | Source | tree.Spec,
    overrides: Sequence[str] = (),
    variant: str | None = None,
    base: Path | None = None,
) -> Assembled:
    """Assemble a spec.

    `spec` is a file (`model.hv`, `model.hv@NAME`, the name of a shipped spec), a text, or a tree; `overrides`
    are `name=value` and `section.key=value`; `base` is the folder where `use` looks first for a text or tree.
    Raises `SpecError` with everything found.
    """
    if isinstance(spec, str | Path):
        path, named = locate(spec)
        variant = variant or named
        gathered = _Gathering()
        layers = gathered.read(path)
    else:
        gathered = _Gathering()
        layers = gathered.layers(read_text(spec) if isinstance(spec, Source) else spec, base)
    diagnostics = gathered.diagnostics
    diagnostics.stop_if_failed()
    unread, names = tuple(check_unread(layers, gathered.root.span.source)), defined(layers)
    for name in variant.split("@") if variant is not None else ():
        layers = [*layers, _variant(layers, name)]
    merged = merge(layers, lets(layers), diagnostics)
    merged = tuple(item for item in merged if not isinstance(item, tree.Variant))
    merged = override.apply_overrides(merged, overrides, diagnostics)
    if overrides:  # a `let` that labels are made of may have changed: two rows may now be one
        merged = merge([merged], lets([merged]), diagnostics)
    check_needs(gathered.needs, merged, diagnostics)
    diagnostics.stop_if_failed()
    whole = tree.Spec(_canonical_order(merged), gathered.root.trailing, span=gathered.root.span)
    declared = [item.name.id for item in gathered.root.items if isinstance(item, tree.Variant) and variant is None]
    return replace(
        _settle(whole, gathered.sources, diagnostics), unread=unread, defined=names, variants=tuple(declared)
    )


def _settle(spec: tree.Spec, sources: Sequence[Source], diagnostics: Diagnostics) -> Assembled:
    """Check that a spec is whole, and read its settings and likelihood."""
    _check_whole(spec, diagnostics)
    values = lets([spec.items])
    settings, pixels = read_settings(spec, values, diagnostics)
    whole = settings is not None and not any(d.code in (MISSING_SETTING, MISSING_ITEM) for d in diagnostics)
    likelihood = None
    if not _is_of_codes(spec):
        likelihood = read_likelihood(spec, settings if whole else None, pixels, values, diagnostics)
    elif settings is not None and not diagnostics.failed:
        warnings = tuple(d for d in diagnostics if d.severity is Severity.WARNING)
        return Assembled(spec, settings, Term(CODES), None, tuple(sources), warnings)
    warnings = tuple(d for d in diagnostics if d.severity is Severity.WARNING)
    if settings is not None and likelihood is not None and not diagnostics.failed:
        return Assembled(spec, settings, likelihood.term, likelihood.logits, tuple(sources), warnings)
    closed = None
    if settings is not None:
        logits = None if likelihood is None else likelihood.logits
        closed = Assembled(spec, settings, Term("unknown"), logits, tuple(sources))
    raise UnsettledError(diagnostics, closed)


class UnsettledError(SpecError):
    """Settings are wrong. `closed` is the spec with those that could be read, where its rest can be looked at."""

    def __init__(self, diagnostics: Iterable[Diagnostic], closed: Assembled | None) -> None:
        super().__init__(diagnostics)
        self.closed = closed


class _Gathering:
    """Reads a spec and what it names, and remembers which files are open, so that a circle is seen."""

    def __init__(self) -> None:
        self.diagnostics = Diagnostics()
        self.sources: list[Source] = []
        self.root: tree.Spec
        self.needs: list[Need] = []
        self.aliases: dict[str, dict[str, str]] = {}  # of the spec and what it extends
        self._open: list[Path] = []
        self._used: dict[Path, dict[str, Defined]] = {}

    def read(self, path: Path) -> list[Layer]:
        """Return the layers of the spec in a file, lowest first."""
        self._open.append(path.resolve())
        layers = self.layers(grammar.read(path), path.parent)
        self._open.pop()
        return layers

    def layers(self, spec: tree.Spec, folder: Path | None) -> list[Layer]:
        """Return the layers of a spec, lowest first: what it extends, what it uses, itself."""
        self.root = spec
        self.sources.append(spec.span.source)
        check_duplicates(spec.items, self.diagnostics)
        layers: list[Layer] = []
        headers = [item for item in spec.items if isinstance(item, tree.HeaderNode)]
        for header in headers:
            if header.kind == "extends":
                layers += self._extended(header, folder)
        self.root = spec
        self.needs += [Need(item, item.span) for item in spec.items if isinstance(item, tree.NeedsNode)]
        own = {item.name.id for item in spec.items if isinstance(item, tree.Let | tree.RecipeNode | tree.Shared)}
        layers.append(tuple(self._use(headers, folder, own, self.aliases).values()))
        items = [i for i in spec.items if not isinstance(i, tree.HeaderNode) or i.kind not in ("use", "extends")]
        items = [item for item in items if not isinstance(item, tree.NeedsNode)]
        layers.append(resolved(items, self.aliases, self.diagnostics))
        for item in spec.items:
            if isinstance(item, tree.Variant):
                self._check_variant(item)
        return layers

    def _extended(self, header: tree.HeaderNode, folder: Path | None) -> list[Layer]:
        """Return the layers of what a spec extends: a file, or variants of it, `extends "m.hv@small"`."""
        path = self._find(header, folder)
        if path is None:
            return []
        layers = self.read(path)
        for name in variants_of(header, path):
            with self.diagnostics.collecting():
                layers.append(_variant(layers, name, header.value.span))
        return layers

    def _find(self, header: tree.HeaderNode, folder: Path | None) -> Path | None:
        path: Path | None = None
        with self.diagnostics.collecting():
            path = find(header, folder)
        if path is None or path.resolve() not in self._open:
            return path
        circle = [p.name for p in self._open[self._open.index(path.resolve()) :]] + [path.name]
        self.diagnostics.add(
            Diagnostic(
                CIRCULAR_USE,
                f"`{path.name}` comes to itself",
                header.value.span,
                found=" -> ".join(circle),
                expected="files that do not name each other in a circle",
                help="move what both need into a third file",
            )
        )
        return None

    def _use(
        self,
        headers: Sequence[tree.HeaderNode],
        folder: Path | None,
        own: set[str],
        aliases: dict[str, dict[str, str]],
        at: Span | None = None,
    ) -> dict[str, Defined]:
        """Return what the `use` headers bring in, by name; names of `own` hide used ones.

        `aliases` learns what a file that is used under a name brings; `at` is the `use` of the spec itself.
        """
        brought: dict[str, Defined] = {}
        for header in headers:
            if header.kind != "use" or (path := self._find(header, folder)) is None:
                continue
            items = self._read_used(path, at or header.value.span)
            if header.alias is not None:
                alias = header.alias.id
                aliases.setdefault(alias, {}).update({name: f"{alias}_{name}" for name in items})
                items = under(alias, items)
            for name, item in items.items():
                other = brought.setdefault(name, item)
                if other.span != item.span and name not in own:
                    self.diagnostics.add(_ambiguous(name, header, other, item))
        return {name: item for name, item in brought.items() if name not in own}

    def _read_used(self, path: Path, at: Span) -> dict[str, Defined]:
        """Return the recipes and lets of a used file, and of what it uses."""
        place = path.resolve()
        if place in self._used:
            return self._used[place]
        self._open.append(place)
        spec = grammar.read(path)
        self.sources.append(spec.span.source)
        check_duplicates(spec.items, self.diagnostics)
        own: list[Defined] = []
        headers: list[tree.HeaderNode] = []
        for item in spec.items:
            if isinstance(item, tree.Let | tree.RecipeNode):
                own.append(item)
            elif isinstance(item, tree.NeedsNode):
                self.needs.append(Need(item, at))
            elif isinstance(item, tree.HeaderNode) and item.kind == "use":
                headers.append(item)
            elif not isinstance(item, tree.Version):
                self.diagnostics.add(_holds_more(item, path))
        aliases: dict[str, dict[str, str]] = {}
        brought = self._use(headers, path.parent, {item.name.id for item in own}, aliases, at)
        self._open.pop()
        closed = resolved(own, aliases, self.diagnostics)
        own_items = {item.name.id: item for item in closed if isinstance(item, tree.Let | tree.RecipeNode)}
        self._used[place] = {**brought, **own_items}
        return self._used[place]

    def _check_variant(self, variant: tree.Variant) -> None:
        for item in variant.items:
            if isinstance(item, tree.Version | tree.Variant | tree.NeedsNode) or (
                isinstance(item, tree.HeaderNode) and item.kind != "title"
            ):
                self.diagnostics.add(
                    Diagnostic(
                        NOT_IN_VARIANT,
                        f"a variant cannot hold {key_text(key_of(item))}",
                        item.span,
                        found=f"{key_text(key_of(item))} in `variant {variant.name.id}`",
                        expected="lets, recipes, rows, settings, likelihood, priors",
                        help="say it at the top of the file",
                    )
                )


def _ambiguous(name: str, header: tree.HeaderNode, first: tree.SpecItem, second: tree.SpecItem) -> Diagnostic:
    places = [item.span.source.name for item in (first, second)]
    return Diagnostic(
        AMBIGUOUS_USE,
        f"two used files define `{name}`",
        header.value.span,
        found=f"`{name}` in {places[0]} and in {places[1]}",
        expected="each name from one used file",
        help=f"define `{name}` in the spec itself, which then wins, or use only one of the files",
    )


def _holds_more(item: tree.SpecItem, path: Path) -> Diagnostic:
    what = key_text(key_of(item))
    return Diagnostic(
        USED_FILE_HOLDS_MORE,
        f"a used file cannot hold {what}",
        item.span,
        found=f"{what} in {path.name}",
        expected="cells, groups, lets and further `use`s",
        help=f'say `extends "{path.name}"` to start from a whole spec, or move this into the spec',
    )


def _variant(layers: Sequence[Layer], name: str, place: Span | None = None) -> Layer:
    variants = {item.name.id: item for layer in layers for item in layer if isinstance(item, tree.Variant)}
    if name in variants:
        return variants[name].items
    raise SpecError(
        [
            Diagnostic(
                UNKNOWN_VARIANT,
                f"there is no variant `{name}`",
                place,
                found=f"`@{name}`",
                expected="a `variant` of the spec",
                help=did_you_mean(name, variants),
            )
        ]
    )


_ORDER = (
    "hv",
    "model",
    "title",
    "name",
    "default",
    "data",
    "encoder",
    "decoder",
    "likelihood",
    "objective",
    "train",
)


def _canonical_order(items: Layer) -> Layer:
    """Put the headers first; the rest keeps its place, which means nothing."""
    first = [i for i in items if isinstance(i, tree.Version | tree.HeaderNode)]
    first.sort(key=lambda item: _ORDER.index(key_of(item)[0]))
    return (*first, *(i for i in items if not isinstance(i, tree.Version | tree.HeaderNode)))


_NEEDED = {
    ("model",): ("the model's name", "model my_model"),
    ("data",): ("`data`", "data digits { shape = 1x8x8, bits = 4 }"),
    ("encoder",): ("an `encoder`", "encoder { 8: conv(3x3, 16) -> tap }"),
    ("decoder",): ("a `decoder`", "decoder { 8: learned(zeros, 16) -> … -> conv(1x1, logits) }"),
    ("likelihood",): ("a `likelihood`", "likelihood discretized_logistic_mixture(10)"),
    ("objective",): ("an `objective`", "objective { unit = nats_per_dim }"),
}


_NEEDED_OF_CODES = {
    ("model",): _NEEDED[("model",)],
    ("prior",): ("a `prior`", "prior z { conv(3x3, 32, mask = causal(exclude)) -> elu -> conv(1x1, 512) }"),
}
_NOT_OF_CODES = ("encoder", "decoder", "likelihood", "objective")


def _is_of_codes(spec: tree.Spec) -> bool:
    """Whether a spec says `data codes`: then it has priors alone."""
    sections = (item for item in spec.items if isinstance(item, tree.SettingsNode) and item.kind == "data")
    return any(isinstance(section.name, tree.Name) and section.name.id == CODES for section in sections)


def _check_whole(spec: tree.Spec, diagnostics: Diagnostics) -> None:
    present = {key_of(item): item for item in spec.items}
    end = Span(spec.span.source, spec.span.end, spec.span.end)
    of_codes = _is_of_codes(spec)
    if of_codes:
        present |= {key_of(item)[:1]: item for item in spec.items if isinstance(item, tree.Prior)}
        for item in spec.items:
            if key_of(item) in {(word,) for word in _NOT_OF_CODES} or key_of(item) == ("train",):
                message = f"a spec over codes from a file has no `{key_of(item)[0]}`"
                expected, help = "`prior`s, and a `train` section for each", "remove it, or name the images in `data`"
                diagnostics.add(Diagnostic(DOES_NOT_APPLY, message, item.span, key_text(key_of(item)), expected, help))
    for needed, (what, example) in (_NEEDED_OF_CODES if of_codes else _NEEDED).items():
        if needed not in present:
            diagnostics.add(
                Diagnostic(MISSING_ITEM, f"the spec lacks {what}", end, "nothing", what, help=f"add `{example}`")
            )
