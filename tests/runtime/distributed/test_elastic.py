"""Processes that are killed under torchrun come back, and the run ends as one that nothing happened to."""

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
from tests.runtime.forked import ranks, train

ROOT = Path(__file__).parents[3]
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


def wait_for(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until the run has a checkpoint of that step or a later one."""
    deadline = time.monotonic() + 240
    while not any(int(p.name) >= step for p in (run / "checkpoints").glob("*") if p.name.isdigit()):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by Linux's /proc")
def test_ranks_that_are_killed_come_back_and_the_run_is_the_same(tmp_path: Path) -> None:
    spec, steps = tmp_path / "tiny.hv", 240
    # In parts, since those are exchanged together: the first step after a resume must be so, too.
    settings = f"steps = {steps}, accumulate = 2, log_every = 1000, checkpoint_every = 10"
    spec.write_text(TINY.replace("steps = 3", settings).replace("log_every = 1, ", ""))
    for rank in ranks(tmp_path, train, [spec, "--out", tmp_path / "straight"]):
        output = rank.communicate()
        assert rank.returncode == 0, output
    broken, run = torchrun(spec, tmp_path / "broken"), tmp_path / "broken"
    for killed, step in ((1, 20), (0, 80)):
        wait_for(run, step, broken)
        os.kill(worker(run, killed), signal.SIGKILL)
    out, err = broken.communicate(timeout=300)
    assert broken.returncode == 0, err
    assert f"done: {steps} steps" in out
    begun = [json.loads(line)["from_step"] for line in (run / "history.jsonl").read_text().splitlines()]
    assert len(begun) == 3 and begun == sorted(begun) and begun[1] >= 10 and begun[2] >= 70
    for part in ("model", "ema", "optimizer"):
        a, b = (
            load_file(tmp_path / name / "checkpoints" / str(steps) / f"{part}.safetensors")
            for name in ("straight", "broken")
        )
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
