"""Pictures by Pillow: grids of images, and the rate of each latent group as bars."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hvdsl.runtime.ground.disk import writing
from hvdsl.runtime.ground.pixels import to_bytes

INK, FAINT, BAR, PAPER = (30, 30, 30), (205, 205, 205), (66, 110, 180), (255, 255, 255)
SMALLEST_TILE = 48  # pixels: images below this are enlarged by a whole factor, so that 8x8 digits can be seen


def grid(images: Tensor, bits: int, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Images `(N, C, H, W)` in raw pixel values, row by row; about square unless `columns` says otherwise."""
    tiles = to_bytes(images, bits)
    n, height, width, _ = tiles.shape
    scale = max(1, math.ceil(SMALLEST_TILE / max(height, width)))
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    step_y, step_x = height * scale + gap, width * scale + gap
    canvas = Image.new("RGB", (columns * step_x + gap, rows * step_y + gap), PAPER)
    for i, tile in enumerate(tiles):
        picture = Image.fromarray(tile).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        canvas.paste(picture, (gap + i % columns * step_x, gap + i // columns * step_y))
    return canvas


def labelled_rows(rows: Sequence[Tensor], labels: Sequence[str], bits: int) -> Image.Image:
    """One row of images per tensor `(N, C, H, W)`, each with its label to the left."""
    body = grid(torch.cat([row.float() for row in rows]), bits, columns=len(rows[0]))
    font = ImageFont.load_default(13)
    margin = max(round(font.getlength(label)) for label in labels) + 16
    canvas = Image.new("RGB", (margin + body.width, body.height), PAPER)
    canvas.paste(body, (margin, 0))
    draw = ImageDraw.Draw(canvas)
    for i, label in enumerate(labels):
        draw.text((margin - 8, (i + 0.5) * body.height / len(rows)), label, INK, font, anchor="rm")
    return canvas


def rate_bars(rates: Sequence[float], labels: Sequence[str], title: str) -> Image.Image:
    """Nats per image of each latent group, in order of generation, as horizontal bars with label and value."""
    font, bold = ImageFont.load_default(13), ImageFont.load_default(16)
    line, left = 20, max((round(font.getlength(label)) for label in labels), default=0) + 20
    width, top = left + 480, 44
    canvas = Image.new("RGB", (width, top + line * len(rates) + 34), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((12, 12), title, INK, bold)
    largest = max([*rates, 1e-9])
    room, bottom = width - left - 90, top + line * len(rates)
    for i, (rate, label) in enumerate(zip(rates, labels, strict=True)):
        y = top + i * line
        end = left + round(max(0.0, rate) / largest * room)
        draw.rectangle((left, y + 3, max(left + 1, end), y + line - 4), BAR)
        draw.text((left - 8, y + line / 2), label, INK, font, anchor="rm")
        draw.text((end + 6, y + line / 2), f"{rate:.3g}", INK, font, anchor="lm")
    draw.line((left, top, left, bottom), FAINT)
    draw.text((left, bottom + 8), f"nats per image; total {sum(rates):.4g}", INK, font)
    return canvas


def save_png(picture: Image.Image, path: str | os.PathLike[str]) -> Path:
    """Write a PNG, making its folder.

    Raises:
        DiskError: It cannot be written.
    """
    with writing(path) as file:
        picture.save(file, format="PNG")
    return Path(path)
