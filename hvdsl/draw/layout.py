"""From a ladder to a picture: coarse bands above fine ones, the encoder on the left, the decoder on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hvdsl.draw import columns, style
from hvdsl.draw.columns import Place
from hvdsl.draw.items import Item, Kind
from hvdsl.draw.ladder import Band, Ladder
from hvdsl.draw.paint import Painter
from hvdsl.draw.picture import Circle, Picture, Polygon, Text, box, text_width
from hvdsl.draw.priors import draw_priors, priors_width
from hvdsl.draw.wires import Ports, draw_links

LABELS = 84.0  # width of the resolutions' column
MARGIN = 26.0
LANE = 9.0


@dataclass(slots=True)
class Sheet:
    """A picture in the making: where everything stands."""

    ladder: Ladder
    picture: Picture
    places: dict[int, Place] = field(default_factory=dict)  # by id(item)
    encoder: float = 0.0  # middle of each column
    decoder: float = 0.0
    encoder_width: float = 0.0
    decoder_width: float = 0.0
    lanes: int = 0  # of links inside the decoder's column
    right: float = 0.0  # where the bands end


def layout(ladder: Ladder) -> Picture:
    """Return the picture of a ladder."""
    sheet = _columns(ladder)
    top = 104.0
    for n, band in enumerate(ladder.bands):
        top = _band(sheet, band, top, style.BANDS[n % 2])
    paint = Painter(sheet.picture, sheet.places)
    bottom = _ends(sheet, paint, top)
    draw_links(
        sheet.picture, ladder, sheet.places, (sheet.encoder, sheet.encoder_width), (sheet.decoder, sheet.decoder_width)
    )
    reach = style.REACH + style.CIRCLE
    for band in ladder.bands:
        for item in band.encoder:
            paint.item(item, style.ENCODER, sheet.encoder - sheet.encoder_width / 2 - reach)
        for item in band.decoder:
            edge = sheet.decoder + sheet.decoder_width / 2 + sheet.lanes * LANE
            paint.item(item, style.DECODER, edge + reach)
    bottom = max(bottom, draw_priors(sheet.picture, ladder, sheet.places, paint.latents, sheet.right + 34))
    _header(sheet)
    sheet.picture.height = _legend(sheet, bottom + 16)
    return sheet.picture


def _columns(ladder: Ladder) -> Sheet:
    """Decide widths and middles of the columns."""
    up, down = ladder.encoder(), ladder.decoder()
    taps = [link for link in ladder.links if link.tap]
    lanes = sum(not link.tap and link.source in down for link in ladder.links)
    sheet = Sheet(ladder, Picture(ladder.title, 0, 0), lanes=min(lanes, 4))
    sheet.encoder_width = columns.width([item for band in ladder.bands for item in band.encoder])
    sheet.decoder_width = columns.width([item for band in ladder.bands for item in band.decoder])
    gutter = max([96.0, *(text_width(link.label, style.DETAIL) + 64 for link in taps)])
    left = MARGIN + LABELS + _marks_width(up)
    sheet.encoder = left + sheet.encoder_width / 2
    sheet.decoder = left + sheet.encoder_width + gutter + sheet.decoder_width / 2
    right = _marks_width(down) + sheet.lanes * LANE
    sheet.right = sheet.decoder + sheet.decoder_width / 2 + right + 12
    end = sheet.right + (priors_width(ladder) + 34 + 10 * (len(ladder.priors) - 1) if ladder.priors else 0)
    heading = max(text_width(ladder.title, style.TITLE, "SemiBold"), text_width(ladder.facts, style.OPERATION))
    sheet.picture.width = max(end, heading + MARGIN) + MARGIN
    return sheet


def _marks_width(items: Sequence[Item]) -> float:
    texts = [text for item in items for mark in item.marks for text in Painter.mark_lines(mark)]
    return 2 * style.CIRCLE + style.REACH + 18 + max(text_width(text, style.DETAIL) for text in texts) if texts else 0.0


def _band(sheet: Sheet, band: Band, top: float, fill: str) -> float:
    """Place the items of a band and paint its ground; return where the next band begins."""
    up = columns.height(band.encoder)
    down = columns.height(band.decoder)
    shift = _alignment(sheet, band)
    encoder_top, decoder_top = max(0.0, shift), max(0.0, -shift)
    # A column that needs no alignment stands in the middle of the band.
    if shift == 0.0:
        encoder_top, decoder_top = max(0.0, down - up) / 2, max(0.0, up - down) / 2
    inner = max(encoder_top + up, decoder_top + down, 22.0)
    y = top + style.BAND_PADDING
    sheet.places |= columns.stack(band.encoder, sheet.encoder, y + encoder_top, sheet.encoder_width, upwards=True)
    sheet.places |= columns.stack(band.decoder, sheet.decoder, y + decoder_top, sheet.decoder_width, upwards=False)
    height = inner + 2 * style.BAND_PADDING
    ground = box(MARGIN - 10, top, sheet.right - MARGIN + 10, height)
    sheet.picture.shapes.append(Polygon(ground, fill=fill, radius=8))
    label = (MARGIN + 4, top + height / 2)
    sheet.picture.shapes.append(Text(band.label, label, style.NAME, style.FAINT, "SemiBold", "start"))
    return top + height + 4


def _alignment(sheet: Sheet, band: Band) -> float:
    """Return how much lower the encoder's stack must begin so that the band's first tap is level with its reader."""
    up = columns.stack(band.encoder, 0, 0, sheet.encoder_width, upwards=True)
    down = columns.stack(band.decoder, 0, 0, sheet.decoder_width, upwards=False)
    ports = Ports(sheet.ladder.links)
    for link in sheet.ladder.links:
        if link.tap and id(link.source) in up and id(link.target) in down:
            return ports.target(link, down[id(link.target)]) - ports.source(link, up[id(link.source)]) or 0.001
    return 0.0


def _ends(sheet: Sheet, paint: Painter, top: float) -> float:
    """Draw the image under the encoder, the likelihood under the decoder, and the streams of both columns."""
    ladder = sheet.ladder
    y = top + style.GAP
    image = Place(sheet.encoder - sheet.encoder_width / 2, y, sheet.encoder_width, style.BOX_HEIGHT)
    end = Place(sheet.decoder - sheet.decoder_width / 2, y, sheet.decoder_width, style.BOX_HEIGHT)
    paint.two_lines(image, "image x", ladder.image, style.ENDS)
    paint.two_lines(end, "likelihood p(x | z)", ladder.likelihood, style.ENDS)
    up, down = ladder.encoder(), ladder.decoder()
    if up:
        paint.arrow((sheet.encoder, image.y), (sheet.encoder, paint.place(up[0]).bottom))
    if down:
        paint.arrow((sheet.decoder, paint.place(down[-1]).bottom), (sheet.decoder, end.y))
    for source, target in ladder.flows:
        paint.flow(source, target)
    for before, item in pairwise(up):
        if item.kind is Kind.TAP:
            paint.line_to_tap(before, item)
    return end.bottom


def _header(sheet: Sheet) -> None:
    shapes = sheet.picture.shapes
    x = MARGIN - 6
    shapes.append(Text(sheet.ladder.title, (x, 30), style.TITLE, style.TEXT, "SemiBold", "start"))
    shapes.append(Text(sheet.ladder.facts, (x, 54), style.OPERATION, style.FAINT, anchor="start"))
    for middle, word in ((sheet.encoder, "bottom-up"), (sheet.decoder, "top-down")):
        shapes.append(Text(word, (middle, 88), style.OPERATION, style.FAINT, "Italic"))


def _legend(sheet: Sheet, y: float) -> float:
    """Explain the colours in one line; return where the picture ends."""
    entries = [
        (style.ENCODER, "bottom-up recipe"),
        (style.DECODER, "top-down recipe"),
        (style.LATENT, "latent variable"),
    ]
    if any(mark.on_the_way_up for item in sheet.ladder.encoder() for mark in item.marks):
        entries.append((style.LATENT, "dashed: drawn on the way up"))
    if sheet.ladder.priors:
        entries.append((style.PRIOR, "second-stage prior"))
    x = MARGIN - 6
    for ink, words in entries:
        centre = (x + 6, y + 8)
        round_ = ink is style.LATENT
        shape = (
            Circle(centre, 6, ink.fill, ink.stroke, dashed="dashed" in words)
            if round_
            else Polygon(box(x, y + 2, 12, 12), ink.fill, ink.stroke, radius=2.5)
        )
        sheet.picture.shapes.append(shape)
        sheet.picture.shapes.append(Text(words, (x + 19, y + 8), style.DETAIL, style.FAINT, anchor="start"))
        x += 19 + text_width(words, style.DETAIL) + 22
    sheet.picture.width = max(sheet.picture.width, x)
    return y + 34
