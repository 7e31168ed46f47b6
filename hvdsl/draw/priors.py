"""Second-stage priors: one card each, to the right of the ladder, pointing at the latent that it models."""

from __future__ import annotations

from collections.abc import Mapping

from hvdsl.draw import columns, labels, style
from hvdsl.draw.columns import Place
from hvdsl.draw.ladder import Ladder, PriorColumn
from hvdsl.draw.paint import Painter
from hvdsl.draw.picture import Picture, Point, Polygon, Text, Wire, box, text_width
from hvdsl.draw.wires import draw_beside

PADDING = 30.0  # room for what passes over pieces
HEADING = 50.0
BETWEEN = 30.0
FIRST = 104.0  # where the bands begin, too
CLEAR = 1.5  # between a latent and the arrow of its prior
NAME_LINE = 18.0  # from the top of a card to the middle of its name


def priors_width(ladder: Ladder) -> float:
    """Return the width of a card: they are all as wide as the widest."""
    return max((_width(prior) for prior in ladder.priors), default=0.0)


def draw_priors(
    picture: Picture, ladder: Ladder, places: dict[int, Place], latents: Mapping[str, Point], x: float
) -> float:
    """Draw a card for each prior, its left side at `x`; return where the last one ends.

    `latents` says, by name, where the right end of a latent is: there its prior points.
    """
    width = priors_width(ladder)
    cards: dict[str, Place] = {}
    bottom = 0.0
    for prior in ladder.priors:
        latent = latents.get(prior.name)
        top = max(bottom + BETWEEN if cards else FIRST, latent[1] - NAME_LINE if latent else 0.0)
        card = Place(x, top, width, HEADING + columns.height(prior.items) + style.GAP)
        outline = box(card.x, card.y, card.width, card.height)
        picture.shapes.append(Polygon(outline, "#faf8fd", style.PRIOR.stroke, radius=9, dashed=True))
        _fill(picture, places, prior, card)
        if latent:
            picture.shapes.append(Wire(_to_latent(card, latent), style.PRIOR.stroke, 1.4, dashed=True))
        names = list(cards)
        for given in prior.given:
            if given in cards:
                points = _to_later(cards[given], card, len(names) - names.index(given) - 1)
                picture.shapes.append(Wire(points, style.PRIOR.stroke, 1.4))
        cards[prior.name] = card
        bottom = card.bottom
    return bottom


def _to_latent(card: Place, latent: Point) -> tuple[Point, ...]:
    start, end = (card.x, card.y + NAME_LINE), (latent[0] + CLEAR, latent[1])
    if abs(start[1] - end[1]) < 1:
        return start, end
    return start, (card.x - 16, start[1]), (card.x - 16, end[1]), end


def _to_later(given: Place, card: Place, between: int) -> tuple[Point, ...]:
    """Return the way from a prior to a later one that is conditioned on it, around the cards between them."""
    if not between:
        return (card.middle, given.bottom), (card.middle, card.y)
    x, start, end = card.right + 10 * between, given.bottom - 20, card.y + NAME_LINE
    return (card.right, start), (x, start), (x, end), (card.right, end)


def _width(prior: PriorColumn) -> float:
    title, facts = _texts(prior)
    words = max(text_width(title, style.NAME, "SemiBold"), text_width(facts, style.DETAIL))
    return max(words + 24, columns.width(prior.items) + 2 * PADDING)


def _texts(prior: PriorColumn) -> tuple[str, str]:
    given = f" | {', '.join(prior.given)}" if prior.given else ""
    return f"p({prior.name}{given})", f"causal over {prior.grid} codes · {labels.size(prior.parameters)}"


def _fill(picture: Picture, places: dict[int, Place], prior: PriorColumn, card: Place) -> None:
    title, facts = _texts(prior)
    picture.shapes.append(Text(title, (card.middle, card.y + NAME_LINE), style.NAME, style.TEXT, "SemiBold"))
    picture.shapes.append(Text(facts, (card.middle, card.y + 35), style.DETAIL, style.FAINT))
    inner = card.width - 2 * PADDING
    places |= columns.stack(prior.items, card.middle, card.y + HEADING, inner, upwards=False)
    paint = Painter(picture, places, prior.name)
    for source, target in prior.flows:
        paint.flow(source, target)
    draw_beside(picture, prior.links, places, card.right - PADDING - 5)
    for item in prior.items:
        paint.item(item, style.PRIOR, card.right)
