"""What the objective asks for, against the latents that there are."""

from __future__ import annotations

from collections.abc import Iterator

from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.diagnostics import settings as codes
from hvdsl.compiler.model import Model
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
    sections = [item for item in spec.items if isinstance(item, tree.Settings) and item.kind == "objective"]
    return next((s.span for section in sections for s in section.settings if s.key.id == key), spec.span)
