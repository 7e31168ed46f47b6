"""Processes of one run that are killed, fail, never come, or were started differently."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import TINY

ROOT = Path(__file__).parents[3]
LIMIT = 20.0  # seconds in which the others must have ended

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(rank: int, port: int, arguments: Sequence[object], size: int = 2, **more: str) -> subprocess.Popen[str]:
    """One rank by itself, as a cluster's launcher starts it: nobody ends the others when it fails."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = os.environ | {name: str(value) for name, value in place.items()}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "60"} | more
    command = [sys.executable, "-m", "hvdsl", "train", *map(str, arguments), "--device", "cpu", "--threads", "1"]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.hv"
    path.write_text(TINY.replace("log_every = 1", "log_every = 1000, checkpoint_every = 20"))
    return path


def running(spec: Path) -> tuple[Path, list[subprocess.Popen[str]]]:
    """Two ranks that have done 20 steps of a run without end."""
    run, port = spec.with_name("run"), free_port()
    ranks = [start(rank, port, [spec, "--out", run, "--steps", 1_000_000]) for rank in (0, 1)]
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "20").exists() and time.monotonic() < deadline:
        assert all(rank.poll() is None for rank in ranks), ranks[0].communicate()
        time.sleep(0.1)
    return run, ranks


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_the_others_soon_and_is_named(killed: int, spec: Path) -> None:
    _, ranks = running(spec)
    ranks[killed].kill()
    began = time.monotonic()
    _, err = ranks[1 - killed].communicate(timeout=60)
    assert time.monotonic() - began < LIMIT
    assert ranks[1 - killed].returncode == 1
    assert err == f"hvdsl: rank {killed} is gone: it was killed, or its machine cannot be reached any more\n"
    ranks[killed].communicate()


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_rank_stops_all_alike_and_nobody_is_done(signalled: int, spec: Path) -> None:
    run, ranks = running(spec)
    ranks[signalled].send_signal(signal.SIGTERM)
    outputs = [rank.communicate(timeout=60) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [143, 143], outputs
    said = "".join(out for out, _ in outputs)
    assert "done" not in said
    assert said.count(f"`hvdsl train --resume --out {run}` goes on\n") == 1


def test_ranks_that_were_started_differently_do_not_begin(spec: Path) -> None:
    port, run = free_port(), spec.with_name("run")
    ranks = [start(rank, port, [spec, "--out", run, "--seed", rank]) for rank in (0, 1)]
    for rank in ranks:
        _, err = rank.communicate(timeout=120)
        assert rank.returncode == 1
        assert "rank 1 was started with another seed than rank 0 (1, not 0)" in err
    assert not run.exists()


def test_the_first_error_of_a_rank_reaches_the_others(spec: Path) -> None:
    spec.write_text(spec.read_text().replace("data digits", "data images"))
    port = free_port()
    images = spec.parent / "images"
    from PIL import Image

    images.mkdir()
    for n in range(40):
        Image.new("L", (8, 8), 6 * n).save(images / f"{n}.png")
    places = (images, spec.parent / "nowhere")
    ranks = [start(r, port, [spec, "--out", spec.with_name("run"), "--data", places[r]]) for r in (0, 1)]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert "nowhere does not exist" in errors[1]
    assert errors[0].startswith("hvdsl: rank 1 failed: ")
    assert "nowhere does not exist" in errors[0]


@pytest.mark.parametrize(
    ("present", "sentence"),
    [(0, "rank 1 has not come within 4 s"), (1, "rank 1 could not reach rank 0 at 127.0.0.1:")],
)
def test_a_rank_that_never_comes_is_not_waited_for(present: int, sentence: str, spec: Path) -> None:
    alone = start(present, free_port(), [spec, "--out", spec.with_name("run")], HVDSL_RENDEZVOUS_SECONDS="4")
    _, err = alone.communicate(timeout=60)
    assert alone.returncode == 1
    assert sentence in err
    assert "HVDSL_RENDEZVOUS_SECONDS waits longer" in err
    assert len(err.splitlines()) == 1
