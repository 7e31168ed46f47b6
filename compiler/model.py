"""What the compiler knows of a spec when it has understood it, and the stages in which that is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import astuple, field
from typing import NamedTuple

from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.graph import Graph, Literal, Node, Term
from hvdsl.compiler.settings import ModelSettings
from hvdsl.errors import UsageError
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic
from hvdsl.grammar.record import Record, record


@record
class Model(Record):
    """A checked spec: settings, likelihood and graphs, all complete."""

    settings: ModelSettings
    likelihood: Term
    graph: Graph = field(repr=False)
    priors: Mapping[str, Graph] = field(repr=False)  # second-stage priors by their latent, in the spec's order
    resolved: tree.Spec = field(repr=False)  # the merged spec; printed, it is `resolved.hv`
    warnings: tuple[Diagnostic, ...] = ()
    variants: tuple[str, ...] = ()  # that the spec declares, where none of them was chosen

    @property
    def is_of_codes(self) -> bool:
        """Whether it is priors alone, over codes from a file: its graph has no nodes."""
        return self.settings.data.is_codes

    @property
    def parameter_count(self) -> int:
        """Numbers that are trained: the model's, or those of all priors where it is these alone."""
        graphs = tuple(self.priors.values()) if self.is_of_codes else (self.graph,)
        return sum(graph.parameter_count() for graph in graphs)

    @property
    def groups(self) -> str:
        """How many latent groups it has, or priors where it is these alone, in words."""
        count, what = (len(self.priors), "prior") if self.is_of_codes else (len(self.graph.latents), "latent group")
        return f"{count} {what}{'' if count == 1 else 's'}"


AUTOENCODER, ALL = "autoencoder", "all"


class Value(NamedTuple):
    """An edge of the graph, as digests spell it that runs of version 0.1 hold."""

    node: int
    port: int


def stages(model: Model, wanted: str) -> list[str]:
    """Return the stages that `wanted` names, in the order in which they are trained.

    Where there are priors alone, over codes from a file, all of them are in the place of the autoencoder.

    Raises:
        UsageError: there is none of that name.
    """
    known = [*model.priors] if model.is_of_codes else [AUTOENCODER, *model.priors]
    if wanted == ALL or (wanted == AUTOENCODER and model.is_of_codes):
        return known
    if wanted not in known:
        raise UsageError(f"there is no stage `{wanted}`; `{model.settings.model}` has {', '.join(known)}, or `{ALL}`")
    return [wanted]


def is_drawn_from_codes(model: Model) -> bool:
    """Whether images start from codes of a second stage: of quantizers always, of classes where a prior is said.

    Of priors over codes from a file, whether codes do, which is always.
    """
    if model.is_of_codes:
        return True
    groups = model.graph.latents
    if not groups or any(group.codes is None for group in groups):
        return False
    return bool(model.priors) or all(LATENT_FAMILIES[group.family].quantized for group in groups)


def _arguments(node: Node) -> list[tuple[str, Literal]]:
    """A node's arguments as version 0.1 knew them: what is new counts where it is not the default."""
    later = {a.name: a.default for a in node.operation.arguments if a.new}
    return sorted((name, value) for name, value in node.args.items() if name not in later or value != later[name])


def structure(model: Model) -> str:
    """Digest what the first stage of a spec computes, whatever its text looks like and its priors are."""
    graph, data = model.graph, model.settings.data
    computed = [
        (n.operation.name, _arguments(n), tuple(Value(*astuple(e)) for e in n.inputs), n.shapes, n.path)
        for n in graph.nodes
    ]
    output = Value(*astuple(graph.output))
    pixels: tuple[object, ...] = (data.shape, data.bits, data.binarize, data.input, data.target)
    if data.values != "scaled":
        pixels += (data.values,)
    return hashlib.sha256(repr((computed, output, pixels, model.likelihood)).encode()).hexdigest()
