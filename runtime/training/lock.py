"""One writer for a run folder: a lock that the kernel takes back when its holder is gone, however it went."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.disk import DiskError, disk_error, file_to_hold, process_lives, read_json

try:
    import fcntl
except ImportError:  # a system without `flock`
    fcntl = None  # type: ignore[assignment]

LOCK, MARK = "lock", "lock.held"
HEARTBEAT = 10.0  # seconds between two signs of life of a holder where there is no kernel-held lock
STALE = 60.0  # a mark without one for so long is a dead holder's
_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)


class LockError(HvdslError):
    """Another process writes to the run."""


class RunLock:
    """The right to write to a run folder, for the life of this process or until `release`.

    `lock` is held by `flock`: a dead holder's is free at once, and a copy of the folder is not locked. Its content, who
    holds it, serves the message alone. Where the file system has no such locks, a file `lock.held` stands for one, with
    a sign of life every 10 seconds. Who only reads a run never asks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[str] | None = None
        self._ended = threading.Event()
        self._marked = False

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> Self:
        """Take the lock.

        Raises:
            LockError: Another process has it, and is named.
            DiskError: The folder may not be written to.
        """
        path = self.folder / LOCK
        try:
            while self._file is None:
                file = file_to_hold(path)
                try:
                    self._lock(file)
                    self._file = file if _same(file, path) else None  # the folder may have been made anew meanwhile
                finally:
                    if self._file is None:
                        file.close()
            self._file.truncate(0)
            self._file.write(json.dumps(_holder()) + "\n")
            self._file.flush()
        except OSError as error:
            raise disk_error(path, error) from error
        return self

    def release(self) -> None:
        """Give the lock back; nothing happens where it is not held."""
        self._ended.set()
        if self._marked:
            (self.folder / MARK).unlink(missing_ok=True)
            self._marked = False
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lock(self, file: IO[str]) -> None:
        try:
            if fcntl is None:
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockError(_held(self.folder, _described(self.folder / LOCK))) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._mark()

    def _mark(self) -> None:
        """The lock of a file system without locks: a file that only one can make, and that its maker keeps fresh."""
        mark = self.folder / MARK
        for _ in range(2):
            try:
                file = file_to_hold(mark, new=True)
            except FileExistsError:
                holder = _described(mark)
                if not _dead(mark, holder):
                    raise LockError(_held(self.folder, holder)) from None
                mark.unlink(missing_ok=True)
                continue
            with file:
                file.write(json.dumps(_holder()) + "\n")
            self._marked = True
            threading.Thread(target=self._beat, args=(mark,), daemon=True, name="run lock").start()
            return
        raise LockError(_held(self.folder, _described(mark)))

    def _beat(self, mark: Path) -> None:
        while not self._ended.wait(HEARTBEAT):
            try:
                os.utime(mark)
            except OSError:  # it was taken away: whoever did that now has the run
                return


def _same(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(file.fileno())
    return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)


def _holder() -> dict[str, object]:
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": started, "argv": sys.argv}


def _described(path: Path) -> dict[str, object]:
    """Who says to hold a lock; nothing where that cannot be read."""
    try:
        return read_json(path)
    except (FileNotFoundError, DiskError):
        return {}


def _held(folder: Path, holder: dict[str, object]) -> str:
    who = "another process"
    if holder.get("pid"):
        who = f"process {holder['pid']} on {holder.get('host')} (since {holder.get('since')})"
    return f"{folder} is being written by {who}: wait for it or end it, or give another folder with `--out`"


def _dead(mark: Path, holder: dict[str, object]) -> bool:
    """Whether the maker of a mark gives no sign of life any more."""
    pid = holder.get("pid")
    if holder.get("host") == socket.gethostname() and isinstance(pid, int) and not process_lives(pid):
        return True
    try:
        return time.time() - mark.stat().st_mtime > STALE
    except FileNotFoundError:
        return True
