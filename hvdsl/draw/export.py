"""The whole graph, unfolded, as JSON for other tools."""

from __future__ import annotations

import json

from hvdsl.compiler.analysis.export import to_json
from hvdsl.compiler.model import Model


def graph_json(model: Model) -> str:
    """Return the graph of a model and those of its priors; equal models give equal bytes."""
    whole = to_json(model.graph) | {"priors": {name: to_json(graph) for name, graph in model.priors.items()}}
    return json.dumps(whole, indent=1) + "\n"
