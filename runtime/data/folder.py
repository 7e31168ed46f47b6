"""A folder of image files, nested as deep as one likes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from hvdsl.runtime.data.dataset import DataError, Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# More damaged files than this share (and more than a handful) mean a broken copy, not a few bad files.
_LIMIT_SHARE, _LIMIT_COUNT = 0.01, 10

_log = logging.getLogger(__name__)


class Folder:
    """PNG, JPEG and WebP files under a folder, in the order of their paths.

    Damaged files are reported by name and skipped: those whose header is bad are left out from the start; one that
    turns out damaged when decoded is replaced by the next readable file. More than 1 % (and more than 10) is an error.

    An image's class is that of the folder in `root` that it is in, however deep: its place among `classes`. An image
    that is in none of them has no class.

    Args:
        classes: Names of folders; by default all that hold images, in order of their names.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        self._root = root
        paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not paths:
            raise DataError(f"{root} holds no {', '.join(SUFFIXES)} files: give the folder that the images are in")
        self._allowed = max(_LIMIT_COUNT, int(_LIMIT_SHARE * len(paths)))
        self._damaged: dict[Path, str] = {}
        self._paths = [path for path in paths if self._opens(path)]
        if not self._paths:
            raise DataError(f"none of the {len(paths)} image files in {root} can be read")
        found = sorted({name for path in self._paths if (name := self._folder(path)) is not None})
        self.classes = tuple(found if classes is None else classes)
        self._places = {name: place for place, name in enumerate(self.classes)}
        self.unclassed = next((path for path in self._paths if self._folder(path) not in self._places), None)

    def __len__(self) -> int:
        return len(self._paths)

    def image(self, index: int, epoch: int) -> Image:
        while (path := self._path(index)) is not None:
            try:
                with Pillow.open(path) as picture:
                    grey = picture.mode in ("1", "L", "I;16")
                    pixels = np.asarray(picture.convert("L" if grey else "RGB"))
                return pixels[:, :, None] if grey else pixels
            except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
                self._report(path, error)
        raise DataError(f"none of the image files in {self._root} can be read")

    def label(self, index: int) -> int | None:
        path = self._path(index)
        folder = None if path is None else self._folder(path)
        return None if folder is None else self._places.get(folder)

    def _path(self, index: int) -> Path | None:
        """The first file from `index` on that is not known to be damaged."""
        around = (self._paths[(index + step) % len(self._paths)] for step in range(len(self._paths)))
        return next((path for path in around if path not in self._damaged), None)

    def _folder(self, path: Path) -> str | None:
        inside = path.relative_to(self._root).parts
        return inside[0] if len(inside) > 1 else None

    def _opens(self, path: Path) -> bool:
        try:
            with Pillow.open(path):
                return True
        except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
            self._report(path, error)
            return False

    def _report(self, path: Path, error: Exception) -> None:
        self._damaged[path] = str(error)
        _log.warning("skipped %s: %s", path, error)
        if len(self._damaged) > self._allowed:
            names = ", ".join(str(p) for p in list(self._damaged)[:5])
            raise DataError(
                f"{len(self._damaged)} image files in {self._root} are damaged (at most {self._allowed} are "
                f"skipped): {names}, …"
            ) from error
