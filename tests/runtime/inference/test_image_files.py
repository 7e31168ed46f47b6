"""Grids and bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.pixels import to_bytes
from hvdsl.runtime.inference.image_files import ImageOutput, grid, labelled_rows, rate_bars, save_png


def test_raw_pixel_values_span_black_to_white() -> None:
    values = torch.tensor([0.0, 31.0, 40.0]).reshape(3, 1, 1, 1)
    assert to_bytes(values, bits=5)[:, 0, 0, 0].tolist() == [0, 255, 255]


def test_colours_keep_their_order() -> None:
    image = torch.zeros(1, 3, 1, 1)
    image[0, 2] = 255
    assert to_bytes(image, bits=8)[0, 0, 0].tolist() == [0, 0, 255]


def test_a_grid_places_images_row_by_row() -> None:
    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 64, 64) * 50
    picture = np.asarray(grid(images, bits=8))
    assert picture.shape == (2 * 66 + 2, 2 * 66 + 2, 3)
    assert [picture[y, x, 0] for y in (30, 100) for x in (30, 100)] == [0, 50, 100, 150]


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    assert grid(torch.zeros(1, 1, 8, 8), bits=8).size == (6 * 8 + 4, 6 * 8 + 4)


def test_rows_and_bars_have_room_for_their_labels(tmp_path: Path) -> None:
    rows = labelled_rows([torch.zeros(3, 1, 8, 8)] * 2, ["original", "0 of 4 groups"], bits=8)
    assert rows.width > 3 * 50 + 60
    bars = rate_bars([1.0, 0.0, 20.5], ["z.0", "z.1", "z.2"], "Rate per latent group")
    path = save_png(bars, tmp_path / "pictures" / "rate.png")
    assert Image.open(path).size == bars.size


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HvdslError, match=r"cannot write .*a\.png: .*file is not a folder"):
        save_png(grid(torch.zeros(1, 1, 8, 8), 8), tmp_path / "file" / "a.png")


@pytest.mark.parametrize("name", [".png", "sub/.npy", "./.NPZ"])
def test_an_ending_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(HvdslError, match=r"an ending without a name: write `.*images"):
        ImageOutput.of(name)
    assert ImageOutput.of(f"{name}/").form == "folder"
