"""One vocabulary of metric names: what is logged stands in it, with its unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl.compiler.catalogue.objective_terms import TERMS, find_term
from hvdsl.compiler.setting_words import Duration
from hvdsl.runtime.data import open_splits
from hvdsl.runtime.ground.metric_names import METRICS, NONE, UNIT, is_per_group, metric
from hvdsl.runtime.inference.watch import watch
from hvdsl.runtime.training.display import format_values
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.quantizers.test_training import build, spec
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def check(run: Run) -> None:
    records = run.metrics()
    assert records
    for record in records:
        for name, value in record.items():
            if name not in ("event", "step"):
                assert metric(name) is not None, f"`{name}` is not in the vocabulary"
                assert isinstance(value, list) == is_per_group(name)


def test_everything_that_training_and_evaluation_log_is_in_it(tmp_path: Path) -> None:
    chosen = settings(steps=2, evaluate_every=Duration(n=2))
    penalised = chosen.model_copy(update={"objective": chosen.objective.model_copy(update={"spectral": 0.1})})
    trainer = Trainer(tiny(), penalised, Blobs(20), run=Run.create(tmp_path / "run", {}))
    watch(trainer, Blobs(9))
    trainer.fit()
    assert trainer.run is not None
    check(trainer.run)


def test_everything_that_codes_log_is_in_it(tmp_path: Path) -> None:
    model, chosen = build(spec())
    run = Run.create(tmp_path / "run", {})
    Trainer(model, chosen, open_splits(chosen.data).train, run=run).fit()
    check(run)
    assert "code_perplexity_per_group_codes" in run.metrics()[0]


def test_a_name_with_a_unit_ends_with_it() -> None:
    endings = {
        "nats per image": "nats_per_image",
        "nats per dimension": "nats_per_dim",
        "bits per dimension": "bits_per_dim",
        "nats per code": "nats_per_code",
        "images per second": "images_per_second",
        "the objective's": UNIT,
    }
    for m in METRICS.values():
        assert m.name.endswith(endings.get(m.unit, "")), m
        assert m.unit != NONE or not m.name.endswith(tuple(endings.values())), m


@pytest.mark.parametrize("unit", ["nats_per_image", "nats_per_dim"])
def test_a_penalty_is_logged_in_the_objectives_unit(unit: str) -> None:
    entry = metric(f"weighted_spectral_{unit}")
    assert entry is not None
    assert entry.name == f"weighted_spectral_{UNIT}"
    assert find_term(f"weighted_spectral_{unit}") == next(t for t in TERMS if t.name == "spectral")
    assert metric("weighted_of_nothing") is None


def test_a_line_of_progress_is_in_the_vocabularys_order() -> None:
    values = {"images_per_second": 12.0, "skipped_steps": 0, "bits_per_dim": 3.21, "epoch": 1.0, "unknown": 3}
    assert format_values(values) == "bits/dim 3.210  img/s 12"
    assert format_values({"skipped_steps": 2}) == "skipped 2"
    assert format_values({"code_perplexity_per_group_codes": [3.4, 100.0]}) == "perplexity 3, 100"
