"""Which parameters a pattern of `train { groups = … }` means: of a spec's graph and of a built module alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from hvdsl.compiler.graph import Graph
from hvdsl.compiler.settings import ParameterGroup, Train


def grouped(names: Iterable[str], groups: Mapping[str, ParameterGroup]) -> dict[str, list[str]]:
    """Return the names of the parameters that each pattern is for, in order: the first pattern that matches has one.

    A pattern is a whole name or the path of what holds it, with `*` for any run of characters, dots included:
    `encoder`, `decoder.r8.*`, `*.bias`.
    """
    members: dict[str, list[str]] = {pattern: [] for pattern in groups}
    for name in names:
        own = next((p for p in groups if fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*")), None)
        if own is not None:
            members[own].append(name)
    return members


def parameter_sizes(graph: Graph) -> dict[str, int]:
    """Return everything that is trained by its name, the likelihood's own included: how many numbers each holds."""
    owned = ((n, p) for n in graph.nodes for p in n.parameters if p.trainable and p.role not in n.shared)
    sizes = {node.parameter_path(parameter.role): parameter.size for node, parameter in owned}
    return sizes | {f"likelihood.{parameter.role}": parameter.size for parameter in graph.likelihood}


def group_summary(graph: Graph, train: Train | None) -> list[dict[str, Any]]:
    """Return each group of `train { groups = … }` as JSON says it: its pattern, its size, how it is trained."""
    groups = train.groups if train is not None and train.groups else {}
    sizes = parameter_sizes(graph) if groups else {}
    return [
        {
            "pattern": pattern,
            "kind": groups[pattern].kind,
            "lr": groups[pattern].lr,
            "weight_decay": groups[pattern].weight_decay,
            "parameters": sum(sizes[name] for name in names),
        }
        for pattern, names in grouped(sizes, groups).items()
    ]
