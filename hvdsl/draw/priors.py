"""Second-stage priors: one card each, to the right of the ladder, pointing at the latent that it models."""

from __future__ import annotations

from collections.abc import Mapping

from hvdsl.draw import columns, labels, style
from hvdsl.draw.columns import Place
from hvdsl.draw.ladder import Ladder, PriorColumn
from hvdsl.draw.paint import Painter
from hvdsl.draw.picture import Picture, Polygon, Text, Wire, box, text_width

PADDING = 16.0
HEADING = 50.0
BETWEEN = 30.0


def priors_width(ladder: Ladder) -> float:
    """Return the width of the cards."""
    return max((_width(prior) for prior in ladder.priors), default=0.0)


def draw_priors(picture: Picture, ladder: Ladder, places: dict[int, Place], x: float) -> float:
    """Draw a card for each prior, its left side at `x`; return where the last one ends."""
    width = priors_width(ladder)
    bottom = 0.0
    ends: dict[str, float] = {}
    for prior in ladder.priors:
        latent = _latent(ladder, places, prior.name)
        top = max(bottom + BETWEEN if bottom else 104.0, latent.centre - 24 if latent else 0.0)
        height = HEADING + columns.height(prior.items) + PADDING
        card = box(x, top, width, height)
        picture.shapes.append(Polygon(card, "#faf8fd", style.PRIOR.stroke, radius=9, dashed=True))
        _fill(picture, places, prior, Place(x, top, width, height))
        if latent:
            points = ((x, top + 24), (latent.right + 84, top + 24), (latent.right + 84, latent.centre))
            straight = abs(top + 24 - latent.centre) < 3
            end = (latent.right + 84, latent.centre)
            route = ((x, latent.centre), end) if straight else (*points[:1], (x - 16, top + 24), (x - 16, latent.centre), end)
            picture.shapes.append(Wire(route, style.PRIOR.stroke, 1.4, dashed=True))
        for given in prior.given:
            if given in ends:
                at = x + width - 18 - 8 * list(ends).index(given)
                picture.shapes.append(Wire(((at, ends[given]), (at, top)), style.PRIOR.stroke, 1.4))
        bottom = top + height
        ends[prior.name] = bottom
    return bottom


def _width(prior: PriorColumn) -> float:
    title, facts = _texts(prior)
    words = max(text_width(title, style.NAME, "SemiBold"), text_width(facts, style.DETAIL))
    return max(words, columns.width(prior.items)) + 2 * PADDING


def _texts(prior: PriorColumn) -> tuple[str, str]:
    given = f" | {', '.join(prior.given)}" if prior.given else ""
    return f"p({prior.name}{given})", f"causal over {prior.grid} codes · {labels.size(prior.parameters)}"


def _fill(picture: Picture, places: dict[int, Place], prior: PriorColumn, card: Place) -> None:
    title, facts = _texts(prior)
    picture.shapes.append(Text(title, (card.middle, card.y + 18), style.NAME, style.TEXT, "SemiBold"))
    picture.shapes.append(Text(facts, (card.middle, card.y + 35), style.DETAIL, style.FAINT))
    inner = card.width - 2 * PADDING
    places |= columns.stack(prior.items, card.middle, card.y + HEADING, inner, upwards=False)
    paint = Painter(picture, places)
    leaves = [leaf for item in prior.items for leaf in item.leaves()]
    for before, after in zip(leaves, leaves[1:], strict=False):
        paint.flow(before, after)
    for item in prior.items:
        paint.item(item, style.PRIOR, card.right)


def _latent(ladder: Ladder, places: Mapping[int, Place], name: str) -> Place | None:
    """Return the place of the circle of a latent."""
    for item in ladder.decoder():
        if any(mark.name == name for mark in item.marks):
            return places[id(item)]
    return None
