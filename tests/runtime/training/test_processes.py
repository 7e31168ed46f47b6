"""Several processes, and processes that die."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.step.processes import check_replicas
from tests.runtime.training.train_tiny import train_tiny

SCRIPT = Path(__file__).parent / "train_tiny.py"
ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*arguments: object, before: Callable[[], None] | None = None, ranks: int = 1) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launcher, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=before
    )


def parts(folder: Path) -> dict[str, dict[str, Tensor]]:
    checkpoint = Run.open(folder).checkpoints().latest()
    assert checkpoint is not None
    return {name: checkpoint.load(name) for name in ("model", "optimizer", "ema")}


def same(a: dict[str, dict[str, Tensor]], b: dict[str, dict[str, Tensor]]) -> bool:
    return all(torch.equal(a[part][name], b[part][name]) for part in a for name in a[part])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What runs here and what runs in another process must agree bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_two_ranks_on_half_batches_in_two_parts_equal_one_rank_on_the_whole(tmp_path: Path) -> None:
    together = start(tmp_path / "two", 5, 0.0, 2, ranks=2)
    bound = train_tiny(tmp_path / "one", 5, 0.0)
    out, err = together.communicate(timeout=240)
    assert together.returncode == 0, err
    assert "find_unused_parameters" not in err  # nobody can act on such a warning
    images_by_two, bound_by_two = out.split()[-2:]
    one, two = parts(tmp_path / "one"), parts(tmp_path / "two")
    for name in one["model"]:
        assert torch.allclose(one["model"][name], two["model"][name], rtol=0, atol=1e-12), name
    assert (bound.images, images_by_two) == (7, "7")
    assert float(bound_by_two) == pytest.approx(bound.nats_per_dim, rel=1e-12)
    log_one, log_two = Run.open(tmp_path / "one").metrics(), Run.open(tmp_path / "two").metrics()
    assert [r["step"] for r in log_two] == [r["step"] for r in log_one]
    for a, b in zip(log_one, log_two, strict=True):
        assert b["objective"] == pytest.approx(a["objective"], rel=1e-6)  # logged in float32


@pytest.mark.slow
def test_a_run_killed_at_any_instant_resumes_as_if_nothing_had_happened(tmp_path: Path) -> None:
    moments = random.Random(7)
    for _ in range(2):
        process = start(tmp_path / "killed", 12, 0.2, 1)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
    train_tiny(tmp_path / "killed", 12, 0.2)
    train_tiny(tmp_path / "straight", 12, 0.2)
    assert same(parts(tmp_path / "straight"), parts(tmp_path / "killed"))
    logs = [[(r["step"], r["objective"]) for r in Run.open(tmp_path / n).metrics()] for n in ("straight", "killed")]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_a_file_that_may_not_grow_leaves_the_run_resumable(tmp_path: Path) -> None:
    train_tiny(tmp_path / "full", 3, 0.0)

    def nearly_full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write fails as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    process = start(tmp_path / "full", 6, 0.0, 1, before=nearly_full)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "no space for the checkpoint of step 4" in err
    assert "the checkpoint of step 3 is intact: free some space and resume" in err
    train_tiny(tmp_path / "full", 6, 0.0)
    train_tiny(tmp_path / "straight", 6, 0.0)
    assert same(parts(tmp_path / "straight"), parts(tmp_path / "full"))


def test_a_tensor_that_differs_on_one_rank_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"model": {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.bool)}, "ema": {"a": torch.ones(()).half()}}
    said: list[str] = []
    monkeypatch.setattr(World, "texts", lambda self, text: said.append(text) or [text, text])
    check_replicas(parts, World(0, 2), 7)
    sums = json.loads(said[0])
    monkeypatch.setattr(World, "texts", lambda self, text: [text, json.dumps([*sums[:2], sums[2] + 1])])
    with pytest.raises(HvdslError, match=r"rank 1 does not hold .* rank 0 after 7 steps: `model: b` differs"):
        check_replicas(parts, World(0, 2), 7)
    check_replicas(parts, World(), 7)  # alone there is nobody to compare with
