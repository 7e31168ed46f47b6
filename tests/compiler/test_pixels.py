"""Pixel maps: evaluated, printed and emitted alike."""

from __future__ import annotations

import pytest
import torch

from hvdsl.compiler.assembly.pixels import parse_pixel_map, pixel_map
from hvdsl.grammar import read_expression
from hvdsl.grammar.source import Source

MAPS = (
    "v",
    "(v - 127.5) / 127.5",
    "(v // 8 * 8 - 127.5) / 127.5",
    "2 * v / 31 - 1",
    "-v ** 2 / 3",
    "(-v) ** 2",
    "2 ** -v",
    "v - (3 - v)",
    "v % 7 / (2 / 3)",
    "min(v, 100) - max(3, v) + min(v, 2 * v)",
    "sqrt(v) + log(v + 1) * abs(v - 9) - floor(v / 4) + round(v / 3)",
    "max(1, 2) * v",
)


@pytest.mark.parametrize("text", MAPS)
def test_the_emitted_text_computes_what_the_map_says(text: str) -> None:
    checked = parse_pixel_map(text)
    v = torch.arange(256, dtype=torch.float64)
    emitted = eval(checked.torch(), {"torch": torch, "v": v})  # the emitted text, of numbers and `v` alone
    expected = torch.tensor([checked(float(i)) for i in range(256)], dtype=torch.float64)
    torch.testing.assert_close(emitted, expected)


@pytest.mark.parametrize("text", MAPS)
def test_the_canonical_text_is_read_back_as_the_same_map(text: str) -> None:
    checked = parse_pixel_map(text)
    assert parse_pixel_map(checked.text) == checked


def test_a_negative_let_stays_one_number() -> None:
    def read(text: str) -> object:
        return read_expression(Source("t", text))

    lets = {"low": read("-3")}
    assert pixel_map(read("v - low"), lets)(1.0) == 4.0  # type: ignore[arg-type]  # trees
    assert pixel_map(read("low ** 2 + v"), lets)(1.0) == 10.0  # type: ignore[arg-type]  # trees
