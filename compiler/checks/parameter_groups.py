"""Patterns of `train { groups = … }` against the parameters that there are."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.diagnostics import settings as codes
from hvdsl.compiler.graph import Graph
from hvdsl.compiler.model import Model
from hvdsl.compiler.parameter_groups import grouped, parameter_sizes
from hvdsl.compiler.settings import Train
from hvdsl.compiler.suggest import nearest
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic
from hvdsl.grammar.source import Span


def check_parameter_groups(model: Model) -> Iterator[Diagnostic]:
    """A pattern that is for no parameter, or patterns that leave none to train."""
    yield from _check(model.settings.train, model.graph, None, model.resolved)
    for name, train in model.settings.train_priors.items():
        if name in model.priors:
            yield from _check(train, model.priors[name], name, model.resolved)


def _check(train: Train | None, graph: Graph, prior: str | None, spec: tree.Spec) -> Iterator[Diagnostic]:
    if train is None or not train.groups:
        return
    names = list(parameter_sizes(graph))
    found = grouped(names, train.groups)
    for pattern, members in found.items():
        if not members:
            alone = grouped(names, {pattern: train.groups[pattern]})[pattern]
            scopes = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 1)}
            near = nearest(pattern, scopes)
            help = "put the narrower pattern first" if alone else f"did you mean `{near}`?" if near else _FORMS
            yield Diagnostic(
                codes.NO_PARAMETER,
                f"the pattern `{pattern}` is for no parameter" + (" that is left" if alone else ""),
                _place(spec, prior),
                f"{len(alone):,} parameters that earlier patterns are for" if alone else "no name that it matches",
                f"a pattern for some of the {len(names):,} parameters, such as `{names[0]}`" if names else "parameters",
                help,
            )
    frozen = sum(len(found[pattern]) for pattern, group in train.groups.items() if group.kind == "frozen")
    if names and frozen == len(names):
        yield Diagnostic(
            codes.NO_PARAMETER,
            "every parameter is frozen",
            _place(spec, prior),
            f"{frozen:,} frozen parameters of {len(names):,}",
            "some that are trained",
            "narrow the patterns",
        )


_FORMS = "write a path as `encoder` or `decoder.r8`, or a pattern as `*.bias`; `hvdsl viz` and a checkpoint show names"


def _place(spec: tree.Spec, prior: str | None) -> Span:
    for item in spec.items:
        if isinstance(item, tree.Settings) and item.kind == "train":
            name = item.name.id if isinstance(item.name, tree.Name) else None
            if name == prior:
                return next((s.span for s in item.settings if s.key.id == "groups"), item.span)
    return spec.span
