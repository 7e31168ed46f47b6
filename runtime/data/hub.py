"""Data sets by their name on a hub, `hf://OWNER/NAME@REVISION:FOLDER`: downloaded once, then read as any folder.

Only tables, arrays of Arrow and pictures are downloaded: no script of a data set is fetched, and none is ever run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hvdsl.runtime.data.errors import DataError, optional
from hvdsl.runtime.data.stored import SUFFIXES

_START = "hf:/"  # what a path makes of `hf://`
_NAME = re.compile(r"hf:/+(?P<id>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^:]+))?(?::(?P<folder>.+))?")
_KINDS = (".parquet", ".arrow", *sorted(SUFFIXES - {".npy"}))
_SHOWN = 8  # folders that a message names


@dataclass(frozen=True, slots=True)
class HubFolder:
    """A data set of a hub on this machine.

    Attributes:
        name: With the revision in full, by which the same files are found again.
        path: Where they are.
    """

    name: str
    path: Path


def is_hub_name(place: Path) -> bool:
    """Whether a place is a name on a hub, not a file or folder."""
    return f"{place}/".startswith(_START)


def hub_folder(place: Path, *, download: bool = True) -> HubFolder:
    """Return the files of a data set, downloaded into the cache of `huggingface_hub` where they are not there yet.

    `REVISION` is a branch, a tag or a commit, by default the newest; `FOLDER` is the one of several configurations.

    Raises:
        DataError: `huggingface_hub` is not installed, the hub cannot be reached, or has no such data set or folder.
    """
    name = str(place).replace("hf:/", "hf://", 1) if not str(place).startswith("hf://") else str(place)
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{name} is no name of a data set: write `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION:FOLDER`"
        )
    hub = optional("huggingface_hub", "hub", f"reading {name}")
    patterns = [pattern for kind in _KINDS for pattern in (f"*{kind}", f"*{kind.upper()}")]
    try:
        snapshot = hub.snapshot_download(
            match["id"],
            repo_type="dataset",
            revision=match["revision"],
            allow_patterns=patterns,
            local_files_only=not download,
        )
    except (OSError, ValueError) as error:  # which all of its own errors are
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"{name} cannot be downloaded ({reason}): where there is a network, `hf download --repo-type dataset "
            f"{match['id']} --local-dir FOLDER` makes a folder for `--data FOLDER`"
        ) from error
    root = Path(snapshot)
    folder = match["folder"]
    pinned = f"hf://{match['id']}@{root.name}" + (f":{folder}" if folder else "")
    return HubFolder(pinned, _inside(root, folder, name) if folder else root)


def _inside(root: Path, folder: str, name: str) -> Path:
    inside = root / folder
    if ".." not in Path(folder).parts and not Path(folder).is_absolute() and inside.is_dir():
        return inside
    folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    there = ", ".join(folders[:_SHOWN]) + (", …" if len(folders) > _SHOWN else "")
    raise DataError(f"{name} has no folder `{folder}`: " + (f"it has {there}" if there else "write it without one"))


def noted_place(place: Path) -> str:
    """How a run notes where its data is: a whole path, or a name on a hub with its revision."""
    return hub_folder(place, download=False).name if is_hub_name(place) else str(place.resolve())
