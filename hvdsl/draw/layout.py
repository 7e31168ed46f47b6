"""From a ladder to a picture: coarse bands above fine ones, the encoder on the left, the decoder on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hvdsl.draw import columns, style
from hvdsl.draw.columns import Place, side
from hvdsl.draw.ladder import Band, Ladder, Link, PriorColumn
from hvdsl.draw.paint import Painter
from hvdsl.draw.picture import Anchor, Circle, Picture, Point, Polygon, Text, Wire, box, text_width
from hvdsl.draw.pieces import Piece, PieceKind
from hvdsl.render.numbers import abbreviated

LABELS = 84.0  # width of the resolutions' column
MARGIN = 26.0
LANE = 9.0  # between parallel lines
TOP = 104.0  # where bands and cards begin


@dataclass(slots=True)
class Sheet:
    """A picture in the making: where everything stands."""

    ladder: Ladder
    picture: Picture
    places: dict[int, Place] = field(default_factory=dict)  # by id(piece)
    encoder: float = 0.0  # middle of each column
    decoder: float = 0.0
    encoder_width: float = 0.0
    decoder_width: float = 0.0
    lanes: int = 0  # of links inside the decoder's column
    right: float = 0.0  # where the bands end


def layout(ladder: Ladder) -> Picture:
    """Return the picture of a ladder."""
    sheet = _columns(ladder)
    top = TOP
    for n, band in enumerate(ladder.bands):
        top = _band(sheet, band, top, style.BANDS[n % 2])
    paint = Painter(sheet.picture, sheet.places)
    bottom = _ends(sheet, paint, top)
    _draw_links(
        sheet.picture, ladder, sheet.places, (sheet.encoder, sheet.encoder_width), (sheet.decoder, sheet.decoder_width)
    )
    reach = style.REACH + style.CIRCLE
    for band in ladder.bands:
        for piece in band.encoder:
            paint.piece(piece, style.ENCODER, sheet.encoder - sheet.encoder_width / 2 - reach)
        for piece in band.decoder:
            edge = sheet.decoder + sheet.decoder_width / 2 + sheet.lanes * LANE
            paint.piece(piece, style.DECODER, edge + reach)
    bottom = max(bottom, _draw_priors(sheet.picture, ladder, sheet.places, paint.latents, sheet.right + 34))
    _header(sheet)
    sheet.picture.height = _legend(sheet, bottom + 16)
    return sheet.picture


def _columns(ladder: Ladder) -> Sheet:
    """Decide widths and middles of the columns."""
    if not ladder.bands:  # priors alone
        width = MARGIN + _card_width(ladder) + 10 * (len(ladder.priors) - 1) + MARGIN
        return Sheet(ladder, Picture(ladder.title, max(width, _heading_width(ladder)), 0), right=MARGIN - 40)
    up, down = ladder.encoder(), ladder.decoder()
    taps = [link for link in ladder.links if link.tap]
    lanes = sum(not link.tap and link.source in down for link in ladder.links)
    sheet = Sheet(ladder, Picture(ladder.title, 0, 0), lanes=min(lanes, 4))
    sheet.encoder_width = columns.width_of([piece for band in ladder.bands for piece in band.encoder])
    sheet.decoder_width = columns.width_of([piece for band in ladder.bands for piece in band.decoder])
    gutter = max([96.0, *(text_width(link.label, style.DETAIL) + 64 for link in taps)])
    left = MARGIN + LABELS + _marks_width(up)
    sheet.encoder = left + sheet.encoder_width / 2
    sheet.decoder = left + sheet.encoder_width + gutter + sheet.decoder_width / 2
    right = _marks_width(down) + sheet.lanes * LANE
    sheet.right = sheet.decoder + sheet.decoder_width / 2 + right + 12
    end = sheet.right + (_card_width(ladder) + 34 + 10 * (len(ladder.priors) - 1) if ladder.priors else 0)
    sheet.picture.width = max(end + MARGIN, _heading_width(ladder))
    return sheet


def _heading_width(ladder: Ladder) -> float:
    heading = max(text_width(ladder.title, style.TITLE, "SemiBold"), text_width(ladder.facts, style.OPERATION))
    return heading + 2 * MARGIN


def _marks_width(pieces: Sequence[Piece]) -> float:
    texts = [text for piece in pieces for mark in piece.marks for text in Painter.mark_lines(mark)]
    return 2 * style.CIRCLE + style.REACH + 18 + max(text_width(text, style.DETAIL) for text in texts) if texts else 0.0


def _band(sheet: Sheet, band: Band, top: float, fill: str) -> float:
    """Place the pieces of a band and paint its ground; return where the next band begins."""
    up = columns.height_of(band.encoder)
    down = columns.height_of(band.decoder)
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
    ports = _Ports(sheet.ladder.links)
    for link in sheet.ladder.links:
        if link.tap and id(link.source) in up and id(link.target) in down:
            return ports.target(link, down[id(link.target)]) - ports.source(link, up[id(link.source)]) or 0.001
    return 0.0


def _ends(sheet: Sheet, paint: Painter, top: float) -> float:
    """Draw the image under the encoder, the likelihood under the decoder, and the streams of both columns."""
    ladder = sheet.ladder
    if not ladder.bands:
        return top
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
    for before, piece in pairwise(up):
        if piece.kind is PieceKind.TAP:
            paint.line_to_tap(before, piece)
    return end.bottom


def _header(sheet: Sheet) -> None:
    shapes = sheet.picture.shapes
    x = MARGIN - 6
    shapes.append(Text(sheet.ladder.title, (x, 30), style.TITLE, style.TEXT, "SemiBold", "start"))
    shapes.append(Text(sheet.ladder.facts, (x, 54), style.OPERATION, style.FAINT, anchor="start"))
    for middle, word in () if not sheet.ladder.bands else ((sheet.encoder, "bottom-up"), (sheet.decoder, "top-down")):
        shapes.append(Text(word, (middle, 88), style.OPERATION, style.FAINT, "Italic"))


def _legend(sheet: Sheet, y: float) -> float:
    """Explain the colours in one line; return where the picture ends."""
    entries = []
    if sheet.ladder.bands:
        entries = [
            (style.ENCODER, "bottom-up recipe"),
            (style.DECODER, "top-down recipe"),
            (style.LATENT, "latent variable"),
        ]
    if any(mark.on_the_way_up for piece in sheet.ladder.encoder() for mark in piece.marks):
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


CARD_PADDING = 30.0  # room for what passes over pieces
CARD_HEADING = 50.0
CARD_GAP = 30.0
CLEAR = 1.5  # between a latent and the arrow of its prior
CARD_NAME = 18.0  # from the top of a card to the middle of its name


def _card_width(ladder: Ladder) -> float:
    """Return the width of a card: they are all as wide as the widest."""
    return max((_own_width(prior) for prior in ladder.priors), default=0.0)


def _draw_priors(
    picture: Picture, ladder: Ladder, places: dict[int, Place], latents: Mapping[str, Point], x: float
) -> float:
    """Draw a card for each prior, its left side at `x`; return where the last one ends.

    `latents` says, by name, where the right end of a latent is: there its prior points.
    """
    width = _card_width(ladder)
    cards: dict[str, Place] = {}
    bottom = 0.0
    for prior in ladder.priors:
        latent = latents.get(prior.name)
        top = max(bottom + CARD_GAP if cards else TOP, latent[1] - CARD_NAME if latent else 0.0)
        card = Place(x, top, width, CARD_HEADING + columns.height_of(prior.pieces) + style.GAP)
        outline = box(card.x, card.y, card.width, card.height)
        picture.shapes.append(Polygon(outline, "#faf8fd", style.PRIOR.stroke, radius=9, dashed=True))
        _fill_card(picture, places, prior, card)
        if latent:
            picture.shapes.append(Wire(_to_latent(card, latent), style.PRIOR.stroke, 1.4, dashed=True))
        names = list(cards)
        for given in prior.given:
            if given in cards:
                points = _to_later(cards[given], card, len(names) - names.index(given) - 1)
                picture.shapes.append(Wire(points, style.PRIOR.stroke, 1.4))
        cards[prior.name] = card
        bottom = card.bottom
    return bottom


def _to_latent(card: Place, latent: Point) -> tuple[Point, ...]:
    start, end = (card.x, card.y + CARD_NAME), (latent[0] + CLEAR, latent[1])
    if abs(start[1] - end[1]) < 1:
        return start, end
    return start, (card.x - 16, start[1]), (card.x - 16, end[1]), end


def _to_later(given: Place, card: Place, between: int) -> tuple[Point, ...]:
    """Return the way from a prior to a later one that is conditioned on it, around the cards between them."""
    if not between:
        return (card.middle, given.bottom), (card.middle, card.y)
    x, start, end = card.right + 10 * between, given.bottom - 20, card.y + CARD_NAME
    return (card.right, start), (x, start), (x, end), (card.right, end)


def _own_width(prior: PriorColumn) -> float:
    title, facts = _card_texts(prior)
    words = max(text_width(title, style.NAME, "SemiBold"), text_width(facts, style.DETAIL))
    return max(words + 24, columns.width_of(prior.pieces) + 2 * CARD_PADDING)


def _card_texts(prior: PriorColumn) -> tuple[str, str]:
    given = f" | {', '.join(prior.given)}" if prior.given else ""
    return f"p({prior.name}{given})", f"causal over {prior.grid} codes · {abbreviated(prior.parameters)}"


def _fill_card(picture: Picture, places: dict[int, Place], prior: PriorColumn, card: Place) -> None:
    title, facts = _card_texts(prior)
    picture.shapes.append(Text(title, (card.middle, card.y + CARD_NAME), style.NAME, style.TEXT, "SemiBold"))
    picture.shapes.append(Text(facts, (card.middle, card.y + 35), style.DETAIL, style.FAINT))
    inner = card.width - 2 * CARD_PADDING
    places |= columns.stack(prior.pieces, card.middle, card.y + CARD_HEADING, inner, upwards=False)
    paint = Painter(picture, places, prior.name)
    for source, target in prior.flows:
        paint.flow(source, target)
    _draw_beside(picture, prior.links, places, card.right - CARD_PADDING - 5)
    for piece in prior.pieces:
        paint.piece(piece, style.PRIOR, card.right)


SHORT = 3.0  # heights that differ by less make a straight line
INSET = 7.0  # from the corners of a box to where a line may reach it


class _Ports:
    """Where links leave and reach a piece: spread over its side, in the order of the links."""

    def __init__(self, links: Sequence[Link]) -> None:
        taps = [link for link in links if link.tap]
        self._out = {id(link): _turn(link, [o for o in taps if o.source is link.source]) for link in taps}
        self._in = {id(link): _turn(link, [o for o in taps if o.target is link.target]) for link in taps}

    def source(self, link: Link, place: Place) -> float:
        """Return the height at which a link leaves its source."""
        return place.centre if link.source.kind is PieceKind.TAP else place.y + place.height * self._out[id(link)]

    def target(self, link: Link, place: Place) -> float:
        """Return the height at which a link reaches its target."""
        return place.y + place.height * self._in[id(link)]

    def level(self, link: Link, start: float, place: Place) -> float:
        """Return the height at which a link reaches its target: level with `start`, if that meets the target."""
        port = self.target(link, place)
        alone = self._in[id(link)] == 0.5 and link.target.kind is not PieceKind.LATENT
        inside = place.y + INSET <= start <= place.bottom - INSET
        return start if abs(start - port) < SHORT or (alone and inside) else port


def _turn(link: Link, siblings: Sequence[Link]) -> float:
    return (next(n for n, other in enumerate(siblings) if other is link) + 1) / (len(siblings) + 1)


def _draw_links(
    picture: Picture,
    ladder: Ladder,
    places: Mapping[int, Place],
    encoder: tuple[float, float],
    decoder: tuple[float, float],
) -> None:
    """Draw every link. The columns are given by their middle and width."""
    left, right = encoder[0] + encoder[1] / 2, decoder[0] - decoder[1] / 2
    _across(picture, [link for link in ladder.links if link.tap], places, left, right)
    inside = [link for link in ladder.links if not link.tap]
    up = {id(piece) for piece in ladder.encoder()}
    _draw_beside(picture, [link for link in inside if id(link.source) not in up], places, decoder[0] + decoder[1] / 2)
    edge = encoder[0] - encoder[1] / 2
    _draw_beside(picture, [link for link in inside if id(link.source) in up], places, edge, towards=-1)


def _across(picture: Picture, links: Sequence[Link], places: Mapping[int, Place], left: float, right: float) -> None:
    """Draw the taps through the gutter between the columns."""
    ports = _Ports(links)
    bends = 0
    most = max(1, int((right - left - 40) / LANE))
    for link in links:
        source, target = places[id(link.source)], places[id(link.target)]
        height = ports.source(link, source)
        start = (source.middle if link.source.kind is PieceKind.TAP else side(link.source, source, height, 1), height)
        y = ports.level(link, height, target)
        end = (side(link.target, target, y, -1), y)
        if y == start[1]:
            _wire(picture, (start, end), link.label, ((left + right) / 2, y - 9), "middle")
            continue
        lane = right - 20 - LANE * (bends % most)
        bends += 1
        words = (lane - 6, y) if abs(y - start[1]) > 2 * style.DETAIL else (lane - 6, start[1] - 9)
        _wire(picture, (start, (lane, start[1]), (lane, y), end), link.label, words, "end")


def _wire(picture: Picture, points: tuple[Point, ...], label: str, at: Point, anchor: Anchor) -> None:
    picture.shapes.append(Wire(points, style.ENCODER.stroke, 1.5, radius=7))
    if label:
        ink = style.ENCODER.stroke
        picture.shapes.append(Text(label, at, style.DETAIL, ink, anchor=anchor, halo=style.BANDS[0]))


def _draw_beside(
    picture: Picture, links: Sequence[Link], places: Mapping[int, Place], edge: float, towards: int = 1
) -> None:
    """Draw what passes over pieces of its own column: out at the side, along it, and in again."""
    for n, link in enumerate(links):
        a, b = places[id(link.source)], places[id(link.target)]
        x = edge + towards * (12 + LANE * (n % 4))
        down = 1 if a.y < b.y else -1
        start, end = a.centre + down * a.height * 0.28, b.centre - down * b.height * 0.28
        out, into = side(link.source, a, start, towards), side(link.target, b, end, towards)
        points = ((out, start), (x, start), (x, end), (into, end))
        picture.shapes.append(Wire(points, style.STREAM, 1.1, radius=7))
