"""What training would run into: an objective or groups that fit nothing, useless biases, inputs too large."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hvdsl.compiler.assembly.pixels import parse_pixel_map
from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.diagnostics import settings as codes
from hvdsl.compiler.diagnostics.warnings import BIAS_BEFORE_BATCH_NORM, LARGE_INPUT
from hvdsl.compiler.graph import Graph
from hvdsl.compiler.model import Model
from hvdsl.compiler.parameter_groups import grouped, parameter_sizes
from hvdsl.compiler.settings import Train
from hvdsl.compiler.suggest import nearest_word
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic
from hvdsl.grammar.source import Span


def check_objective(model: Model) -> Iterator[Diagnostic]:
    """What the objective says of latents and the graph's latents cannot do."""
    graph, objective, spec = model.graph, model.settings.objective, model.resolved
    if objective.balance is not None and len(graph.latents) == 1:
        yield Diagnostic(
            codes.NOTHING_TO_BALANCE,
            "there is nothing to balance",
            _place(spec, "balance"),
            "`balance` in a model of one latent group",
            "two groups or more",
            "remove `balance`",
        )
    if objective.commitment != 0 and not any(LATENT_FAMILIES[latent.family].commits for latent in graph.latents):
        families = " and ".join(sorted({f"`{latent.family}`" for latent in graph.latents})) or "none"
        yield Diagnostic(
            codes.DOES_NOT_APPLY,
            "`commitment` does not apply here",
            _place(spec, "commitment"),
            f"latents of the kind {families}",
            "a latent of codes that its posterior can be far from: `codebook` or `lookup_free`",
            "remove `commitment`",
        )
    certain = next((latent for latent in graph.latents if LATENT_FAMILIES[latent.family].quantized), None)
    if objective.samples > 1 and certain is not None:
        yield Diagnostic(
            codes.DOES_NOT_APPLY,
            "`samples` does not apply here",
            _place(spec, "samples"),
            f"`{certain.name}`, {certain.family}, whose posterior is certain of one code",
            "latents whose posterior can be drawn from more than once",
            "remove `samples`",
        )
    yield from _own_settings(model)
    if not objective.of_error:
        return
    for latent in graph.latents:
        if not LATENT_FAMILIES[latent.family].quantized:
            yield Diagnostic(
                codes.RATE_OF_AN_ERROR,
                "a latent with a rate has nothing to weigh it against in an error",
                graph.nodes[latent.node].span,
                f"`{latent.name}`, {latent.family}, under `unit = {objective.unit}`",
                "latents of a quantizer, or a likelihood that is a density",
                "take a density such as `normal` and `unit = nats_per_dim`, or take codes, whose rate is constant",
            )
            return


def _own_settings(model: Model) -> Iterator[Diagnostic]:
    """A latent's `weight` and `free` are of its rate, which not every objective weighs group by group."""
    objective = model.settings.objective
    if objective.of_error:
        reason = f"an objective in `{objective.unit}`, which weighs no rates"
    elif objective.bound == "iwae":
        reason = "the importance-weighted bound, which has no rate per group"
    else:
        return
    for latent in model.graph.latents:
        own = latent.settings
        key = "weight" if own is not None and own.weight != 1 else "free" if own is not None and own.free else ""
        if key:
            yield Diagnostic(
                codes.DOES_NOT_APPLY,
                f"`{key}` does not apply here",
                model.graph.nodes[latent.node].span,
                f"`{key}` of latent `{latent.name}`, and {reason}",
                "an ELBO in nats",
                f"remove `{key}`, or change the objective",
            )
            return


def _place(spec: tree.Spec, key: str) -> Span:
    sections = [item for item in spec.items if isinstance(item, tree.SettingsNode) and item.kind == "objective"]
    return next((s.span for section in sections for s in section.settings if s.key.id == key), spec.span)


def check_parameter_groups(model: Model) -> Iterator[Diagnostic]:
    """A pattern that is for no parameter, or patterns that leave none to train."""
    yield from _check_groups(model.settings.train, model.graph, None, model.resolved)
    for name, train in model.settings.train_priors.items():
        if name in model.priors:
            yield from _check_groups(train, model.priors[name], name, model.resolved)


