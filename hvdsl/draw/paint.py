"""Boxes, trapezoids, frames, taps and latents, at given places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath

from hvdsl.draw import columns, labels, style
from hvdsl.draw.columns import Place
from hvdsl.draw.picture import Anchor, Circle, Face, Picture, Point, Polygon, Text, Wire, box, text_width
from hvdsl.draw.pieces import Mark, Piece, PieceKind, piece_key


class Painter:
    """Paints pieces into a picture."""

    def __init__(self, picture: Picture, places: Mapping[int, Place], prior: str = "") -> None:
        self._prior = prior
        self._shapes = picture.shapes
        self._places = places
        self.latents: dict[str, Point] = {}  # by name: the right end of the first of that name in the column

    def place(self, piece: Piece) -> Place:
        return self._places[id(piece)]

    def _key(self, piece: Piece) -> str:
        return piece_key(piece, self._prior)

    def piece(self, piece: Piece, ink: style.Ink, circles: float) -> None:
        """Paint a piece; `circles` is the middle of the latents beside the column."""
        place = self.place(piece)
        if piece.kind is PieceKind.FRAME:
            self._frame(piece, place, ink)
            for child in piece.children:
                self.piece(child, ink, circles)
        elif piece.kind is PieceKind.TAP:
            self._shapes.append(
                Circle((place.middle, place.centre), 3.6, ink.stroke, about=_about(piece), key=self._key(piece))
            )
        elif piece.kind is PieceKind.LATENT:
            self._latent(piece.marks[0], (place.middle, place.centre), piece)
            self.latents.setdefault(piece.marks[0].name, (place.right, place.centre))
            # Above the middle: its prior points there, and what passes over the next pieces leaves below.
            lines = len(self.mark_lines(piece.marks[0]))
            self._mark_text(piece.marks[0], place.right + 5, place.centre - 4.5 - 6.5 * lines, "start")
        else:
            self._box(piece, place, ink)
            for n, mark in enumerate(piece.marks):
                y = place.y + place.height * (n + 0.5) / len(piece.marks)
                self._beside(mark, place, (circles, y), piece)

    def two_lines(self, place: Place, name: str, detail: str, ink: style.Ink) -> None:
        """Paint a box that is no piece: a name and a smaller line under it."""
        outline = box(place.x, place.y, place.width, place.height)
        self._shapes.append(Polygon(outline, ink.fill, ink.stroke, radius=6))
        self._shapes.append(Text(name, (place.middle, place.centre - 7), style.NAME, style.TEXT))
        self._shapes.append(Text(detail, (place.middle, place.centre + 9), style.DETAIL, style.FAINT))

    def arrow(self, start: Point, end: Point) -> None:
        self._shapes.append(Wire((start, end), style.STREAM))

    def flow(self, source: Piece, target: Piece) -> None:
        """Draw the stream between neighbours of a column."""
        a, b = self.place(source), self.place(target)
        if a.y < b.y:
            self.arrow((a.middle, a.bottom), (b.middle, b.y))
        else:
            self.arrow((a.middle, a.y), (b.middle, b.bottom))

    def line_to_tap(self, before: Piece, tap: Piece) -> None:
        a, b = self.place(before), self.place(tap)
        self._shapes.append(Wire(((a.middle, a.y), (b.middle, b.centre)), style.STREAM, arrow=False))

    def _frame(self, piece: Piece, place: Place, ink: style.Ink) -> None:
        outline = box(place.x, place.y, place.width, place.height)
        self._shapes.append(Polygon(outline, None, ink.stroke, line=1.1, radius=9, dashed=True))
        at = (place.right - 11, place.y + 13)
        count = f"× {piece.count} side by side" if piece.beside else f"× {piece.count}"
        self._shapes.append(Text(count, at, style.NAME, ink.stroke, "SemiBold", "end"))

    def _box(self, piece: Piece, place: Place, ink: style.Ink) -> None:
        plain = piece.kind is PieceKind.OPERATIONS
        fill = style.PAPER if plain else ink.fill
        self._shapes.append(
            Polygon(_outline(piece, place), fill, ink.stroke, radius=5, about=_about(piece), key=self._key(piece))
        )
        if plain:
            rows = columns.operation_lines(piece)
            for n, line in enumerate(rows):
                y = place.centre + (n - (len(rows) - 1) / 2) * style.LINE_HEIGHT
                self._shapes.append(Text(line, (place.middle, y), style.OPERATION, style.TEXT))
            return
        heading = columns.heading(piece)
        self._shapes.append(Text(heading, (place.middle, place.centre - 7), style.NAME, style.TEXT, "SemiBold"))
        self._shapes.append(Text(columns.detail(piece), (place.middle, place.centre + 9), style.DETAIL, style.FAINT))

    def _beside(self, mark: Mark, place: Place, centre: Point, piece: Piece) -> None:
        x, y = centre
        side = 1 if x > place.middle else -1
        inner, outer = (x - side * style.CIRCLE, y), (columns.side(piece, place, y, side), y)
        # Bottom-up the box gives the latent its distribution; top-down the latent flows back into the box.
        ends = (outer, inner) if side < 0 else (inner, outer)
        self._shapes.append(Wire(ends, style.LATENT.stroke))
        self._latent(mark, (x, y), piece)
        self._mark_text(mark, x + side * (style.CIRCLE + 7), y, "start" if side > 0 else "end")

    def _latent(self, mark: Mark, centre: Point, piece: Piece) -> None:
        about = f"latent {mark.name}, {labels.shapes(mark.shapes)}, {len(mark.shapes)} in the model\n{_about(piece)}"
        ink = style.LATENT
        circle = Circle(centre, style.CIRCLE, ink.fill, ink.stroke, 1.5, mark.on_the_way_up, about, self._key(piece))
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


def _outline(piece: Piece, place: Place) -> tuple[Point, ...]:
    """Return a rectangle, or a trapezoid that is narrow where the map is small (the coarse end is always up)."""
    if piece.scale == 1.0:
        return box(place.x, place.y, place.width, place.height)
    return (
        (place.x + columns.SLANT, place.y),
        (place.right - columns.SLANT, place.y),
        (place.right, place.bottom),
        (place.x, place.bottom),
    )


def _name(piece: Piece) -> str:
    whole = f"{piece.title}({piece.arguments})" if piece.arguments else piece.title
    return f"{whole} × {piece.count}" if piece.count > 1 else whole


def _about(piece: Piece) -> str:
    """Say what a piece stands for: the text that shows on hovering."""
    where = piece.scope.path if piece.scope else ""
    span = piece.nodes[0].span
    place = f"{PurePath(span.source.name).name}:{span.line}"  # drawings go to others: no folder of this machine
    shape = labels.shape(*piece.nodes[-1].shapes[0])
    facts = [
        _name(piece).replace(" | ", " → ") or piece.kind.value,
        f"{where} ({place})" if where else place,
        f"out {shape}, {len(piece.nodes):,} operations, {piece.parameters:,} parameters",
    ]
    return "\n".join(facts)
