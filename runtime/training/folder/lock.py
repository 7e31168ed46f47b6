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
LOCKS = Path("/proc/locks")  # where Linux lists them, each with its file
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


def is_written(folder: Path) -> bool:
    """Whether a process holds the lock of a run folder now.

    The kernel is asked, and the lock is not taken to find out. Only where the kernel has no list of locks, or another
    machine took the lock last, is a shared one tried, for an instant.
    """
    mark = folder / MARK
    if mark.is_file() and not _dead(mark, _described(mark)):
        return True
    if not (folder / LOCK).is_file():
        return False
    holder = _described(folder / LOCK)
    try:
        with (folder / LOCK).open("rb") as file:
            if LOCKS.is_file() and holder.get("host") in (None, socket.gethostname()):
                return _is_listed(os.fstat(file.fileno()), holder.get("pid"))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it may not be read, or cannot be locked
        return False
    return False


def _is_listed(about: os.stat_result, pid: object) -> bool:
    """Whether the kernel lists a lock on a file. Some file systems name another device there: then by its holder."""
    device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"
    for line in LOCKS.read_text().splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 fe:00:2335160 0 EOF
        if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(about.st_ino):
            return words[5].rpartition(":")[0] == device or words[4] == str(pid)
    return False


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