def _check_groups(train: Train | None, graph: Graph, prior: str | None, spec: tree.Spec) -> Iterator[Diagnostic]:
    if train is None or not train.groups:
        return
    names = list(parameter_sizes(graph))
    members_of = grouped(names, train.groups)
    for pattern, members in members_of.items():
        if not members:
            alone = grouped(names, {pattern: train.groups[pattern]})[pattern]
            scopes = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 1)}
            near = nearest_word(pattern, scopes)
            help = "put the narrower pattern first" if alone else f"did you mean `{near}`?" if near else _FORMS
            yield Diagnostic(
                codes.NO_PARAMETER,
                f"the pattern `{pattern}` is for no parameter" + (" that is left" if alone else ""),
                _place_of_groups(spec, prior),
                f"{len(alone):,} parameters that earlier patterns are for" if alone else "no name that it matches",
                f"a pattern for some of the {len(names):,} parameters, such as `{names[0]}`" if names else "parameters",
                help,
            )
    frozen = sum(len(members_of[pattern]) for pattern, group in train.groups.items() if group.kind == "frozen")
    if names and frozen == len(names):
        yield Diagnostic(
            codes.NO_PARAMETER,
            "every parameter is frozen",
            _place_of_groups(spec, prior),
            f"{frozen:,} frozen parameters of {len(names):,}",
            "some that are trained",
            "narrow the patterns",
        )


_FORMS = "write a path as `encoder` or `decoder.r8`, or a pattern as `*.bias`; `hvdsl viz` and a checkpoint show names"


def _place_of_groups(spec: tree.Spec, prior: str | None) -> Span:
    for item in spec.items:
        if isinstance(item, tree.SettingsNode) and item.kind == "train":
            name = item.name.id if isinstance(item.name, tree.Name) else None
            if name == prior:
                return next((s.span for s in item.settings if s.key.id == "groups"), item.span)
    return spec.span


def check_biases(model: Model) -> Iterator[Diagnostic]:
    """A batch normalisation takes away what a bias before it adds."""
    graph = model.graph
    cancelling = [node for node in graph.nodes if node.operation.cancels_bias]
    readers = Counter(edge.node for node in graph.nodes for edge in node.inputs) if cancelling else Counter()
    for node in cancelling:
        if readers[node.inputs[0].node] > 1:  # a shortcut keeps the bias
            continue
        before = graph.nodes[node.inputs[0].node]
        bias = before.operation.bias
        if bias is not None and before.args[bias] is True and bias not in before.stated:
            yield Diagnostic(
                BIAS_BEFORE_BATCH_NORM,
                "this bias has no effect",
                before.span,
                f"`{before.operation.name}` with a bias, then `{node.operation.name}`",
                "`bias = no`",
                "batch normalisation takes it away again; its gradient is rounding noise. "
                "Where it has to be there all the same, say `bias = yes`",
            )


LARGEST = 10.0
_PLACES = 64  # values of a pixel that are looked at, evenly spread, ends included


def check_input_range(model: Model) -> Iterator[Diagnostic]:
    """Warn where `input` leaves [-10, 10] for pixels that there can be (HV0908)."""
    data = model.settings.data
    if data.is_real:
        return
    top = 1 if data.binarize != "none" else 2**data.bits - 1
    mapped = parse_pixel_map(data.input)
    values = [mapped(top * i / _PLACES) for i in range(_PLACES + 1)]
    if max(map(abs, values)) <= LARGEST:
        return
    sections = [i for i in model.resolved.items if isinstance(i, tree.SettingsNode) and i.kind == "data"]
    keys = {setting.key.id: setting for section in sections for setting in section.settings}
    place = keys.get("input") or keys.get("shape")
    middle = f"{top / 2:g}"
    yield Diagnostic(
        LARGE_INPUT,
        f"the encoder gets values from {min(values):g} to {max(values):g}",
        place.span if place is not None else model.resolved.span,
        f"`input = {data.input}` of pixels 0 … {top}" if "input" in keys else f"pixels 0 … {top} as they are",
        f"numbers within [-{LARGEST:g}, {LARGEST:g}], best within [-1, 1]",
        f"say `input = v / {middle} - 1` in `data`",
    )
