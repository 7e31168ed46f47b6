"""Links between columns and inside them, as lines with right angles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hvdsl.draw import style
from hvdsl.draw.columns import Place, side
from hvdsl.draw.items import Kind
from hvdsl.draw.ladder import Ladder, Link
from hvdsl.draw.picture import Anchor, Picture, Point, Text, Wire

LANE = 9.0  # between parallel lines
SHORT = 3.0  # heights that differ by less make a straight line
INSET = 7.0  # from the corners of a box to where a line may reach it


class Ports:
    """Where links leave and reach an item: spread over its side, in the order of the links."""

    def __init__(self, links: Sequence[Link]) -> None:
        taps = [link for link in links if link.tap]
        self._out = {id(link): _turn(link, [o for o in taps if o.source is link.source]) for link in taps}
        self._in = {id(link): _turn(link, [o for o in taps if o.target is link.target]) for link in taps}

    def source(self, link: Link, place: Place) -> float:
        """Return the height at which a link leaves its source."""
        return place.centre if link.source.kind is Kind.TAP else place.y + place.height * self._out[id(link)]

    def target(self, link: Link, place: Place) -> float:
        """Return the height at which a link reaches its target."""
        return place.y + place.height * self._in[id(link)]

    def level(self, link: Link, start: float, place: Place) -> float:
        """Return the height at which a link reaches its target: level with `start`, if that meets the target."""
        port = self.target(link, place)
        alone = self._in[id(link)] == 0.5 and link.target.kind is not Kind.LATENT
        inside = place.y + INSET <= start <= place.bottom - INSET
        return start if abs(start - port) < SHORT or (alone and inside) else port


def _turn(link: Link, siblings: Sequence[Link]) -> float:
    return (next(n for n, other in enumerate(siblings) if other is link) + 1) / (len(siblings) + 1)


def draw_links(
    picture: Picture,
    ladder: Ladder,
    places: Mapping[int, Place],
    encoder: tuple[float, float],
    decoder: tuple[float, float],
) -> None:
    """Draw every link. The columns are given by their middle and width."""
    left, right = encoder[0] + encoder[1] / 2, decoder[0] - decoder[1] / 2
    _across(picture, [link for link in ladder.links if link.tap], places, left, right)
    inside = [link for link in ladder.links if not link.tap]
    up = {id(item) for item in ladder.encoder()}
    draw_beside(picture, [link for link in inside if id(link.source) not in up], places, decoder[0] + decoder[1] / 2)
    edge = encoder[0] - encoder[1] / 2
    draw_beside(picture, [link for link in inside if id(link.source) in up], places, edge, towards=-1)


def _across(picture: Picture, links: Sequence[Link], places: Mapping[int, Place], left: float, right: float) -> None:
    """Draw the taps through the gutter between the columns."""
    ports = Ports(links)
    bends = 0
    most = max(1, int((right - left - 40) / LANE))
    for link in links:
        source, target = places[id(link.source)], places[id(link.target)]
        height = ports.source(link, source)
        start = (source.middle if link.source.kind is Kind.TAP else side(link.source, source, height, 1), height)
        y = ports.level(link, height, target)
        end = (side(link.target, target, y, -1), y)
        if y == start[1]:
            _wire(picture, (start, end), link.label, ((left + right) / 2, y - 9), "middle")
            continue
        lane = right - 20 - LANE * (bends % most)
        bends += 1
        words = (lane - 6, y) if abs(y - start[1]) > 2 * style.DETAIL else (lane - 6, start[1] - 9)
        _wire(picture, (start, (lane, start[1]), (lane, y), end), link.label, words, "end")


def _wire(picture: Picture, points: tuple[Point, ...], label: str, at: Point, anchor: Anchor) -> None:
    picture.shapes.append(Wire(points, style.ENCODER.stroke, 1.5, radius=7))
    if label:
        ink = style.ENCODER.stroke
        picture.shapes.append(Text(label, at, style.DETAIL, ink, anchor=anchor, halo=style.BANDS[0]))


def draw_beside(
    picture: Picture, links: Sequence[Link], places: Mapping[int, Place], edge: float, towards: int = 1
) -> None:
    """Draw what passes over pieces of its own column: out at the side, along it, and in again."""
    for n, link in enumerate(links):
        a, b = places[id(link.source)], places[id(link.target)]
        x = edge + towards * (12 + LANE * (n % 4))
        down = 1 if a.y < b.y else -1
        start, end = a.centre + down * a.height * 0.28, b.centre - down * b.height * 0.28
        out, into = side(link.source, a, start, towards), side(link.target, b, end, towards)
        points = ((out, start), (x, start), (x, end), (into, end))
        picture.shapes.append(Wire(points, style.STREAM, 1.1, radius=7))
