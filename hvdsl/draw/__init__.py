"""Drawings of a model: one ladder, one layout, several formats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model
    from hvdsl.draw.picture import Picture

__all__ = ["draw", "draw_cell", "draw_latents", "graph_json", "picture_file"]


def draw(model: Model, form: str) -> bytes:
    """Return the drawing of a model as a file of the form `.svg`, `.png`, `.html`, `.dot`, `.mmd` or `.json`."""
    if form == ".json":
        return graph_json(model).encode()
    from hvdsl.draw.ladder import ladder

    drawn = ladder(model)
    if form == ".dot":
        from hvdsl.draw.outline import dot

        return dot(drawn).encode()
    if form == ".mmd":
        from hvdsl.draw.outline import mermaid

        return mermaid(drawn).encode()
    from hvdsl.draw.layout import layout

    picture = layout(drawn)
    if form != ".html":
        return picture_file(picture, form)
    from hvdsl.draw.html import html_page, piece_details

    return html_page(picture, piece_details(model, drawn)).encode()


def draw_cell(model: Model, name: str, form: str) -> bytes:
    """Return the inside of a recipe as a file of the form `.svg`, `.png` or `.html`.

    Raises:
        UsageError: the model uses no recipe of that name.
    """
    from hvdsl.draw.cell import cell

    return picture_file(cell(model, name), form)


def draw_latents(model: Model, form: str) -> bytes:
    """Return how the latents depend on each other as a file of the form `.svg`, `.png` or `.html`."""
    from hvdsl.draw.latents import latents

    return picture_file(latents(model), form)


def picture_file(picture: Picture, form: str) -> bytes:
    """Return a picture as a file of the form `.svg`, `.png` or `.html`."""
    if form == ".png":
        from hvdsl.draw.png import png

        return png(picture)
    if form == ".html":
        from hvdsl.draw.html import html_page

        return html_page(picture).encode()
    from hvdsl.draw.svg import svg

    return svg(picture).encode()


def graph_json(model: Model) -> str:
    """Return the whole graph of a model, unfolded, and those of its priors; equal models give equal bytes."""
    from hvdsl.compiler.analysis.export import to_json

    whole = to_json(model.graph) | {"priors": {name: to_json(graph) for name, graph in model.priors.items()}}
    return json.dumps(whole, indent=1) + "\n"
