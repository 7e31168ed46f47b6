"""Files and folders that are whole or not there: the one way in which anything is written.

Everything is written under a temporary name beside its own, flushed to the disk, and renamed. A killed process or a
full disk leaves what was there before, and never half of something. A rename replaces the name itself: where that is a
link, its target is left alone.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from hvdsl.errors import HvdslError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a file system that has no room left."""
_LONGEST = 180  # bytes of a name that are kept in its temporary one: most file systems end at 255


class DiskError(HvdslError):
    """A file or folder that cannot be written or read; nothing half-written is left.

    Attributes:
        reason: Why, without the path.
        full: Whether it is that there is no space left.
    """

    def __init__(self, message: str, reason: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.reason, self.full = reason, full


def write_file(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write a whole file, text in UTF-8 (names of files in it as their bytes), making its folder; returns its path.

    Raises:
        DiskError: There is no space, or it may not be written; an earlier file of that name is as it was.
    """
    with writing(path) as file:
        file.write(content.encode(errors="surrogateescape") if isinstance(content, str) else content)
    return Path(path)


def write_json(path: str | os.PathLike[str], value: object, *, indent: int = 2) -> Path:
    """Write a value as JSON text, as `write_file` does."""
    return write_file(path, json.dumps(value, indent=indent) + "\n")


def write_output(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write a file where a person asked for it: as `write_file` does, but a link stays one."""
    path = Path(path)
    write_file(path.resolve() if path.is_symlink() else path, content)
    return path


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file to write to, which takes the place of `path` when all of it is on the disk.

    What is no plain file, a pipe or a device, is written to directly.

    Raises:
        DiskError: As `write_file`.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        mode = path.stat().st_mode & 0o777 if path.is_file() else None
        temporary = _beside(path, "tmp")
        # A new name, so that no link can stand in its place; the process's mask applies to its permissions.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                temporary.chmod(mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # a disk that is read-only has been told of
                temporary.unlink()


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, as one write; a link in its place is refused, since its target is somebody else's.

    Raises:
        DiskError: It cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "ab") as file:
            file.write(line.encode(errors="surrogateescape") + b"\n")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DiskError(f"cannot write {path}: it is a link; put a file in its place", "it is a link") from error
        raise disk_error(path, error) from error


def file_to_hold(path: Path, *, new: bool = False) -> IO[str]:
    """A file that stays open to be locked, made if there is none; with `new` there may be none. No link is followed.

    Raises:
        FileExistsError: It exists, and is to be `new`.
        OSError: It cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | (os.O_EXCL if new else 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+", encoding="utf-8")


@contextmanager
def new_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, `.NAME.new-PID` beside `path`, which becomes `path` when all of it is on the disk.

    What processes that are gone left there of an attempt to make the same folder is removed.

    An empty folder may stand there already. With `replace` it takes the place of any earlier folder of that name, which
    stays until then.

    Raises:
        FileExistsError: `path` exists already, be it that another process made it meanwhile.
        DiskError: It cannot be made, or what it is to replace is no folder.
    """
    path = Path(path)
    if path.is_mount() and not any(path.iterdir()):
        reason = f"it is a mount point, whose place no new folder can take: give a folder in it, such as {path / 'run'}"
        raise DiskError(f"cannot write {path}: {reason}", reason)
    if not replace and (path.exists() or path.is_symlink()) and not _is_empty(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if replace and (path.is_symlink() or (path.exists() and not path.is_dir())):
        reason = "it is a link" if path.is_symlink() else "it is not a folder"
        raise DiskError(f"cannot write {path}: {reason}", reason)
    temporary = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        for remains in path.parent.glob(f".{glob.escape(path.name)}.new-*"):
            owner = remains.name.rpartition("-")[2]
            if remains == temporary or (owner.isascii() and owner.isdigit() and not process_lives(int(owner))):
                shutil.rmtree(remains, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for folder, _, _ in os.walk(temporary):
            sync(Path(folder))
        if _is_empty(path):
            temporary.chmod(path.stat().st_mode & 0o7777)
        elif replace and path.exists():
            remove_folder(path)
        temporary.rename(path)  # fails where another process was first
        sync(path.parent)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_empty(path: Path) -> bool:
    """Whether a new folder may take the place of `path`: it is an empty one, and nobody's working directory."""
    if path.is_symlink() or not path.is_dir() or path.is_mount() or path.samefile(Path.cwd()):
        return False
    return not any(path.iterdir())


def remove_folder(path: Path) -> None:
    """Remove a folder so that no half of it can ever be taken for a whole one. Raises OSError."""
    doomed = _beside(path, "old")
    path.rename(doomed)
    shutil.rmtree(doomed)


def process_lives(number: int) -> bool:
    """Whether this machine has a process of that number; yes where that cannot be told."""
    if os.name != "posix" or number < 1:
        return True
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def clear_remains(folder: Path) -> None:
    """Remove what killed processes left half written or half removed in a folder. Raises OSError."""
    for path in folder.glob(".*"):
        if path.suffix not in (".tmp", ".old") and not path.suffix.startswith(".new-"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a rename within a folder, is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        FileNotFoundError: There is no such file.
        DiskError: It cannot be read, or holds anything but one JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DiskError(f"cannot read {path}: {error.strerror or error}", str(error.strerror)) from error
    except (ValueError, RecursionError) as error:  # too deep for Python, which no file of ours is
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DiskError(f"{path} is not JSON ({reason})", "not JSON") from error
    if not isinstance(value, dict):
        raise DiskError(f"{path} holds {_JSON_NAMES[type(value)]} where a JSON object belongs", "no JSON object")
    return value


_JSON_NAMES = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}
_JSON_NAMES[type(None)] = "null"


def disk_error(path: Path, error: OSError) -> DiskError:
    """What to say of a file that could not be written."""
    if error.errno in FULL:
        return DiskError(f"no space to write {path}: free some and try again", "no space", full=True)
    reason = error.strerror or str(error)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        inside = [place for place in (path, *path.parents) if os.path.lexists(place) and not place.is_dir()]
        reason = f"{inside[-1] if inside else path.parent} is not a folder"
    return DiskError(f"cannot write {path}: {reason}", reason)


def _beside(path: Path, suffix: str) -> Path:
    """A free name in the same folder, hidden, that says of what it is."""
    name = os.fsencode(path.name)[:_LONGEST].decode(errors="ignore")
    return path.with_name(f".{name}.{os.urandom(4).hex()}.{suffix}")


def read_array(path: Path, mode: Literal["r", "c"] = "r") -> NDArray[Any]:
    """The array of an `.npy` file, mapped into memory: read-only, or with changes that are not written back.

    Raises:
        FileNotFoundError: There is no such file.
        DiskError: It cannot be read, or is no array file.
    """
    import numpy as np  # the command line writes texts with this module, and starts without NumPy

    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # of damaged headers NumPy raises almost anything: it parses them as Python
        reason = " ".join(str(error).split())[:120] or type(error).__name__  # it may hold the header
        raise DiskError(f"{path} cannot be read as an array file ({reason})", reason) from error
    if not isinstance(array, np.ndarray):
        raise DiskError(f"{path} is no array file but an archive of some", "an archive")
    return array
