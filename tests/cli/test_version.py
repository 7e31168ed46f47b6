"""`hvdsl --version` says what a report of a bug needs."""

from __future__ import annotations

import torch

import hvdsl as package

from .conftest import Hvdsl


def test_it_says_the_versions_and_the_device(hvdsl: Hvdsl) -> None:
    done = hvdsl("--version")
    assert done.code == 0
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = "cpu" if accelerator is None else accelerator.type
    assert done.out.startswith(f"hvdsl {package.__version__}, torch {torch.__version__}, device {device}")
