"""The data that ships: handwritten digits and crops of two photographs. Sources and licences are in NOTICE."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from hvdsl.runtime.data.dataset import Images
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.picture import StoredImage
from hvdsl.runtime.data.preprocess import random

_SHIPPED = files("hvdsl.runtime.data") / "shipped"
_TEST_DIGITS = 297  # the last of the 1,797: other writers than the first
_TRAIN_CROPS, _HELD_CROPS = 4096, 256  # crops that count as one epoch, and as a validation or test set
# Tiles 0-11 are of the first photograph, 12-23 of the second.
_VALIDATION_TILES, _TEST_TILES = (3, 4, 9, 13), (1, 10, 16, 21)


class Digits:
    """Handwritten digits, 8x8 grey (Alpaydin & Kaynak 1998).

    The 17 grey levels 0 … 16 are stored as bytes 0, 16, …, 240, 255, so that `bits = 4` tells all
    but the top one apart.
    """

    labelled_by = "the labels that ship"

    def __init__(self, indices: slice) -> None:
        with as_file(_SHIPPED / "digits.npz") as path, np.load(path, allow_pickle=False) as stored:
            levels = stored["images"][indices].astype(np.uint16)
            self._labels = stored["labels"][indices]
        self._images = np.minimum(levels * 16, 255).astype(np.uint8)[..., None]

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int, epoch: int) -> StoredImage:
        return StoredImage(np.asarray(self._images[index]))

    def label(self, index: int) -> int | None:
        return int(self._labels[index])

    def name(self, index: int) -> str:
        return f"digit {index}"


class Crops:
    """Square or oblong crops at random places of some picture regions.

    A training epoch has its own crops; a held-out set (`fixed`) has the same ones every time.
    """

    labelled_by = "the photographs, which have no classes"

    def __init__(
        self, regions: list[NDArray[np.uint8]], size: tuple[int, int], count: int, seed: int, *, fixed: bool
    ) -> None:
        self._regions, self._size, self._count, self._seed, self._fixed = regions, size, count, seed, fixed

    def __len__(self) -> int:
        return self._count

    def image(self, index: int, epoch: int) -> StoredImage:
        rng = random(self._seed, 0 if self._fixed else epoch, index, 3 if self._fixed else 4)
        region = self._regions[int(rng.integers(len(self._regions)))]
        height, width = self._size
        top = int(rng.integers(region.shape[0] - height + 1))
        left = int(rng.integers(region.shape[1] - width + 1))
        return StoredImage(region[top : top + height, left : left + width])

    def label(self, index: int) -> int | None:
        return None

    def name(self, index: int) -> str:
        return f"crop {index} of photos"


def digits() -> tuple[Images, Images]:
    """Return the digits for training and those for testing."""
    return Digits(slice(None, -_TEST_DIGITS)), Digits(slice(-_TEST_DIGITS, None))


def photos(size: tuple[int, int], seed: int) -> tuple[Images, Images, Images]:
    """Return crops of (height, width) for training, validation and testing, from disjoint regions of the photographs.

    Each photograph is cut into 3 x 4 tiles, of which two are for validation and two for testing, chosen so that every
    set shows some sky, some texture and some of what is out of focus. Crops larger than a tile are trained on one
    photograph, validated and tested on the other.

    Raises:
        DataError: a crop would be larger than the photographs.
    """
    pictures = [_photo("china.jpg"), _photo("flower.jpg")]
    height, width = size
    full_height, full_width = pictures[0].shape[:2]
    if height > full_height or width > full_width:
        raise DataError(
            f"`photos` are {full_height}x{full_width}, the spec wants crops of {height}x{width}: "
            "choose a smaller `shape`"
        )
    tiles = [tile for picture in pictures for tile in _tiles(picture)]
    if height <= tiles[0].shape[0] and width <= tiles[0].shape[1]:
        validation = [tiles[i] for i in _VALIDATION_TILES]
        test = [tiles[i] for i in _TEST_TILES]
        train = [tile for i, tile in enumerate(tiles) if i not in (*_VALIDATION_TILES, *_TEST_TILES)]
    else:
        train, validation, test = pictures[:1], pictures[1:], pictures[1:]
    return (
        Crops(train, size, _TRAIN_CROPS, seed, fixed=False),
        Crops(validation, size, _HELD_CROPS, seed, fixed=True),
        Crops(test, size, _HELD_CROPS, seed + 1, fixed=True),
    )


def _tiles(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Cut a photograph into 3 rows of 4 tiles."""
    height, width = picture.shape[0] // 3, picture.shape[1] // 4
    return [
        picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row in range(3)
        for column in range(4)
    ]


def _photo(name: str) -> NDArray[np.uint8]:
    with as_file(_SHIPPED / name) as path, Pillow.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
