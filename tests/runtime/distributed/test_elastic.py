"""A process that is killed under torchrun comes back, and the run ends as one that nothing happened to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.conftest import TINY
from tests.runtime.distributed.test_peers import ROOT

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def torchrun(spec: Path, run: Path) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    train = ["-m", "hvdsl", "train", str(spec), "--out", str(run), "--resume", "auto", "--device", "cpu"]
    command = [*launcher, *train, "--threads", "1"]
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def worker(run: Path, rank: int) -> int:
    """The number of the process of that rank that trains the run."""
    for place in Path("/proc").iterdir():
        try:
            command = (place / "cmdline").read_bytes().split(b"\0")
            variables = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"RANK={rank}".encode() in variables and str(run).encode() in command:
            return int(place.name)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by Linux's /proc")
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_comes_back_and_the_run_is_the_same(killed: int, tmp_path: Path) -> None:
    spec = tmp_path / "tiny.hv"
    settings = "steps = 150, log_every = 1000, checkpoint_every = 10"
    spec.write_text(TINY.replace("steps = 3", settings).replace("log_every = 1, ", ""))
    straight = torchrun(spec, tmp_path / "straight")
    _, err = straight.communicate(timeout=300)
    assert straight.returncode == 0, err
    broken = torchrun(spec, tmp_path / "broken")
    deadline = time.monotonic() + 120
    while not (tmp_path / "broken" / "checkpoints" / "20").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(worker(tmp_path / "broken", killed), signal.SIGKILL)
    out, err = broken.communicate(timeout=300)
    assert broken.returncode == 0, err
    assert "done: 150 steps" in out
    starts = [json.loads(line) for line in (tmp_path / "broken" / "history.jsonl").read_text().splitlines()]
    assert len(starts) == 2
    assert starts[1]["from_step"] >= 10
    for part in ("model", "ema", "optimizer"):
        a, b = (
            load_file(tmp_path / run / "checkpoints" / "150" / f"{part}.safetensors") for run in ("straight", "broken")
        )
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
