"""Several processes, and processes that die."""

from __future__ import annotations

import json
import random
import resource
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.step.processes import check_replicas
from tests.runtime.forked import Forked, ranks
from tests.runtime.training.train_tiny import train_tiny


def parts(folder: Path) -> dict[str, dict[str, Tensor]]:
    checkpoint = Run.open(folder).checkpoints().latest()
    assert checkpoint is not None
    return {name: checkpoint.load(name) for name in ("model", "optimizer", "ema")}


def same(a: dict[str, dict[str, Tensor]], b: dict[str, dict[str, Tensor]]) -> bool:
    return all(torch.equal(a[part][name], b[part][name]) for part in a for name in a[part])


def is_ready(process: Forked) -> bool:
    return process.printed()[0] == "ready\n"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What runs here and what runs in another process must agree bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_two_ranks_on_half_batches_in_two_parts_equal_one_rank_on_the_whole(tmp_path: Path) -> None:
    both = ranks(tmp_path, train_tiny, tmp_path / "two", 5, 0.0, 2)
    bound = train_tiny(tmp_path / "one", 5, 0.0)
    outputs = [rank.communicate() for rank in both]
    assert [rank.returncode for rank in both] == [0, 0], outputs
    assert "find_unused_parameters" not in outputs[0][1] + outputs[1][1]  # nobody can act on such a warning
    images_by_two, bound_by_two = outputs[0][0].split()[-2:]
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
        process = Forked(tmp_path, train_tiny, tmp_path / "killed", 12, 0.2, 1)
        process.wait_for(partial(is_ready, process))
        time.sleep(moments.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    train_tiny(tmp_path / "killed", 12, 0.2)
    train_tiny(tmp_path / "straight", 12, 0.2)
    assert same(parts(tmp_path / "straight"), parts(tmp_path / "killed"))
    logs = [[(r["step"], r["objective"]) for r in Run.open(tmp_path / n).metrics()] for n in ("straight", "killed")]
    assert logs[0] == logs[1]


def train_on_a_full_disk(folder: Path, steps: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails as it does on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
    train_tiny(folder, steps, 0.0)


@pytest.mark.slow
def test_a_file_that_may_not_grow_leaves_the_run_resumable(tmp_path: Path) -> None:
    train_tiny(tmp_path / "full", 3, 0.0)
    process = Forked(tmp_path, train_on_a_full_disk, tmp_path / "full", 6)
    _, err = process.communicate()
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
