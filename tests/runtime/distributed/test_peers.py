"""Processes of one run that are killed, fail, never come, or were started differently."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import TINY
from tests.runtime.forked import Forked, free_port, rank_of_two, ranks, train

ROOT = Path(__file__).parents[3]
LIMIT = 20.0  # seconds in which the others must have ended

pytestmark = pytest.mark.slow


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.hv"
    path.write_text(TINY.replace("log_every = 1", "log_every = 1000, checkpoint_every = 20"))
    return path


def running(spec: Path) -> tuple[Path, tuple[Forked, Forked]]:
    """Two ranks that have done 20 steps of a run without end."""
    run = spec.with_name("run")
    both = ranks(spec.parent, train, [spec, "--out", run, "--steps", 1_000_000])
    for rank in both:
        rank.wait_for((run / "checkpoints" / "20").exists)
    return run, both


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_the_others_soon_and_is_named(killed: int, spec: Path) -> None:
    _, both = running(spec)
    both[killed].send_signal(signal.SIGKILL)
    _, err = both[1 - killed].communicate(LIMIT)
    assert both[1 - killed].returncode == 1
    assert err == f"hvdsl: rank {killed} is gone: it was killed, or its machine cannot be reached any more\n"
    both[killed].communicate()
    assert both[killed].returncode == -signal.SIGKILL


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_rank_stops_all_alike_and_nobody_is_done(signalled: int, spec: Path) -> None:
    run, both = running(spec)
    both[signalled].send_signal(signal.SIGTERM)
    outputs = [rank.communicate(60) for rank in both]
    assert [rank.returncode for rank in both] == [143, 143], outputs
    printed = "".join(out for out, _ in outputs)
    assert "done" not in printed
    assert printed.count(f"`hvdsl train --resume --out {run}` goes on\n") == 1


def test_ranks_that_were_started_differently_do_not_begin(spec: Path) -> None:
    port, run = free_port(), spec.with_name("run")
    both = [rank_of_two(r, port, spec.parent, train, [spec, "--out", run, "--seed", r]) for r in (0, 1)]
    for rank in both:
        _, err = rank.communicate()
        assert rank.returncode == 1
        assert "rank 1 was started with another seed than rank 0 (1, not 0)" in err
    assert not run.exists()


def test_the_first_error_of_a_rank_reaches_the_others(spec: Path) -> None:
    spec.write_text(spec.read_text().replace("data digits", "data images"))
    port, run = free_port(), spec.with_name("run")
    images = spec.parent / "images"
    images.mkdir()
    for n in range(40):
        Image.new("L", (8, 8), 6 * n).save(images / f"{n}.png")
    places = (images, spec.parent / "nowhere")
    both = [rank_of_two(r, port, spec.parent, train, [spec, "--out", run, "--data", places[r]]) for r in (0, 1)]
    errors = [rank.communicate()[1] for rank in both]
    assert [rank.returncode for rank in both] == [1, 1]
    assert "nowhere does not exist" in errors[1]
    assert errors[0].startswith("hvdsl: rank 1 failed: ")
    assert "nowhere does not exist" in errors[0]


@pytest.mark.parametrize(
    ("present", "sentence"),
    [(0, "rank 1 has not come within 4 s"), (1, "rank 1 could not reach rank 0 at 127.0.0.1:")],
)
def test_a_rank_that_never_comes_is_not_waited_for(present: int, sentence: str, spec: Path) -> None:
    """Started as a user starts it: what torch itself writes of a network that fails is not seen."""
    place = {"RANK": present, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    variables = {name: str(value) for name, value in place.items()}
    variables |= {"HVDSL_RENDEZVOUS_SECONDS": "4", "COLUMNS": "60", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hvdsl", "train", spec, "--out", spec.with_name("run"), "--device", "cpu"]
    alone = subprocess.run(
        command, env=os.environ | variables, text=True, capture_output=True, timeout=120, check=False
    )
    assert alone.returncode == 1
    assert sentence in alone.stderr
    assert "HVDSL_RENDEZVOUS_SECONDS waits longer" in alone.stderr
    assert len(alone.stderr.splitlines()) == 1
