"""Colours and measures of the drawings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ink:
    fill: str
    stroke: str


ENCODER = Ink("#dfeaf6", "#5a84b0")
DECODER = Ink("#fdebd6", "#cf8a41")
LATENT = Ink("#dcf0d9", "#4f9857")
PRIOR = Ink("#ece4f5", "#8767ad")
ENDS = Ink("#eceef0", "#7c858e")  # image and likelihood
PAPER = "#ffffff"
BANDS = ("#f5f6f8", "#fbfbfc")
STREAM = "#3c434a"
TEXT = "#1d2226"
FAINT = "#68717a"

TITLE, NAME, DETAIL, OPERATION = 18.0, 13.0, 10.0, 11.0  # sizes of type
GAP = 18.0  # between pieces of a column
TAP_HEIGHT = 8.0
FRAME_PADDING = 12.0
BAND_PADDING = 16.0
BOX_HEIGHT = 38.0
LINE_HEIGHT = 14.0
CIRCLE = 16.0  # radius of a latent
REACH = 28.0  # from a column to its latents' circles
LEAST_WIDTH = 150.0  # of a box
