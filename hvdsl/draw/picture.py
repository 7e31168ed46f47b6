"""A picture: coloured shapes with coordinates, for every picture format. Units are CSS pixels, y grows downwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Point: TypeAlias = tuple[float, float]
Face: TypeAlias = Literal["Regular", "SemiBold", "Italic"]
Anchor: TypeAlias = Literal["start", "middle", "end"]
FONTS = Path(__file__).parent / "fonts"


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled shape with rounded corners: boxes, trapezoids, frames."""

    points: tuple[Point, ...]
    fill: str | None = None
    stroke: str | None = None
    line: float = 1.2
    radius: float = 5.0
    dashed: bool = False
    about: str = ""  # what it stands for, shown on hovering
    key: str = ""  # which piece of the ladder it is


@dataclass(frozen=True, slots=True)
class Circle:
    centre: Point
    radius: float
    fill: str
    stroke: str | None = None
    line: float = 1.2
    dashed: bool = False
    about: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """A line through points with rounded corners, and an arrowhead at its end."""

    points: tuple[Point, ...]
    stroke: str
    line: float = 1.3
    radius: float = 8.0
    dashed: bool = False
    arrow: bool = True


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; `at` is the anchor on the middle of its height."""

    text: str
    at: Point
    size: float
    colour: str
    face: Face = "Regular"
    anchor: Anchor = "middle"
    halo: str | None = None  # a background colour that keeps lines off the letters


Shape: TypeAlias = Polygon | Circle | Wire | Text


@dataclass(slots=True)
class Picture:
    title: str
    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)


def box(x: float, y: float, width: float, height: float) -> tuple[Point, ...]:
    """Return the corners of a rectangle, clockwise from its upper left."""
    return ((x, y), (x + width, y), (x + width, y + height), (x, y + height))


@cache
def font(face: Face, size: float) -> FreeTypeFont:
    """Return a face of the shipped font (Inter, SIL Open Font License) at a size in pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(str(FONTS / f"Inter-{face}.otf"), size)


def text_width(text: str, size: float, face: Face = "Regular") -> float:
    """Return the width of a line of text in pixels."""
    return font(face, 100).getlength(text) * size / 100


def rounded(points: tuple[Point, ...], radius: float, *, closed: bool) -> list[tuple[Point, Point, Point]]:
    """Return each corner as (start of the bend, corner, end of the bend); the ends of an open line bend nowhere."""
    corners: list[tuple[Point, Point, Point]] = []
    n = len(points)
    for i, corner in enumerate(points):
        if not closed and i in (0, n - 1):
            corners.append((corner, corner, corner))
        else:
            before, after = points[i - 1], points[(i + 1) % n]
            corners.append((_towards(corner, before, radius), corner, _towards(corner, after, radius)))
    return corners


def _towards(corner: Point, other: Point, radius: float) -> Point:
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = (dx * dx + dy * dy) ** 0.5
    part = min(radius, length / 2) / length if length else 0.0
    return corner[0] + dx * part, corner[1] + dy * part


def arrowhead(points: tuple[Point, ...], line: float) -> tuple[Point, Point, Point]:
    """Return the triangle at the end of a line: its tip is the line's end."""
    (x0, y0), (x1, y1) = points[-2], points[-1]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    back, half = 5.0 + line * 1.6, 2.2 + line
    base = (x1 - ux * back, y1 - uy * back)
    return (x1, y1), (base[0] - uy * half, base[1] + ux * half), (base[0] + uy * half, base[1] - ux * half)
