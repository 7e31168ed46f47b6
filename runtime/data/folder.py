"""A folder of image files, nested as deep as one likes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

from hvdsl.compiler.settings import Data
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.listing import FileRecord
from hvdsl.runtime.data.picture import StoredImage, UnreadableError
from hvdsl.runtime.data.preprocess import Preprocess
from hvdsl.runtime.data.stored import read_image

# More damaged files than this share (and more than a handful) mean a broken copy, not a few bad files.
_LIMIT_SHARE, _LIMIT_COUNT = 0.01, 10
_NAMED = 3  # files that an error names; the others it counts

_log = logging.getLogger(__name__)


class ImageFiles:
    """The images of one part of a listing, in the order of their names.

    Damaged files are reported by name and skipped: those whose header is bad are left out from the start; one that
    turns out damaged when decoded is replaced by the next readable file. More than 1 % (and more than 10) is an error.

    An image's class is the place of its folder among `classes`; an image in none of them has no class.

    Args:
        damaged: Files that are left out because their header is bad.
        classes: Names of folders; by default all that hold images, in order of their names.
    """

    labelled_by = "the folders of classes"

    def __init__(
        self,
        root: Path,
        records: Sequence[FileRecord],
        damaged: Sequence[FileRecord] = (),
        classes: Sequence[str] | None = None,
    ) -> None:
        self.root, self.records = root, tuple(records)
        self._replaces = True
        self._allowed = max(_LIMIT_COUNT, int(_LIMIT_SHARE * (len(records) + len(damaged))))
        self._damaged: dict[Path, str] = {}
        for record in damaged:
            self._report(record.path, record.left_out)
        held = sorted({record.folder for record in records if record.folder is not None})
        self.classes = tuple(held if classes is None else classes)
        self._places = {name: place for place, name in enumerate(self.classes)}
        self.unclassed = next((record.path for record in records if record.folder not in self._places), None)

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int, epoch: int) -> StoredImage:
        while (record := self._record(index)) is not None:
            try:
                return read_image(record.path)
            except UnreadableError as error:
                if not self._replaces:
                    raise DataError(f"{record.name} cannot be read ({error}): mend it, or leave it out") from error
                self._report(record.path, str(error))
        raise DataError(f"none of the image files in {self.root} can be read")

    @property
    def damaged(self) -> list[tuple[str, str]]:
        """Name and reason of the images that turned out damaged as they were decoded."""
        return [(r.name, self._damaged[r.path]) for r in self.records if r.path in self._damaged]

    def label(self, index: int) -> int | None:
        record = self._record(index)
        return None if record is None or record.folder is None else self._places.get(record.folder)

    def name(self, index: int) -> str:
        return (self._record(index) or self.records[index]).name

    def with_classes(self, classes: Sequence[str]) -> ImageFiles:
        """Return the same images, their classes counted among other names; those of no such folder have none."""
        return ImageFiles(self.root, self.records, (), classes)

    def without_replacements(self) -> ImageFiles:
        """Return the same images, where one that cannot be read is an error: nothing stands in for it."""
        same = copy.copy(self)
        same._replaces, same._damaged = False, {}
        return same

    def check(self, settings: Data) -> None:
        """Refuse, by what the heads of the files say, what cannot fit the spec.

        Raises:
            DataError: it names the first files and counts the others.
        """
        preprocess = Preprocess(settings, training=False)
        wanted = "x".join(map(str, settings.shape))
        wrong = [r for r in self.records if r.header and not self._fits(preprocess, settings, r)]
        if not wrong:
            return
        first = wrong[0]
        named = ", ".join(record.name for record in wrong[1:_NAMED])
        more = ", …" if len(wrong) > _NAMED else ""
        others = f" (and {len(wrong) - 1:,} of the {len(self):,} images are like it: {named}{more})" if named else ""
        height, width = settings.shape[1:]
        if self._channels_fit(settings, first):
            raise DataError(
                f"{first.name} is {_size(first)}{others}, the spec's data section says "
                f"{wanted}: change `shape`, or set `resize = {height}x{width}` (or `crop`, `pad`) in `data`"
            )
        raise DataError(
            f"{first.name} is {_size(first)}{others}, of mode {first.header.mode if first.header else '?'}; the spec's "
            f"data section says {wanted}: write `shape = {_size(first).split('x')[0]}x{height}x{width}`"
        )

    def _fits(self, preprocess: Preprocess, settings: Data, record: FileRecord) -> bool:
        header = record.header
        if header is None:
            return True
        if preprocess.size_of(header.height, header.width) != settings.shape[1:]:
            return False
        return self._channels_fit(settings, record)

    @staticmethod
    def _channels_fit(settings: Data, record: FileRecord) -> bool:
        header = record.header
        if header is None:
            return True
        kept = settings.background == "channel" and (header.alpha or settings.alpha == "channel")
        wanted = settings.shape[0] - kept
        return header.channels == wanted or {header.channels, wanted} == {1, 3}

    def _record(self, index: int) -> FileRecord | None:
        """The first file from `index` on that is not known to be damaged."""
        around = (self.records[(index + step) % len(self)] for step in range(len(self)))
        return next((record for record in around if record.path not in self._damaged), None)

    def _report(self, path: Path, reason: str) -> None:
        self._damaged[path] = reason
        _log.warning("skipped %s: %s", path, reason)
        if len(self._damaged) > self._allowed:
            names = ", ".join(str(p) for p in list(self._damaged)[:5])
            raise DataError(
                f"{len(self._damaged)} image files in {self.root} are damaged (at most {self._allowed} are "
                f"skipped): {names}, …"
            )


def _size(record: FileRecord) -> str:
    header = record.header
    return f"{header.channels + header.alpha}x{header.height}x{header.width}" if header is not None else "unread"
