"""The stages in which a spec is trained: its model, then the priors over its codes."""

from __future__ import annotations

import hashlib
from dataclasses import astuple
from typing import NamedTuple

from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.graph import Literal, Node
from hvdsl.compiler.model import Model
from hvdsl.errors import UsageError

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
