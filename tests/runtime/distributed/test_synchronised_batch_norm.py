"""Batch norm over two processes equals batch norm over the whole batch."""

from pathlib import Path

import pytest
import torch

from tests.runtime.distributed.normed import data, gradients, gradients_of_half, made
from tests.runtime.distributed.train_penalised import penalised_of_two, train_penalised
from tests.runtime.forked import ranks


@pytest.mark.slow
def test_two_processes_on_halves_equal_one_on_the_whole(tmp_path: Path) -> None:
    both = ranks(tmp_path, gradients_of_half, tmp_path / "two.pt")
    whole = made()
    expected = gradients(whole, data())
    expected |= {f"buffer {name}": buffer for name, buffer in whole.named_buffers()}
    outputs = [rank.communicate() for rank in both]
    assert [rank.returncode for rank in both] == [0, 0], outputs
    of_two = torch.load(tmp_path / "two.pt", weights_only=True)
    assert of_two.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(of_two[name], tensor, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.slow
def test_training_with_penalties_is_the_same_on_two_processes(tmp_path: Path) -> None:
    both = ranks(tmp_path, penalised_of_two, tmp_path / "two.pt")
    expected, _ = train_penalised()
    outputs = [rank.communicate() for rank in both]
    assert [rank.returncode for rank in both] == [0, 0], outputs
    of_two = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, tensor in expected.items():
        limit = 1e-6 if name == "loss" else 1e-10  # losses are logged in float32
        torch.testing.assert_close(of_two[name], tensor.detach(), rtol=limit, atol=limit, msg=name)
