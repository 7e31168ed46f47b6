"""How the latent variables depend on each other: the graphical model that a hierarchy generates by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from hvdsl.compiler.analysis.reach import LatentStructure, latent_structure, latents_that_see_the_image
from hvdsl.compiler.graph import Graph
from hvdsl.draw.labels import quantity, shape
from hvdsl.draw.layered import Arrow, Look, Vertex, layered
from hvdsl.draw.picture import Picture

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model


def latents(model: Model) -> Picture:
    """Return the drawing of a model's latent groups: equal neighbours are one circle, what follows is left out."""
    if model.is_of_codes:
        return _levels(model)
    graph, structure = model.graph, latent_structure(model.graph)
    seen = latents_that_see_the_image(graph)
    runs = _runs(graph, structure)
    place = {k: n for n, run in enumerate(runs) for k in run}
    vertices = [_vertex(graph, structure, run, bool(seen & set(run))) for run in runs]
    parents = [sorted({place[p] for k in run for p in structure.parents[k]} - {n}) for n, run in enumerate(runs)]
    *direct, last = _direct([*parents, sorted({place[k] for k in structure.last})])
    out = Vertex(("p(x | z)", model.likelihood.name.replace("_", " ")), Look.END)
    arrows = [Arrow(vertices[p], vertices[n]) for n, own in enumerate(direct) for p in own]
    arrows += [Arrow(vertices[n], out) for n in last]
    second = _second_stage(model, {run[0]: vertex for run, vertex in zip(runs, vertices, strict=True)})
    facts = [quantity(len(graph.latents), "latent group"), f"stochastic depth {structure.depth}"]
    whole = len(seen) == len(graph.latents)
    facts.append("all inferred from the image" if whole else "dashed: inferred without the image")
    if second:
        facts.append("dashed lines: what second-stage priors are given")
    return layered(model.settings.title or model.settings.model, " · ".join(facts), [*vertices, out], arrows + second)


def _levels(model: Model) -> Picture:
    """Return how the levels of codes from a file depend on each other by their priors."""
    given = {
        name: [str(node.args["name"]) for node in prior.entries()[1:] if node.args["source"] == "codes"]
        for name, prior in model.priors.items()
    }
    levels = model.settings.data.levels
    vertices = {}
    for name in TopologicalSorter({name: given.get(name, ()) for name in levels}).static_order():
        level = levels[name]
        aside = (f"{level.grid[0]}×{level.grid[1]}", f"{level.classes} codes")
        vertices[name] = Vertex((name,), Look.LATENT, "", aside, dashed=name not in given)
    arrows = [Arrow(vertices[source], vertices[name]) for name, sources in given.items() for source in sources]
    facts = [quantity(len(levels), "level") + " of codes"]
    if len(given) < len(levels):
        facts.append("dashed: without a prior")
    title = model.settings.title or model.settings.model
    return layered(title, " · ".join(facts), list(vertices.values()), arrows)


def _second_stage(model: Model, vertices: Mapping[int, Vertex]) -> list[Arrow]:
    """Return an arrow for each latent that the second-stage prior of another one is given."""
    of = {model.graph.latents[k].name: vertex for k, vertex in vertices.items()}
    given = {name: [str(node.args["name"]) for node in prior.entries()] for name, prior in model.priors.items()}
    return [
        Arrow(of[source], of[name], dashed=True)
        for name, sources in given.items()
        for source in sources
        if source in of and source != name
    ]


def _runs(graph: Graph, structure: LatentStructure) -> list[list[int]]:
    """Fold neighbours of one name and shape where each only adds the one before it to what its prior reads."""
    runs: list[list[int]] = []
    for k, group in enumerate(graph.latents):
        before = graph.latents[k - 1] if runs else None
        alike = before is not None and (before.name, before.shape) == (group.name, group.shape)
        if alike and set(structure.parents[k]) - {k - 1} <= set(structure.parents[k - 1]):
            runs[-1].append(k)
        else:
            runs.append([k])
    return runs


def _vertex(graph: Graph, structure: LatentStructure, run: Sequence[int], seen: bool) -> Vertex:
    group = graph.latents[run[0]]
    aside = [shape(*group.shape)]
    if group.codes:
        aside.append(f"{group.codes} codes")
    if len(run) > 1:
        levels = {structure.level[k] for k in run}
        aside.append(f"× {len(run)}, " + ("in sequence" if len(levels) == len(run) else "in parallel"))
    return Vertex((group.name,), Look.LATENT, f"{group.path}, {group.family}", tuple(aside), dashed=not seen)


def _direct(parents: Sequence[Sequence[int]]) -> list[list[int]]:
    """Leave out parents that are parents of other parents, near or far."""
    above: list[set[int]] = []
    for own in parents:
        above.append(set(own).union(*(above[p] for p in own)))
    return [[p for p in own if not any(p in above[q] for q in own)] for own in parents]
