"""Batch norm over two processes equals batch norm over the whole batch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runtime.distributed.normed import data, gradients, made
from tests.runtime.distributed.train_penalised import train_penalised

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_two_processes_on_halves_equal_one_on_the_whole(tmp_path: Any) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).parent / "two_halves.py"
    ranks = [
        subprocess.Popen([sys.executable, script, str(rank), tmp_path / "store", tmp_path / "two.pt"], env=environment)
        for rank in range(2)
    ]
    whole = made()
    expected = gradients(whole, data())
    expected |= {f"buffer {name}": buffer for name, buffer in whole.named_buffers()}
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    found = torch.load(tmp_path / "two.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.slow
def test_training_with_penalties_is_the_same_on_two_processes(tmp_path: Any) -> None:
    script = Path(__file__).parent / "train_penalised.py"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    two = subprocess.Popen([sys.executable, *launcher, script, tmp_path / "two.pt"], env=environment)
    expected, _ = train_penalised()
    assert two.wait(timeout=240) == 0
    found = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, tensor in expected.items():
        limit = 1e-6 if name == "loss" else 1e-10  # losses are logged in float32
        torch.testing.assert_close(found[name], tensor.detach(), rtol=limit, atol=limit, msg=name)
