"""A picture as SVG."""

from __future__ import annotations

from html import escape

from hvdsl.draw.picture import Circle, Picture, Point, Polygon, Shape, Text, Wire, arrowhead, rounded

FAMILY = "Inter, 'Helvetica Neue', Helvetica, Arial, sans-serif"
DASHES = "4 3"
_WEIGHT = {"Regular": "", "SemiBold": ' font-weight="600"', "Italic": ' font-style="italic"'}


def svg(picture: Picture, *, keyed: bool = False) -> str:
    """Return a whole SVG document; `keyed` says of each piece which one it is, for a script."""
    size = f'width="{_n(picture.width)}" height="{_n(picture.height)}"'
    view = f'viewBox="0 0 {_n(picture.width)} {_n(picture.height)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-family="{FAMILY}" role="img">',
        f"<title>{escape(picture.title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *(_shape(shape, keyed) for shape in picture.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _shape(shape: Shape, keyed: bool) -> str:
    if isinstance(shape, Polygon):
        return _element("path", f'd="{_path(shape.points, shape.radius, closed=True)}"', shape, keyed)
    if isinstance(shape, Circle):
        place = f'cx="{_n(shape.centre[0])}" cy="{_n(shape.centre[1])}" r="{_n(shape.radius)}"'
        return _element("circle", place, shape, keyed)
    if isinstance(shape, Wire):
        return _wire(shape)
    return _text(shape)


def _element(tag: str, geometry: str, shape: Polygon | Circle, keyed: bool) -> str:
    paint = f'fill="{shape.fill or "none"}"'
    if shape.stroke:
        paint += f' stroke="{shape.stroke}" stroke-width="{_n(shape.line)}"'
    if shape.dashed:
        paint += f' stroke-dasharray="{DASHES}"'
    if not shape.about:
        return f"<{tag} {geometry} {paint}/>"
    key = f' data-key="{escape(shape.key)}"' if keyed and shape.key else ""
    return f'<{tag} {geometry} {paint} class="item"{key}><title>{escape(shape.about)}</title></{tag}>'


def _wire(wire: Wire) -> str:
    dashes = f' stroke-dasharray="{DASHES}"' if wire.dashed else ""
    points = wire.points
    head = ""
    if wire.arrow:
        triangle = arrowhead(points, wire.line)
        head = f'<path d="{_path(triangle, 0, closed=True)}" fill="{wire.stroke}"/>'
        points = (*points[:-1], _middle(triangle[1], triangle[2]))
    path = _path(points, wire.radius, closed=False)
    return f'<path d="{path}" fill="none" stroke="{wire.stroke}" stroke-width="{_n(wire.line)}"{dashes}/>{head}'


def _text(text: Text) -> str:
    halo = f' stroke="{text.halo}" stroke-width="4" paint-order="stroke" stroke-linejoin="round"' if text.halo else ""
    # dominant-baseline is not honoured everywhere; a third of the size is where the middle of capitals lies.
    place = f'x="{_n(text.at[0])}" y="{_n(text.at[1] + 0.36 * text.size)}"'
    style = f'font-size="{_n(text.size)}" fill="{text.colour}" text-anchor="{text.anchor}"{_WEIGHT[text.face]}{halo}'
    return f'<text {place} {style} pointer-events="none">{escape(text.text)}</text>'


def _path(points: tuple[Point, ...], radius: float, *, closed: bool) -> str:
    parts: list[str] = []
    for i, (begin, corner, end) in enumerate(rounded(points, radius, closed=closed)):
        parts.append(f"{'L' if i else 'M'}{_n(begin[0])} {_n(begin[1])}")
        if begin != end:
            parts.append(f"Q{_n(corner[0])} {_n(corner[1])} {_n(end[0])} {_n(end[1])}")
    return "".join(parts) + ("Z" if closed else "")


def _middle(a: Point, b: Point) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
