"""Sizes of the pieces of a column, and their places in a stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hvdsl.draw import labels, style
from hvdsl.draw.picture import text_width
from hvdsl.draw.pieces import Piece, PieceKind
from hvdsl.render.numbers import abbreviated

ARGUMENT_COLUMNS = 30  # characters of arguments in a name; all of them are told on hovering
OPERATION_COLUMNS = 26  # characters of a line in a box of plain operations
SLANT = 13.0  # of the sides of a box that changes the resolution


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece stands: its box by upper left corner and size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def centre(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def right(self) -> float:
        return self.x + self.width


def side(piece: Piece, place: Place, y: float, towards: int) -> float:
    """Return where the outline of a piece is at a height, on its right (`towards` 1) or its left (-1)."""
    half = place.width / 2
    if piece.kind is PieceKind.LATENT:
        half = max(half**2 - (y - place.centre) ** 2, 0.0) ** 0.5
    elif piece.kind is not PieceKind.FRAME and piece.scale != 1.0 and place.height:
        half -= SLANT * (place.bottom - y) / place.height
    return place.middle + towards * half


def heading(piece: Piece) -> str:
    """Return the name of a recipe with the arguments that tell it apart, and how often it stands there."""
    arguments = (
        piece.arguments if len(piece.arguments) <= ARGUMENT_COLUMNS else f"{piece.arguments[:ARGUMENT_COLUMNS]}…"
    )
    name = f"{piece.title}({arguments})" if arguments else piece.title
    return f"{name} × {piece.count}" if piece.count > 1 else name


def detail(piece: Piece) -> str:
    """Return what stands under the name: channels, trained numbers, and how instances belong together."""
    facts = [f"{piece.channels} ch"]
    if piece.parameters:
        facts.append(abbreviated(piece.parameters))
    if piece.given:
        facts.append(f"given {', '.join(piece.given)}")
    if piece.shared:
        facts.append("shared")
    if piece.beside:
        facts.append("side by side")
    return " · ".join(facts)


def operation_lines(piece: Piece) -> list[str]:
    """Return the lines of a box of plain operations."""
    return labels.wrapped(piece.title.split(" | "), OPERATION_COLUMNS)


def width_of(pieces: Iterable[Piece]) -> float:
    """Return the width that the widest piece needs."""
    return max([style.LEAST_WIDTH, *(_width(piece) for piece in pieces)])


def _width(piece: Piece) -> float:
    if piece.kind is PieceKind.FRAME:
        return width_of(piece.children) + 2 * style.FRAME_PADDING
    if piece.kind is PieceKind.RECIPE:
        return max(text_width(heading(piece), style.NAME, "SemiBold"), text_width(detail(piece), style.DETAIL)) + 36
    if piece.kind is PieceKind.OPERATIONS:
        return max(text_width(line, style.OPERATION) for line in operation_lines(piece)) + 28
    return 0.0


def height_of(pieces: Sequence[Piece]) -> float:
    return sum(_height(piece) for piece in pieces) + style.GAP * max(0, len(pieces) - 1)


def _height(piece: Piece) -> float:
    if piece.kind is PieceKind.FRAME:
        return height_of(piece.children) + 2 * style.FRAME_PADDING + style.LINE_HEIGHT
    if piece.kind is PieceKind.TAP:
        return style.TAP_HEIGHT
    if piece.kind is PieceKind.OPERATIONS:
        return style.LINE_HEIGHT * len(operation_lines(piece)) + 12
    return max(style.BOX_HEIGHT, (2 * style.CIRCLE + 8) * len(piece.marks))


def stack(pieces: Sequence[Piece], middle: float, top: float, width: float, *, upwards: bool) -> dict[int, Place]:
    """Place pieces under each other from `top`; `upwards` puts the first at the bottom. Keys are `id(piece)`."""
    places: dict[int, Place] = {}
    y = top
    for piece in reversed(pieces) if upwards else pieces:
        size = _height(piece)
        if piece.kind is PieceKind.FRAME:
            inner = width - 2 * style.FRAME_PADDING
            begin = y + style.FRAME_PADDING + style.LINE_HEIGHT
            places |= stack(piece.children, middle, begin, inner, upwards=upwards)
        wide, high = _outline(piece, width, size)
        places[id(piece)] = Place(middle - wide / 2, y + (size - high) / 2, wide, high)
        y += size + style.GAP
    return places


def _outline(piece: Piece, width: float, height: float) -> tuple[float, float]:
    """Return the width and height of what is drawn for a piece in its part of the column."""
    if piece.kind is PieceKind.LATENT:
        return 2 * style.CIRCLE, 2 * style.CIRCLE
    return (style.TAP_HEIGHT if piece.kind is PieceKind.TAP else width), height
