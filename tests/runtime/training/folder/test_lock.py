"""One writer for a run folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvdsl.runtime.training.folder.lock import STALE, LockError, RunLock
from hvdsl.runtime.training.folder.run import Run

HOLDER = """
import sys, time
from pathlib import Path
from hvdsl.runtime.training.folder.lock import RunLock
lock = RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no such locks."""

    def unsupported(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(LockError, match=rf"being written by process {os.getpid()} on .* \(since"):
        RunLock(tmp_path).acquire()
    with RunLock(tmp_path):
        pass


def test_a_run_that_is_being_written_is_not_begun_anew(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"model.py": "first"})
    with run.lock(), pytest.raises(LockError, match="being written"):
        Run.create(run.folder, {})
    assert run.read("model.py") == "first"


def test_the_lock_of_a_killed_process_is_free_at_once_and_a_copy_is_not_locked(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockError, match=f"process {holder.pid} on"):
            RunLock(run).acquire()
        shutil.copytree(run, tmp_path / "copy")
        with RunLock(tmp_path / "copy"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with RunLock(run):
        pass


@pytest.mark.usefixtures("without_flock")
def test_without_kernel_locks_a_file_with_a_sign_of_life_stands_for_one(tmp_path: Path) -> None:
    first = RunLock(tmp_path).acquire()
    with pytest.raises(LockError, match=f"process {os.getpid()} on"):
        RunLock(tmp_path).acquire()
    first.release()
    mark = tmp_path / "lock.held"
    assert not mark.exists()
    mark.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "today"}))
    with pytest.raises(LockError, match="process 1 on elsewhere"):
        RunLock(tmp_path).acquire()
    os.utime(mark, (time.time() - STALE - 1,) * 2)  # without a sign of life
    RunLock(tmp_path).acquire().release()
    mark.write_text(json.dumps({"host": os.uname().nodename, "pid": 999_999_999}))  # of this machine, and gone
    RunLock(tmp_path).acquire().release()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(Exception, match="cannot write"):
        RunLock(tmp_path).acquire()
    assert (tmp_path / "precious").read_text() == "mine"
