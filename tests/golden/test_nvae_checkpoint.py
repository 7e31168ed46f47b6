"""A training checkpoint of the NVAE release becomes a run; nothing in it is executed."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hvdsl.cli.main import main
from hvdsl.importers import WeightsError, read_weights
from hvdsl.runtime.training.run import Run
from hvdsl.runtime.training.weights import load_weights
from tests.golden.nvae_recorded import model, published, spec

NAME = "f_vanilla_1group"


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", "executed"],)


def checkpoint(path: Path, **more: object) -> Path:
    """As the release writes it: other entries beside the tensors, and second names of some."""
    state: Mapping[str, Tensor] = published(NAME)
    aliases = {
        key.removesuffix("weight") + "weight_normalized": value
        for key, value in state.items()
        if key.endswith(".weight") and value.dim() == 4 and f"{key.removesuffix('weight')}log_weight_norm" not in state
    }
    counts = {"post_process.0._ops.0.conv.1.bn.num_batches_tracked": torch.tensor(7)}
    entries = {
        "epoch": 3,
        "state_dict": {**state, **aliases, **counts},
        "optimizer": {"state": {0: {"step": 5, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.01}]},
        "args": argparse.Namespace(dataset="cifar10", arch_instance="res_mbconv"),
        "arch_instance": {"normal_enc": ["res_bnswish", "res_bnswish"]},
        "grad_scalar": {"scale": 1024.0},
    }
    torch.save(entries | more, path)
    return path


def test_a_checkpoint_becomes_a_run(tmp_path: Path) -> None:
    path, run = checkpoint(tmp_path / "checkpoint.pt"), tmp_path / "run"
    assert main(["import", "nvidia-nvae", str(path), "--spec", str(spec(NAME)), "--out", str(run)]) == 0
    built = model(NAME)
    wanted = {key: value.clone() for key, value in built.state_dict().items()}
    for parameter in built.parameters():
        torch.nn.init.zeros_(parameter)
    load_weights(built, Run(run))
    for key, value in built.state_dict().items():
        assert value.equal(wanted[key]), key


def test_anything_but_plain_values_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint(tmp_path / "checkpoint.pt", args=Hostile())
    with pytest.raises(WeightsError, match=r"it asks for `\w+\.check_call`"):
        read_weights(path, "state_dict")
    assert not (tmp_path / "executed").exists()


def test_another_models_weights_are_refused_by_name(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "checkpoint.pt")
    wrong = str(spec("b"))
    assert main(["import", "nvidia-nvae", str(path), "--spec", wrong, "--out", str(tmp_path / "run")]) != 0
