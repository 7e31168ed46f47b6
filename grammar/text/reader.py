"""Read the text form."""

from __future__ import annotations

from typing import cast

from hvdsl.grammar import diagnostic_codes as codes
from hvdsl.grammar import limits, tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics
from hvdsl.grammar.source import Source, Span
from hvdsl.grammar.text.builder import TreeBuilder
from hvdsl.grammar.text.parser import Parser
from hvdsl.grammar.text.tokens import Fragment, tokenize

VERSION = "1"
_LIBRARY = (tree.NeedsNode, tree.Let, tree.Shared, tree.Default, tree.RecipeNode)


def read_text(source: Source) -> tree.Spec:
    """Return the tree of a whole file in the text form.

    Raises `SpecError` with every mistake found, up to `limits.DIAGNOSTICS`.
    """
    diagnostics = Diagnostics()
    check_text(source, diagnostics)
    spec = cast("tree.Spec | None", parse(Fragment(source, source.text), "spec", diagnostics))
    diagnostics.stop_if_failed()
    assert spec is not None  # without an error the parser has built one
    check_version(spec, diagnostics)
    diagnostics.stop_if_failed()
    return spec


def read_expression(source: Source) -> tree.Expr:
    """Return the tree of one expression, such as the value of `--set name=value`. Raises `SpecError`."""
    diagnostics = Diagnostics()
    check_text(source, diagnostics)
    expression = cast(tree.Expr, parse(Fragment(source, source.text), "expression", diagnostics))
    diagnostics.stop_if_failed()
    return expression


def parse(fragment: Fragment, start: str, diagnostics: Diagnostics) -> object:
    """Return what `start` (a start symbol of the grammar) builds of a fragment, or None.

    Mistakes go to `diagnostics`; those that end the reading raise `SpecError`.
    """
    tokens = tokenize(fragment, diagnostics)
    builder = TreeBuilder(tokens, diagnostics)
    return Parser(tokens, lambda action: getattr(builder, action), diagnostics).parse(start)


def check_text(source: Source, diagnostics: Diagnostics, *, yaml: bool = False) -> None:
    """Stop at a text that is too long, or none."""
    most = limits.YAML_BYTES if yaml else limits.BYTES
    if len(source.text) > most:
        message = f"the file has more than {most // 1024} KiB"
        help_ = "split it with `use`, or use repetition: `block * 100`"
        diagnostics.add(Diagnostic(codes.TOO_LARGE, message, Span(source, 0, 0), help=help_))
        diagnostics.stop_if_failed()
    at = source.text.find("\0")
    if at >= 0:
        help_ = "save the file as UTF-8 text"
        diagnostics.add(
            Diagnostic(codes.NOT_TEXT, "the file holds a NUL byte", Span(source, at, at + 1), "a NUL byte", "", help_)
        )
    diagnostics.stop_if_failed()


def check_version(spec: tree.Spec, diagnostics: Diagnostics) -> None:
    """See that a model begins with `hv 1`. A library, recipes and values and what it uses itself, need not."""
    versions = [item for item in spec.items if isinstance(item, tree.Version)]
    for item in versions:
        if item.number.text != VERSION:
            message = f"this is version {item.number.text} of the language, which this release cannot read"
            help_ = f"write `hv {VERSION}`, or read the spec with the release that it was written for"
            span = item.number.span
            diagnostics.add(
                Diagnostic(codes.BAD_VERSION, message, span, f"`{item.number.text}`", f"`{VERSION}`", help_)
            )
    more = [item for item in spec.items if not _is_of_library(item)]
    if not versions and more:
        start = spec.items[0].span
        message = "the language version is missing"
        help_ = f"make `hv {VERSION}` the first line"
        diagnostics.add(Diagnostic(codes.NO_VERSION, message, start, "", f"`hv {VERSION}`", help_))


def _is_of_library(item: tree.SpecItem) -> bool:
    return isinstance(item, _LIBRARY) or (isinstance(item, tree.HeaderNode) and item.kind == "use")
