"""Boxes, trapezoids, frames, taps and latents, at given places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath

from hvdsl.draw import columns, labels, style
from hvdsl.draw.columns import Place
from hvdsl.draw.items import Item, Kind, Mark, key
from hvdsl.draw.picture import Anchor, Circle, Face, Picture, Point, Polygon, Text, Wire, box, text_width


class Painter:
    """Paints items into a picture."""

    def __init__(self, picture: Picture, places: Mapping[int, Place], prior: str = "") -> None:
        self._prior = prior
        self._shapes = picture.shapes
        self._places = places
        self.latents: dict[str, Point] = {}  # by name: the right end of the first of that name in the column

    def place(self, item: Item) -> Place:
        return self._places[id(item)]

    def _key(self, item: Item) -> str:
        return key(item, self._prior)

    def item(self, item: Item, ink: style.Ink, circles: float) -> None:
        """Paint an item; `circles` is the middle of the latents beside the column."""
        place = self.place(item)
        if item.kind is Kind.FRAME:
            self._frame(item, place, ink)
            for child in item.children:
                self.item(child, ink, circles)
        elif item.kind is Kind.TAP:
            self._shapes.append(
                Circle((place.middle, place.centre), 3.6, ink.stroke, about=_about(item), key=self._key(item))
            )
        elif item.kind is Kind.LATENT:
            self._latent(item.marks[0], (place.middle, place.centre), item)
            self.latents.setdefault(item.marks[0].name, (place.right, place.centre))
            # Above the middle: its prior points there, and what passes over the next pieces leaves below.
            lines = len(self.mark_lines(item.marks[0]))
            self._mark_text(item.marks[0], place.right + 5, place.centre - 4.5 - 6.5 * lines, "start")
        else:
            self._box(item, place, ink)
            for n, mark in enumerate(item.marks):
                y = place.y + place.height * (n + 0.5) / len(item.marks)
                self._beside(mark, place, (circles, y), item)

    def two_lines(self, place: Place, name: str, detail: str, ink: style.Ink) -> None:
        """Paint a box that is no item: a name and a smaller line under it."""
        outline = box(place.x, place.y, place.width, place.height)
        self._shapes.append(Polygon(outline, ink.fill, ink.stroke, radius=6))
        self._shapes.append(Text(name, (place.middle, place.centre - 7), style.NAME, style.TEXT))
        self._shapes.append(Text(detail, (place.middle, place.centre + 9), style.DETAIL, style.FAINT))

    def arrow(self, start: Point, end: Point) -> None:
        self._shapes.append(Wire((start, end), style.STREAM))

    def flow(self, source: Item, target: Item) -> None:
        """Draw the stream between neighbours of a column."""
        a, b = self.place(source), self.place(target)
        if a.y < b.y:
            self.arrow((a.middle, a.bottom), (b.middle, b.y))
        else:
            self.arrow((a.middle, a.y), (b.middle, b.bottom))

    def line_to_tap(self, before: Item, tap: Item) -> None:
        a, b = self.place(before), self.place(tap)
        self._shapes.append(Wire(((a.middle, a.y), (b.middle, b.centre)), style.STREAM, arrow=False))

    def _frame(self, item: Item, place: Place, ink: style.Ink) -> None:
        outline = box(place.x, place.y, place.width, place.height)
        self._shapes.append(Polygon(outline, None, ink.stroke, line=1.1, radius=9, dashed=True))
        at = (place.right - 11, place.y + 13)
        count = f"× {item.count} side by side" if item.beside else f"× {item.count}"
        self._shapes.append(Text(count, at, style.NAME, ink.stroke, "SemiBold", "end"))

    def _box(self, item: Item, place: Place, ink: style.Ink) -> None:
        plain = item.kind is Kind.OPERATIONS
        fill = style.PAPER if plain else ink.fill
        self._shapes.append(
            Polygon(_outline(item, place), fill, ink.stroke, radius=5, about=_about(item), key=self._key(item))
        )
        if plain:
            rows = columns.lines(item)
            for n, line in enumerate(rows):
                y = place.centre + (n - (len(rows) - 1) / 2) * style.LINE_HEIGHT
                self._shapes.append(Text(line, (place.middle, y), style.OPERATION, style.TEXT))
            return
        heading = columns.heading(item)
        self._shapes.append(Text(heading, (place.middle, place.centre - 7), style.NAME, style.TEXT, "SemiBold"))
        self._shapes.append(Text(columns.detail(item), (place.middle, place.centre + 9), style.DETAIL, style.FAINT))

    def _beside(self, mark: Mark, place: Place, centre: Point, item: Item) -> None:
        x, y = centre
        side = 1 if x > place.middle else -1
        inner, outer = (x - side * style.CIRCLE, y), (columns.side(item, place, y, side), y)
        # Bottom-up the box gives the latent its distribution; top-down the latent flows back into the box.
        ends = (outer, inner) if side < 0 else (inner, outer)
        self._shapes.append(Wire(ends, style.LATENT.stroke))
        self._latent(mark, (x, y), item)
        self._mark_text(mark, x + side * (style.CIRCLE + 7), y, "start" if side > 0 else "end")

    def _latent(self, mark: Mark, centre: Point, item: Item) -> None:
        about = f"latent {mark.name}, {labels.shapes(mark.shapes)}, {len(mark.shapes)} in the model\n{_about(item)}"
        ink = style.LATENT
        circle = Circle(centre, style.CIRCLE, ink.fill, ink.stroke, 1.5, mark.on_the_way_up, about, self._key(item))
        self._shapes.append(circle)
        self._shapes.extend(name_inside(mark.name, centre))

    @staticmethod
    def mark_lines(mark: Mark) -> list[str]:
        """Return what stands beside a latent: its shape, its codes, how many there are."""
        facts = [labels.shapes(mark.shapes)]
        if mark.classes:
            facts.append(f"{mark.classes} codes")
        if mark.count > 1:
            facts.append(f"× {mark.count}")
        return facts

    def _mark_text(self, mark: Mark, x: float, y: float, anchor: Anchor) -> None:
        facts = self.mark_lines(mark)
        for n, line in enumerate(facts):
            at = (x, y + (n - (len(facts) - 1) / 2) * 13)
            counts = line.startswith("×")
            face: Face = "SemiBold" if counts else "Regular"
            colour = style.LATENT.stroke if counts else style.TEXT
            self._shapes.append(Text(line, at, style.DETAIL, colour, face, anchor, halo=style.BANDS[0]))


def name_inside(name: str, centre: Point) -> Iterator[Text]:
    """Write the name of a latent into its circle: `z`, or `z` with what follows `_` as its index."""
    stem, _, index = name.partition("_")
    size, small = 14.0, 9.0
    total = text_width(stem, size, "Italic") + text_width(index, small, "Italic")
    shrink = min(1.0, (2 * style.CIRCLE - 4) / total)
    x = centre[0] - total * shrink / 2
    yield Text(stem, (x, centre[1] - 0.5), size * shrink, style.TEXT, "Italic", "start")
    if index:
        x += text_width(stem, size * shrink, "Italic")
        yield Text(index, (x, centre[1] + 4), small * shrink, style.TEXT, "Italic", "start")


def _outline(item: Item, place: Place) -> tuple[Point, ...]:
    """Return a rectangle, or a trapezoid that is narrow where the map is small (the coarse end is always up)."""
    if item.scale == 1.0:
        return box(place.x, place.y, place.width, place.height)
    return (
        (place.x + columns.SLANT, place.y),
        (place.right - columns.SLANT, place.y),
        (place.right, place.bottom),
        (place.x, place.bottom),
    )


def _name(item: Item) -> str:
    whole = f"{item.title}({item.arguments})" if item.arguments else item.title
    return f"{whole} × {item.count}" if item.count > 1 else whole


def _about(item: Item) -> str:
    """Say what an item stands for: the text that shows on hovering."""
    where = item.scope.path if item.scope else ""
    span = item.nodes[0].span
    place = f"{PurePath(span.source.name).name}:{span.line}"  # drawings go to others: no folder of this machine
    shape = labels.shape(*item.nodes[-1].shapes[0])
    facts = [
        _name(item).replace(" | ", " → ") or item.kind.value,
        f"{where} ({place})" if where else place,
        f"out {shape}, {len(item.nodes):,} operations, {item.parameters:,} parameters",
    ]
    return "\n".join(facts)
