"""Whether processes hold the same numbers."""

from __future__ import annotations

import json

import pytest
import torch

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.training.step.processes import check_replicas


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
