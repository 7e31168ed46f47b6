"""A training checkpoint of the NVAE release becomes a run; nothing in it is executed."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hvdsl.cli.main import main
from hvdsl.importers import WeightsError, read_weights
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.weights import load_weights
from tests.golden.nvae_recorded import model, published, spec

NAME = "f_vanilla_1group"


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", "executed"],)


class System:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def checkpoint(path: Path, *, legacy: bool = False, **more: object) -> Path:
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
    torch.save(entries | more, path, _use_new_zipfile_serialization=not legacy)
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


@pytest.mark.parametrize("legacy", [False, True])
def test_anything_but_plain_values_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint(tmp_path / "checkpoint.pt", legacy=legacy, args=Hostile())
    with pytest.raises(WeightsError, match=r"it asks for `\w+\.check_call`, and nothing but tensors"):
        read_weights(path, "state_dict")
    path = checkpoint(tmp_path / "checkpoint.pt", legacy=legacy, args=System())
    with pytest.raises(WeightsError, match=r"it asks for `\w+\.system`, and nothing but tensors") as refused:
        read_weights(path, "state_dict")
    assert "weights_only" not in str(refused.value)  # torch's advice is to execute the file
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, legacy: bool) -> None:
    path = checkpoint(tmp_path / "checkpoint.pt", legacy=legacy)
    whole, dice = path.read_bytes(), random.Random(0)
    damaged = [whole[: len(whole) * part // 100] for part in (0, 10, 50, 99)]
    for _ in range(60):  # in the pickle, where damage is an instruction of another kind
        place = dice.randrange(min(4_000, len(whole)))
        damaged.append(whole[:place] + bytes([dice.randrange(256)]) + whole[place + 1 :])
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            read_weights(path, "state_dict")
        except WeightsError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused >= 20


def test_sizes_that_are_only_claimed_take_no_memory(tmp_path: Path) -> None:
    path, bomb = checkpoint(tmp_path / "checkpoint.pt"), tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, bytes(10_000_000) if name.endswith("/data/0") else whole.read(name))
    with pytest.raises(WeightsError, match=r"bytes long and says that it holds 10,\d+,\d+$"):
        read_weights(bomb, "state_dict")
    tensor = torch.zeros(4).as_strided((1 << 20, 1 << 20), (0, 0))  # four numbers, read as 4 TB
    torch.save({"state_dict": dict.fromkeys(published(NAME), tensor)}, path)
    assert main(["import", "nvidia-nvae", str(path), "--spec", str(spec(NAME)), "--out", str(tmp_path / "run")]) == 1
    assert not (tmp_path / "run").exists()


def test_another_models_weights_are_refused_by_name(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "checkpoint.pt")
    wrong = str(spec("b"))
    assert main(["import", "nvidia-nvae", str(path), "--spec", wrong, "--out", str(tmp_path / "run")]) != 0
