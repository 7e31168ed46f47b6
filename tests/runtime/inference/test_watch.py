"""What a run shows of itself while it trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from hvdsl.compiler.setting_words import Duration
from hvdsl.errors import HvdslError
from hvdsl.runtime.inference.evaluate import evaluate
from hvdsl.runtime.inference.watch import long_validation, watch
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.folder.weights import load_weights
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


def watched(folder: Path) -> Trainer:
    trainer = Trainer(
        tiny(),
        settings(steps=5, evaluate_every=Duration(n=2), sample_every=Duration(n=3)),
        Blobs(20),
        run=Run.create(folder, {}),
    )
    watch(trainer, Blobs(9))
    return trainer


def test_evaluations_and_pictures_come_when_the_spec_says_and_at_the_end(tmp_path: Path) -> None:
    trainer = watched(tmp_path / "run")
    trainer.fit()
    run = Run.open(tmp_path / "run")
    records = [r for r in run.metrics() if r["event"] == "validation"]
    assert [r["step"] for r in records] == [2, 4, 5]
    assert all(r["images"] == 9 and len(r["rate_per_group_nats_per_image"]) == 3 for r in records)
    names = sorted(p.name for p in run.pictures.iterdir())
    assert names == [
        "rate_per_group.png",
        "reconstructions-3.png",
        "reconstructions-5.png",
        "samples-3.png",
        "samples-5.png",
    ]
    assert Image.open(run.pictures / "samples-5.png").size == (6 * 50 + 2, 6 * 50 + 2)


def test_a_validation_that_takes_as_long_as_ten_epochs_is_announced() -> None:
    assert long_validation(samples=1, images=6_000, epoch=54_000) is None
    assert long_validation(samples=89, images=6_000, epoch=54_000) is None
    sentence = long_validation(samples=1_000, images=6_000, epoch=54_000)
    assert sentence is not None
    assert sentence.startswith("each validation takes 6,000,000 passes through the model (6,000 images, 1,000 samples")
    assert "as many as 111 epochs" in sentence
    assert "--set evaluate.samples=1" in sentence


def test_watching_does_not_change_what_is_learned(tmp_path: Path) -> None:
    trainer, plain = watched(tmp_path / "run"), tiny()
    trainer.fit()
    Trainer(plain, settings(steps=5), Blobs(20)).fit()
    for name, p in plain.state_dict().items():
        assert torch.equal(p, trainer.model.state_dict()[name])


def test_the_averaged_weights_are_evaluated_and_come_back_from_the_run(tmp_path: Path) -> None:
    trainer = watched(tmp_path / "run")
    trainer.fit()
    run, model = Run.open(tmp_path / "run"), tiny(seed=4)
    assert load_weights(model, run).step == 5
    logged = [r for r in run.metrics() if r["event"] == "validation"][-1]
    assert evaluate(model, Blobs(9)).bits_per_dim == pytest.approx(logged["bits_per_dim"], rel=1e-6)
    load_weights(model, run, use_ema=False)
    assert torch.equal(model.encoder.r8.conv[0].weight, trainer.model.encoder.r8.conv[0].weight)


def test_a_run_without_checkpoints_has_no_weights(tmp_path: Path) -> None:
    with pytest.raises(HvdslError, match="no complete checkpoint: train it first"):
        load_weights(tiny(), Run.create(tmp_path / "run", {}))
