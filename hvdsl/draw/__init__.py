"""Drawings of a model: one ladder, one layout, several formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvdsl.compiler.model import Model

__all__ = ["draw"]


def draw(model: Model, form: str) -> bytes:
    """Return the drawing of a model as a file of the form `.svg`, `.png`, `.html`, `.dot`, `.mmd` or `.json`."""
    if form == ".json":
        from hvdsl.draw.export import graph_json

        return graph_json(model).encode()
    from hvdsl.draw.ladder import ladder

    drawn = ladder(model)
    if form == ".dot":
        from hvdsl.draw.dot import dot

        return dot(drawn).encode()
    if form == ".mmd":
        from hvdsl.draw.mermaid import mermaid

        return mermaid(drawn).encode()
    from hvdsl.draw.layout import layout

    picture = layout(drawn)
    if form == ".png":
        from hvdsl.draw.png import png

        return png(picture)
    from hvdsl.draw.svg import svg

    if form == ".html":
        from hvdsl.draw.page import page

        return page(picture.title, svg(picture)).encode()
    return svg(picture).encode()
