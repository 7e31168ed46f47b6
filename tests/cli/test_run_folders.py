"""Runs are listed with their states, verified file by file, and a machine says what it can do."""

from __future__ import annotations

import json
import os
import shutil
import socket
from importlib.metadata import PackageNotFoundError
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from hvdsl.cli.main import main
from hvdsl.runtime.training.folder import lock
from hvdsl.runtime.training.folder.lock import RunLock, is_written
from hvdsl.workflows import doctor
from hvdsl.workflows.overview import list_runs
from hvdsl.workflows.verify import verify

from .codes import CPU
from .conftest import TINY, Hvdsl


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.hv").write_text(TINY)
    command = ["train", str(folder / "tiny.hv"), "--out", str(folder / "run"), "--set", "train.checkpoint_every=1"]
    assert main([*command, "--set", "train.evaluate_every=2", "--sink", "none", *CPU]) == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs" / "run"))


def test_a_finished_run_is_listed_with_its_figures(run: Path, hvdsl: Hvdsl) -> None:
    (one,) = list_runs(run.parent)
    assert (one.name, one.state, one.step, one.steps, one.judged_by) == ("run", "finished", 3, 3, "bits_per_dim")
    assert one.best is not None and one.last is not None and one.best_step in (2, 3)
    assert one.bytes == sum(path.lstat().st_size for path in run.rglob("*") if path.is_file())
    out = hvdsl("runs", run.parent).out
    assert "finished" in out and "3/3" in out and f"{one.best:.4f} bits/dim at {one.best_step}" in out


def test_a_run_is_running_while_its_lock_is_held(run: Path) -> None:
    assert not is_written(run)
    with RunLock(run):
        assert is_written(run)
        assert list_runs(run.parent)[0].state == "running"
    assert not is_written(run)
    assert list_runs(run.parent)[0].state == "finished"


def test_looking_at_a_run_never_keeps_a_trainer_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr("fcntl.flock", lambda file, how: taken.append(how))
    (run / lock.LOCK).write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    assert not is_written(run)
    assert taken == [] or not lock.LOCKS.is_file()


def test_a_lock_without_the_kernels_list_is_seen(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCKS", Path("/nowhere"))
    with RunLock(run):
        assert is_written(run)
    assert not is_written(run)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda run: _edit(run, steps=9), "stopped"),
        (lambda run: _append(run, {"event": "stalled", "step": 3}), "finished"),
        (lambda run: _edit(run, steps=9, patience=0), "finished"),
        (lambda run: _edit(run, steps=9, patience=5), "stopped"),
        (lambda run: (_edit(run, steps=9), _append(run, {"event": "stalled", "step": 3})), "failed"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "failed"),
        (lambda run: (shutil.rmtree(run / "checkpoints"), (run / "metrics.jsonl").unlink()), "not begun"),
    ],
)
def test_states(run: Path, change: Any, state: str) -> None:
    change(run)
    assert list_runs(run.parent)[0].state == state


MANIFEST = "checkpoints/3/manifest.json"


def _edit(run: Path, **train: Any) -> None:
    path = run / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["state"]["train"] |= train
    path.write_bytes(_as_of_0_1(json.dumps(manifest).encode()))


def _as_of_0_1(manifest: bytes) -> bytes:
    """The manifest without a digest of itself, as older ones are: its content may be changed."""
    older = json.loads(manifest) | {"format": 1}
    del older["sha256"]
    return json.dumps(older).encode()


def _append(run: Path, record: dict[str, Any]) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def test_what_cannot_be_read_of_a_run_is_told_and_the_others_are_listed(run: Path, hvdsl: Hvdsl) -> None:
    other = run.parent / "[red]o\x1bther"
    shutil.copytree(run, other)
    (other / "checkpoints" / "3" / "manifest.json").write_text("[" * 100_000)
    (other / "metrics.jsonl").write_bytes(b"\xff\n[]\n{")
    (run.parent / "loop").symlink_to(run.parent)
    out = hvdsl("runs", run.parent).out
    assert "[red]o\N{REPLACEMENT CHARACTER}ther" in out and "nested too deeply" in out and "\x1b" not in out
    assert len(list_runs(run.parent)) == 2
    assert "no runs in" in hvdsl("runs", run / "pictures").out
    missing = hvdsl("runs", run / "nowhere")
    assert (missing.code, missing.out) == (1, "") and "hvdsl runs FOLDER" in missing.err


