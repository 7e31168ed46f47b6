"""Several processes, and processes that die."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hvdsl.runtime.run import Run

SCRIPT = Path(__file__).parent / "train_tiny.py"
ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*arguments: object, before: Callable[[], None] | None = None, torchrun: int = 0) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"] if torchrun else []
    command = [sys.executable, *launcher, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=before
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def parts(folder: Path) -> dict[str, dict[str, Tensor]]:
    checkpoint = Run.open(folder).checkpoints().latest()
    assert checkpoint is not None
    return {name: checkpoint.load(name) for name in ("model", "optimizer", "ema")}


def same(a: dict[str, dict[str, Tensor]], b: dict[str, dict[str, Tensor]]) -> bool:
    return all(torch.equal(a[part][name], b[part][name]) for part in a for name in a[part])


def test_two_ranks_on_half_batches_equal_one_rank_on_the_whole(tmp_path: Path) -> None:
    alone = start(tmp_path / "one", 5, "adamw", 0.0)
    together = start(tmp_path / "two", 5, "adamw", 0.0, torchrun=2)
    images, bound = finish(alone).split()[-2:]
    images_by_two, bound_by_two = finish(together).split()[-2:]
    one, two = parts(tmp_path / "one"), parts(tmp_path / "two")
    for name in one["model"]:
        assert torch.allclose(one["model"][name], two["model"][name], rtol=0, atol=1e-6), name
    assert (images, images_by_two) == ("7", "7")
    assert float(bound_by_two) == pytest.approx(float(bound), abs=1e-6)
    log_one, log_two = Run.open(tmp_path / "one").metrics(), Run.open(tmp_path / "two").metrics()
    assert [r["step"] for r in log_two] == [r["step"] for r in log_one]
    for a, b in zip(log_one, log_two, strict=True):
        assert b["objective"] == pytest.approx(a["objective"], abs=1e-5)


def test_a_run_killed_at_any_instant_resumes_as_if_nothing_had_happened(tmp_path: Path) -> None:
    straight = start(tmp_path / "straight", 40, "adamw", 0.2)
    moments = random.Random(7)
    finish(straight)
    for _ in range(3):
        process = start(tmp_path / "killed", 40, "adamw", 0.2)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.4))
        process.kill()
        process.communicate()
    finish(start(tmp_path / "killed", 40, "adamw", 0.2))
    assert same(parts(tmp_path / "straight"), parts(tmp_path / "killed"))
    logs = [[(r["step"], r["objective"]) for r in Run.open(tmp_path / n).metrics()] for n in ("straight", "killed")]
    assert logs[0] == logs[1]


def test_a_file_that_may_not_grow_leaves_the_run_resumable(tmp_path: Path) -> None:
    finish(start(tmp_path / "straight", 6, "adamw", 0.0))
    finish(start(tmp_path / "full", 3, "adamw", 0.0))

    def nearly_full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write fails as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    process = start(tmp_path / "full", 6, "adamw", 0.0, before=nearly_full)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "no space for the checkpoint of step 4" in err
    assert "the checkpoint of step 3 is intact: free some space and resume" in err
    finish(start(tmp_path / "full", 6, "adamw", 0.0))
    assert same(parts(tmp_path / "straight"), parts(tmp_path / "full"))
