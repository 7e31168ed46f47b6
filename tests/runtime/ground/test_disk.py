"""Files and folders are whole or not there."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path

import pytest

import hvdsl
from hvdsl.runtime.ground.disk import (
    DiskError,
    append_line,
    clear_remains,
    new_folder,
    read_json,
    write_file,
    write_json,
    write_output,
    writing,
)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folder_and_replaced_whole(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a" / "b.txt", "erster\n")
    assert write_file(path, "zweiter ü\n").read_bytes() == "zweiter ü\n".encode()
    assert names(path.parent) == ["b.txt"]


def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(tmp_path / "a.txt", "before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"^no space to write .*a\.txt: free some and try again$") as failure:
        write_file(path, "after")
    assert failure.value.full
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "a.bin") as file:
        file.write(b"half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "precious", tmp_path / "link"
    target.write_text("precious")
    link.symlink_to(target)
    write_file(link, "new")
    assert target.read_text() == "precious"
    assert not link.is_symlink()


def test_a_link_that_a_person_names_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    write_output(link, "after")
    assert target.read_text() == "after"
    assert link.is_symlink()


def test_a_device_or_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    write_file("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_output(pipe, "through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_permissions_stay_and_new_files_follow_the_mask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        path = write_file(tmp_path / "a", "1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_file(path, "2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(mask)


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    assert write_file(tmp_path / ("n" * 255), "x").read_text() == "x"


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run") as folder:
        assert folder.name == f".run.new-{os.getpid()}"
        write_json(folder / "a.json", {"a": 1})
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == ["run"]
    assert read_json(tmp_path / "run" / "a.json") == {"a": 1}


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "run") as folder:
        write_file(folder / "a", "a")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_an_existing_folder_is_refused_even_if_it_came_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), new_folder(tmp_path / "run") as folder:
        write_file(folder / "a", "ours")
        write_file(tmp_path / "run" / "a", "theirs")
    assert (tmp_path / "run" / "a").read_text() == "theirs"
    assert names(tmp_path) == ["run"]
    for existing in (tmp_path / "run", Path(), Path("/")):
        with pytest.raises(FileExistsError), new_folder(existing):
            pass


def test_an_empty_folder_is_taken_with_its_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(mode=0o750)
    for replace in (False, True):
        with new_folder(tmp_path / "run", replace=replace) as folder:
            write_file(folder / "a", "ours")
        assert (tmp_path / "run" / "a").read_text() == "ours"
        assert names(tmp_path) == ["run"] and (tmp_path / "run").stat().st_mode & 0o777 == 0o750
        (tmp_path / "run" / "a").unlink()
    monkeypatch.chdir(tmp_path / "run")  # a process would lose the folder that it works in
    with pytest.raises(FileExistsError), new_folder(tmp_path / "run"):
        pass


def test_an_empty_mount_point_is_refused_with_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "out")
    with (
        pytest.raises(DiskError, match=r"mount point.*give a folder in it, such as .*out/run"),
        new_folder(tmp_path / "out"),
    ):
        pass
    with new_folder(tmp_path / "out" / "run") as folder:
        write_file(folder / "a", "ours")
    assert names(tmp_path / "out") == ["run"]


def test_what_is_no_folder_is_never_replaced(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "somebody's")
    (tmp_path / "link").symlink_to(tmp_path)
    for name, reason in (("file", "it is not a folder"), ("link", "it is a link")):
        with pytest.raises(DiskError, match=reason), new_folder(tmp_path / name, replace=True):
            pass
    assert names(tmp_path) == ["file", "link"] and (tmp_path / "file").read_text() == "somebody's"


def test_a_replaced_folder_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "run" / "a", "first")
    with monkeypatch.context() as patch, pytest.raises(DiskError), new_folder(tmp_path / "run", replace=True) as folder:
        patch.setattr(os, "fsync", full)
        write_file(folder / "a", "second")
    assert (tmp_path / "run" / "a").read_text() == "first"
    with new_folder(tmp_path / "run", replace=True) as folder:
        write_file(folder / "a", "second")
    assert (tmp_path / "run" / "a").read_text() == "second"
    assert names(tmp_path) == ["run"]


def test_what_killed_processes_left_is_cleared(tmp_path: Path) -> None:
    for name in (".a.1234.tmp", ".b.1234.old", ".c.new-77"):
        write_file(tmp_path / name / "half", "")
    write_file(tmp_path / ".hidden" / "kept", "")
    clear_remains(tmp_path)
    assert names(tmp_path) == [".hidden"]


def test_lines_are_added_to_a_file_and_to_no_link(tmp_path: Path) -> None:
    append_line(tmp_path / "log", "one")
    append_line(tmp_path / "log", "two ü")
    assert (tmp_path / "log").read_text() == "one\ntwo ü\n"
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(DiskError, match="it is a link; put a file in its place"):
        append_line(tmp_path / "link", "three")
    assert (tmp_path / "log").read_text() == "one\ntwo ü\n"


def test_nothing_else_of_the_program_writes_files() -> None:
    """But the matrix of codes, which several processes fill under its folder's temporary name, and our own tables."""
    package = Path(hvdsl.__file__).parent
    writers = set()
    for file in (Path(at) / name for at, _, files in os.walk(package, followlinks=True) for name in files):
        if file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            opens = name == "open" and any(set(mode) <= set("rwaxb+t") and set(mode) & set("wax+") for mode in modes)
            if opens or name in ("write_text", "write_bytes", "fdopen", "NamedTemporaryFile", "mkstemp"):
                writers.add(file.relative_to(package).as_posix())
    assert writers == {"runtime/ground/disk.py", "runtime/codes/store.py", "grammar/text/generate.py"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON .nested too deeply"),
        (b"[]", "holds a list where a JSON object belongs"),
        (b"null", "holds null"),
        (b"3", "holds a number"),
    ],
)
def test_json_that_is_no_object_is_a_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.json", content)
    with pytest.raises(DiskError, match=message):
        read_json(path)