def test_a_whole_run_is_verified(run: Path, hvdsl: Hvdsl) -> None:
    done = hvdsl("verify", run)
    assert done.code == 0
    assert "newest checkpoint, good: step 3" in done.out and "DAMAGED" not in done.out
    (found,) = verify(run)
    assert [check.step for check in found.checks if check.step is not None] == [2, 3]
    assert {"resolved.hv", "metrics.jsonl", "history.jsonl", "environment.json"} <= {c.path for c in found.checks}


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("checkpoints/3/model.safetensors", lambda data: data[:-1], r"has [0-9,]+ bytes where the manifest says"),
        ("checkpoints/3/ema.safetensors", lambda data: data[:-1] + b"\x55", "SHA-256 is not the manifest's"),
        (MANIFEST, lambda data: b"{}", "is not a manifest of format"),
        (MANIFEST, lambda data: _as_of_0_1(data).replace(b'"model.s', b'"../model.s'), "no name of a file"),
        (MANIFEST, lambda data: _as_of_0_1(data).replace(b'"optimizer.', b'"other.'), "is missing"),
        (MANIFEST, lambda data: data.replace(b'"threads": 1', b'"threads": 2'), "not what its SHA-256 says"),
        ("resolved.hv", lambda data: data.replace(b"lr = 1e-3", b"lr = 2e-3"), "not the spec that the run was"),
        ("resolved.hv", lambda data: b"hv 1\nmodel {", "not the spec that the run was"),
        ("environment.json", lambda data: b"[]", "a list where a JSON object belongs"),
        ("metrics.jsonl", lambda data: b"x\n" + data, "1 line of [0-9]+ are no records"),
        ("pictures/rate_per_group.png", lambda data: data[:40], "no picture that can be read"),
    ],
)  # fmt: skip
def test_damage_is_named_and_the_newest_good_checkpoint_too(
    run: Path, hvdsl: Hvdsl, name: str, damage: Any, words: str
) -> None:
    import re

    (run / name).write_bytes(damage((run / name).read_bytes()))
    done = hvdsl("verify", run)
    assert done.code == 1
    (line,) = [line for line in done.out.splitlines() if line.startswith("DAMAGED")]
    assert re.search(words, line)
    good = name.startswith("checkpoints")
    assert ("newest good checkpoint: step 2; `hvdsl train --resume --checkpoint 2 --out" in done.out) == good


def test_weights_of_another_spec_are_no_part_of_a_run(run: Path) -> None:
    text = (run / "resolved.hv").read_text()
    (run / "history.jsonl").unlink()  # a run of version 0.1
    for path in (run / "resolved.hv", run / "resolved" / "0.hv"):
        path.write_text(text + "# another\n")
    (found,) = verify(run)
    assert found.newest_good is None
    assert "is of another spec than resolved.hv" in found.checks[0].about


def test_half_a_last_line_is_what_a_kill_leaves(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "tra')
    assert verify(run)[0].good


def test_priors_are_verified_with_their_run(run: Path) -> None:
    shutil.copytree(run, run / "priors" / "z_top")
    (run / "priors" / "z_top" / "checkpoints" / "3" / "model.safetensors").unlink()
    first, second = verify(run)
    assert first.good and not second.good and second.newest_good == 2
    assert {one.name for one in list_runs(run.parent)} == {"run", "run/priors/z_top"}


def test_a_machine_says_what_it_can_do(hvdsl: Hvdsl) -> None:
    done = hvdsl("doctor")
    assert done.code == 0
    assert "a step of vdvae_digits on cpu, batch 32:" in done.out
    found = json.loads(hvdsl("doctor", "--json", "--no-speed").out)
    assert found["speed"] == [] and found["cpu"]["threads"] >= 1
    assert {"tensorboard", "lmdb", "mat"} <= {extra["extra"] for extra in found["extras"]}


def test_a_checkout_that_was_never_installed_knows_its_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor.extras()

    def absent(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", absent)
    key = itemgetter("extra", "package")
    assert sorted(doctor.extras(), key=key) == sorted(installed, key=key) != []


def test_what_stands_where_a_file_belongs_is_told_and_never_waited_for(run: Path, hvdsl: Hvdsl) -> None:
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    for command in ("eval", "verify"):
        done = hvdsl(command, run)
        assert done.code == 1 and "metrics.jsonl is no file: put one in its place" in done.err


def test_a_run_is_not_written_to_through_a_link_to_a_folder(run: Path, hvdsl: Hvdsl) -> None:
    there = Path(shutil.move(run / "checkpoints", run.parent / "elsewhere"))
    (run / "checkpoints").symlink_to(there)
    before = sorted(there.rglob("*"))
    done = hvdsl("train", "--resume", "--out", run, "--steps", "4", "--device", "cpu")
    assert done.code == 1 and "checkpoints is a link, and a run is not written to through one" in done.err
    assert sorted(there.rglob("*")) == before
    assert hvdsl("verify", run).code == 0


def test_another_level_than_that_of_the_run_is_refused(run: Path, hvdsl: Hvdsl) -> None:
    again = ("train", "--resume", "--out", run, "--steps", "3", "--device", "cpu", "--threads", "1")
    done = hvdsl(*again, "-O0")
    assert done.code == 2 and "was begun with -O1, and goes on with it: leave out -O0" in done.err
    assert hvdsl(*again, "-O1").code == 0
