"""What training says of its fast paths, and that evaluation is exact whatever a model was trained in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from rich.console import Console

from hvdsl.runtime.inference import inference as module
from hvdsl.runtime.training.step.fast_paths import default_level, fast_paths
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def test_training_begins_by_telling_what_is_on_and_why_the_rest_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    Trainer(tiny(), settings(steps=1), Blobs(20), console=Console(width=2000), level=1, workers=2).fit()
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fast paths: ")]
    on, off = line.removeprefix("fast paths: ").split("; off: ")
    assert on.split(", ")[:2] == ["-O1", "fp32"] and "2 threads reading ahead" in on
    assert "graphs (not measured yet, `--graphs on`)" in off and "compiled recipes (no gain on a CPU, `-O2`)" in off


def test_a_line_for_an_accelerator() -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1)], fused=True)
    line = fast_paths(torch.device("cuda"), level=2, precision="bf16", graphs=None, optimizer=optimizer, workers=1)
    assert line == ("fast paths: -O2, bf16, fused AdamW, channels-last, graphs, 1 thread reading ahead; off: none")


def test_the_default_level_is_a_table_by_kind_of_device() -> None:
    assert [default_level(torch.device(kind)) for kind in ("cpu", "cuda", "mps")] == [1, 1, 1]


def test_what_is_measured_is_in_exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    policies: list[Any] = []

    @contextmanager
    def recorded(precision: str, device: torch.device) -> Iterator[None]:
        policies.append((precision, device.type, "begin"))
        yield
        policies.append((precision, device.type, "end"))

    monkeypatch.setattr(module, "arithmetic", recorded)
    with module.inference(tiny()):
        assert policies == [("fp32", "cpu", "begin")]
    assert policies[-1] == ("fp32", "cpu", "end")
