"""Sizes of the pieces of a column, and their places in a stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hvdsl.draw import labels, style
from hvdsl.draw.items import Item, Kind
from hvdsl.draw.picture import text_width

ARGUMENT_COLUMNS = 30  # characters of arguments in a name; all of them are told on hovering
OPERATION_COLUMNS = 26  # characters of a line in a box of plain operations
SLANT = 13.0  # of the sides of a box that changes the resolution


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item stands: its box by upper left corner and size."""

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


def side(item: Item, place: Place, y: float, towards: int) -> float:
    """Return where the outline of an item is at a height, on its right (`towards` 1) or its left (-1)."""
    half = place.width / 2
    if item.kind is Kind.LATENT:
        half = max(half**2 - (y - place.centre) ** 2, 0.0) ** 0.5
    elif item.kind is not Kind.FRAME and item.scale != 1.0 and place.height:
        half -= SLANT * (place.bottom - y) / place.height
    return place.middle + towards * half


def heading(item: Item) -> str:
    """Return the name of a recipe with the arguments that tell it apart, and how often it stands there."""
    arguments = item.arguments if len(item.arguments) <= ARGUMENT_COLUMNS else f"{item.arguments[:ARGUMENT_COLUMNS]}…"
    name = f"{item.title}({arguments})" if arguments else item.title
    return f"{name} × {item.count}" if item.count > 1 else name


def detail(item: Item) -> str:
    """Return what stands under the name: channels, trained numbers, and how instances belong together."""
    facts = [f"{item.channels} ch"]
    if item.parameters:
        facts.append(labels.size(item.parameters))
    if item.given:
        facts.append(f"given {', '.join(item.given)}")
    if item.shared:
        facts.append("shared")
    if item.beside:
        facts.append("side by side")
    return " · ".join(facts)


def lines(item: Item) -> list[str]:
    """Return the lines of a box of plain operations."""
    return labels.wrapped(item.title.split(" | "), OPERATION_COLUMNS)


def width(items: Iterable[Item]) -> float:
    """Return the width that the widest piece needs."""
    return max([style.LEAST_WIDTH, *(_width(item) for item in items)])


def _width(item: Item) -> float:
    if item.kind is Kind.FRAME:
        return width(item.children) + 2 * style.FRAME_PADDING
    if item.kind is Kind.RECIPE:
        return max(text_width(heading(item), style.NAME, "SemiBold"), text_width(detail(item), style.DETAIL)) + 36
    if item.kind is Kind.OPERATIONS:
        return max(text_width(line, style.OPERATION) for line in lines(item)) + 28
    return 0.0


def height(items: Sequence[Item]) -> float:
    return sum(_height(item) for item in items) + style.GAP * max(0, len(items) - 1)


def _height(item: Item) -> float:
    if item.kind is Kind.FRAME:
        return height(item.children) + 2 * style.FRAME_PADDING + style.LINE_HEIGHT
    if item.kind is Kind.TAP:
        return style.TAP_HEIGHT
    if item.kind is Kind.OPERATIONS:
        return style.LINE_HEIGHT * len(lines(item)) + 12
    return max(style.BOX_HEIGHT, (2 * style.CIRCLE + 8) * len(item.marks))


def stack(items: Sequence[Item], middle: float, top: float, width: float, *, upwards: bool) -> dict[int, Place]:
    """Place items under each other from `top`; `upwards` puts the first at the bottom. Keys are `id(item)`."""
    places: dict[int, Place] = {}
    y = top
    for item in reversed(items) if upwards else items:
        size = _height(item)
        if item.kind is Kind.FRAME:
            inner = width - 2 * style.FRAME_PADDING
            begin = y + style.FRAME_PADDING + style.LINE_HEIGHT
            places |= stack(item.children, middle, begin, inner, upwards=upwards)
        wide, high = _outline(item, width, size)
        places[id(item)] = Place(middle - wide / 2, y + (size - high) / 2, wide, high)
        y += size + style.GAP
    return places


def _outline(item: Item, width: float, height: float) -> tuple[float, float]:
    """Return the width and height of what is drawn for an item in its part of the column."""
    if item.kind is Kind.LATENT:
        return 2 * style.CIRCLE, 2 * style.CIRCLE
    return (style.TAP_HEIGHT if item.kind is Kind.TAP else width), height
