"""Charts: the rate of each latent group, and receiver operating characteristics; as PNG, SVG or PDF."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hvdsl.draw.picture import Picture, Polygon, Text, Wire, box, text_width
from hvdsl.draw.style import FAINT, TEXT
from hvdsl.errors import UsageError
from hvdsl.runtime.ground.disk import write_output

if TYPE_CHECKING:
    from hvdsl.workflows.score import Roc

ENDINGS = (".png", ".svg", ".pdf")
BAR, GRID, COLOURS = "#426eb4", "#cdcdcd", ("#426eb4", "#cf8a41", "#4f9857", "#8767ad")
SIZE, TITLE_SIZE, LINE = 12.0, 15.0, 20.0


def check_chart(path: Path) -> Path:
    """Return the path of a chart. Raises UsageError where its ending is none of a chart's."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"a chart cannot be written as `{path}`: its ending should be one of {', '.join(ENDINGS)}")
    return path


def write_chart(picture: Picture, path: Path) -> None:
    """Write a chart as the ending says.

    Raises:
        DiskError: it cannot be written.
    """
    from hvdsl.draw.png import png
    from hvdsl.draw.svg import svg

    match check_chart(path).suffix.lower():
        case ".svg":
            write_output(path, svg(picture))
        case ".png":
            write_output(path, png(picture))
        case _:
            from PIL import Image

            file = io.BytesIO()
            with Image.open(io.BytesIO(png(picture))) as image:
                image.save(file, "PDF", resolution=144)
            write_output(path, file.getvalue())


def rates_chart(values: Sequence[float], labels: Sequence[str], title: str) -> Picture:
    """Draw nats per image of each latent group, in order of generation, as horizontal bars."""
    left = max((text_width(label, SIZE) for label in labels), default=0.0) + 24
    top, room = 44.0, 400.0
    bottom = top + LINE * len(values)
    picture = Picture(title, max(left + room + 90, text_width(title, TITLE_SIZE) + 40), bottom + 36)
    picture.shapes.append(Text(title, (12, 20), TITLE_SIZE, TEXT, "SemiBold", "start"))
    largest = max([*values, 1e-9])
    for i, (value, label) in enumerate(zip(values, labels, strict=True)):
        y, width = top + i * LINE, max(1.0, max(0.0, value) / largest * room)
        picture.shapes += [
            Polygon(box(left, y + 3, width, LINE - 6), BAR, radius=0, about=f"{label}: {value:.4g} nats/image"),
            Text(label, (left - 8, y + LINE / 2), SIZE, TEXT, anchor="end"),
            Text(f"{value:.3g}", (left + width + 6, y + LINE / 2), SIZE, FAINT, anchor="start"),
        ]
    total = f"nats per image; total {sum(values):.4g}"
    picture.shapes += [
        Wire(((left, top), (left, bottom)), GRID, arrow=False),
        Text(total, (left, bottom + 16), SIZE, FAINT, anchor="start"),
    ]
    return picture


def roc_chart(curves: Mapping[str, Roc], title: str) -> Picture:
    """Draw receiver operating characteristics by the name of their score."""
    left, top, side = 64.0, 48.0, 360.0
    picture = Picture(title, max(left + side + 30, text_width(title, TITLE_SIZE) + 40), top + side + 60)
    picture.shapes.append(Text(title, (12, 20), TITLE_SIZE, TEXT, "SemiBold", "start"))
    for tick in range(0, 11, 2):
        at = side * tick / 10
        picture.shapes += [
            Wire(((left, top + side - at), (left + side, top + side - at)), GRID, 0.6, arrow=False),
            Wire(((left + at, top), (left + at, top + side)), GRID, 0.6, arrow=False),
            Text(f"{tick / 10:g}", (left - 8, top + side - at), SIZE, FAINT, anchor="end"),
            Text(f"{tick / 10:g}", (left + at, top + side + 14), SIZE, FAINT),
        ]
    diagonal = ((left, top + side), (left + side, top))
    picture.shapes.append(Wire(diagonal, FAINT, 1.0, 0, dashed=True, arrow=False))
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        pairs = zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)
        points = tuple((left + side * x, top + side * (1 - y)) for x, y in pairs)
        words = f"{name}: AUROC {curve.auroc:.4f}"
        picture.shapes += [
            Wire(points, colour, 1.8, 0, arrow=False),
            Text(words, (left + side - 8, top + side - 16 - 18 * i), SIZE, colour, "SemiBold", "end", halo="#ffffff"),
        ]
    axes = "share of the first images flagged (x), share of the others flagged (y)"
    picture.shapes.append(Text(axes, (left, top + side + 38), SIZE, FAINT, anchor="start"))
    return picture
