"""A picture as PNG, drawn by Pillow alone: at several times the size, then reduced, which smooths every edge."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from math import cos, pi, sin

from PIL import Image, ImageDraw

from hvdsl.draw.picture import Circle, Picture, Point, Polygon, Shape, Text, Wire, arrowhead, font, rounded

SCALE = 2  # pixels of the file per CSS pixel
SMOOTHING = 3  # drawn this much larger still
MOST_PIXELS = 60_000_000  # of the large drawing (180 MB); a very tall ladder is drawn smaller instead
DASH, GAP = 4.0, 3.0


def png(picture: Picture) -> bytes:
    """Return a PNG file."""
    return _encoded(_Painter(picture).image())


def _encoded(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


class _Painter:
    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        most = (MOST_PIXELS / (picture.width * picture.height)) ** 0.5
        self._reduce = SMOOTHING
        self._scale = min(float(SCALE * SMOOTHING), most)
        size = (round(picture.width * self._scale), round(picture.height * self._scale))
        self._image = Image.new("RGB", size, "white")
        self._draw = ImageDraw.Draw(self._image)

    def image(self) -> Image.Image:
        for shape in self._picture.shapes:
            self._shape(shape)
        size = (self._image.width // self._reduce, self._image.height // self._reduce)
        return self._image.resize(size, Image.Resampling.BOX)

    def _shape(self, shape: Shape) -> None:
        if isinstance(shape, Polygon):
            self._outlined(_curve(shape.points, shape.radius, closed=True), shape)
        elif isinstance(shape, Circle):
            self._circle(shape)
        elif isinstance(shape, Wire):
            self._wire(shape)
        else:
            self._text(shape)

    def _outlined(self, points: list[Point], shape: Polygon | Circle) -> None:
        if shape.fill:
            self._draw.polygon(self._scaled(points), fill=shape.fill)
        if shape.stroke:
            self._line([*points, points[0]], shape.stroke, shape.line, dashed=shape.dashed)

    def _circle(self, circle: Circle) -> None:
        x, y = circle.centre
        turns = [2 * pi * i / 96 for i in range(96)]
        self._outlined([(x + circle.radius * cos(t), y + circle.radius * sin(t)) for t in turns], circle)

    def _wire(self, wire: Wire) -> None:
        points = wire.points
        if wire.arrow:
            head = arrowhead(points, wire.line)
            self._draw.polygon(self._scaled(list(head)), fill=wire.stroke)
            points = (*points[:-1], ((head[1][0] + head[2][0]) / 2, (head[1][1] + head[2][1]) / 2))
        self._line(_curve(points, wire.radius, closed=False), wire.stroke, wire.line, dashed=wire.dashed)

    def _line(self, points: list[Point], colour: str, line: float, *, dashed: bool) -> None:
        width = max(1, round(line * self._scale))
        for piece in _dashes(points) if dashed else [points]:
            self._draw.line(self._scaled(piece), fill=colour, width=width, joint="curve")

    def _text(self, text: Text) -> None:
        face = font(text.face, text.size * self._scale)
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[text.anchor]
        place = (text.at[0] * self._scale, (text.at[1] + 0.36 * text.size) * self._scale)
        halo = round(2 * self._scale) if text.halo else 0
        if halo:
            self._draw.text(place, text.text, text.halo, face, anchor, stroke_width=halo, stroke_fill=text.halo)
        self._draw.text(place, text.text, text.colour, face, anchor)

    def _scaled(self, points: list[Point]) -> list[Point]:
        return [(x * self._scale, y * self._scale) for x, y in points]


def _curve(points: tuple[Point, ...], radius: float, *, closed: bool) -> list[Point]:
    """Return a line through the rounded corners, each bend as a quadratic Bezier in eight pieces."""
    curve: list[Point] = []
    for begin, corner, end in rounded(points, radius, closed=closed):
        if begin == end:
            curve.append(corner)
            continue
        for i in range(9):
            t = i / 8
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
            curve.append((a * begin[0] + b * corner[0] + c * end[0], a * begin[1] + b * corner[1] + c * end[1]))
    return curve


def _dashes(points: list[Point]) -> list[list[Point]]:
    """Cut a line into dashes."""
    pieces: list[list[Point]] = [[points[0]]]
    drawing, left = True, DASH
    for a, b in pairwise(points):
        length = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5
        done = 0.0
        while length - done > left:
            done += left
            at = (a[0] + (b[0] - a[0]) * done / length, a[1] + (b[1] - a[1]) * done / length)
            if drawing:
                pieces[-1].append(at)
            else:
                pieces.append([at])
            drawing = not drawing
            left = DASH if drawing else GAP
        left -= length - done
        if drawing:
            pieces[-1].append(b)
    return [piece for piece in pieces if len(piece) > 1]
