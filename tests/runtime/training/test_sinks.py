"""Where measurements and pictures go beside the run folder."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from hvdsl.compiler.setting_words import Duration
from hvdsl.errors import UsageError
from hvdsl.runtime.inference.watch import watch
from hvdsl.runtime.training import sinks
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.sinks import Sink, SinkRun, WeightsAndBiases, find_sinks
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, settings, tiny


class Recorder(Sink):
    """Remembers all that it hears."""

    def __init__(self, run: SinkRun | None = None) -> None:
        self.run = run
        self.records: list[tuple[str, int, Mapping[str, Any]]] = []
        self.pictures: list[tuple[str, int, tuple[int, int]]] = []
        self.closed = 0

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        self.records.append((event, step, values))

    def picture(self, name: str, step: int, picture: Image.Image) -> None:
        self.pictures.append((name, step, picture.size))

    def close(self) -> None:
        self.closed += 1


class Failing(Sink):
    def __init__(self, run: SinkRun | None = None) -> None:
        self.heard = 0

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        self.heard += 1
        raise ConnectionError("no route\nto host")


def train(folder: Path, *wanted: str | Sink, console: Any = None, steps: int = 4) -> Trainer:
    chosen = settings(steps=steps, evaluate_every=Duration(n=2), sample_every=Duration(n=4))
    trainer = Trainer(tiny(), chosen, Blobs(20), run=Run.create(folder, {}), sinks=wanted, console=console)
    watch(trainer, Blobs(9))
    trainer.fit()
    return trainer


def offer(monkeypatch: pytest.MonkeyPatch, **offered: Any) -> None:
    """As another package would, by its entry points."""

    class Entry:
        def __init__(self, name: str, value: Any) -> None:
            self.name, self.load = name, lambda: value

    monkeypatch.setattr(sinks, "entry_points", lambda group: [Entry(n, v) for n, v in offered.items()])


def test_an_object_of_ones_own_hears_what_the_log_has(tmp_path: Path) -> None:
    own = Recorder()
    run = train(tmp_path / "run", own).run
    assert run is not None
    logged = [(r.pop("event"), r.pop("step"), r) for r in run.metrics()]
    assert logged == [(event, step, dict(values)) for event, step, values in own.records]
    assert [(name, step) for name, step, _ in own.pictures] == [
        ("rate_per_group", 2), ("rate_per_group", 4), ("samples", 4), ("reconstructions", 4)
    ]  # fmt: skip
    assert own.closed == 1
    assert sorted(p.name for p in run.pictures.iterdir()) == [
        "rate_per_group.png", "reconstructions-4.png", "samples-4.png"
    ]  # fmt: skip


def test_a_sink_of_another_package_is_opened_by_name_and_told_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Recorder] = []
    offer(monkeypatch, lab=lambda run: opened.append(Recorder(run)) or opened[-1])
    train(tmp_path / "run", "lab")
    (sink,) = opened
    assert sink.run is not None
    assert sink.run.groups == ("z 2x4x4", "z 2x4x4", "z 2x8x8")
    assert sink.run.settings["train"]["batch"] == 8
    assert (sink.run.folder, sink.run.step, sink.closed) == (tmp_path / "run", 0, 1)


def test_a_named_sink_that_fails_is_told_of_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    failing = Failing()
    offer(monkeypatch, lab=lambda run: failing, gone=lambda run: 1 / 0)
    trainer = train(tmp_path / "run", "lab", "gone", console=Console(width=200))
    assert trainer.optimization.step_number == 4
    assert failing.heard == 1
    out = capsys.readouterr().out
    assert out.count("the sink `lab` is left out from here on, since it failed: ConnectionError: no route to host") == 1
    assert "the sink `gone` is left out from here on, since it failed: ZeroDivisionError: division by zero" in out


def test_what_an_object_of_ones_own_raises_ends_training(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="no route"):
        train(tmp_path / "run", Failing())


def test_a_sink_that_there_is_not_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, lab=Recorder)
    with pytest.raises(UsageError, match=r"no sink `mlflow`; there are lab, none, tensorboard, wandb$"):
        find_sinks(["mlflow"])
    with pytest.raises(UsageError, match="`none` means no sink at all"):
        find_sinks(["none", "lab"])
    assert find_sinks(["none"]) == sinks.Sinks()
    monkeypatch.setattr(sinks, "installed", lambda module: False)
    with pytest.raises(UsageError, match=r"the sink `wandb` is not installed: `pip install 'hvdsl\[wandb\]'`"):
        find_sinks(["wandb"])
    assert "pip install 'hvdsl[tensorboard]'" in find_sinks(None).note


@pytest.mark.skipif(not sinks.installed("tensorboard"), reason="TensorBoard is not installed")
def test_tensorboard_has_curves_of_each_group_and_pictures(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        train(tmp_path / "run", "tensorboard")
        events = EventAccumulator(str(tmp_path / "run" / "events")).Reload()
    tags = events.Tags()
    assert {"train/bits_per_dim", "validation/bits_per_dim", "train/gradient_norm"} <= set(tags["scalars"])
    groups = [tag for tag in tags["scalars"] if tag.startswith("train_rate_per_group_nats_per_image/")]
    assert [tag.rpartition("/")[2] for tag in groups] == ["000_z_2x4x4", "001_z_2x4x4", "002_z_2x8x8"]
    assert {"samples", "reconstructions", "rate_per_group"} <= set(tags["images"])
    rows = [r for r in Run.open(tmp_path / "run").metrics() if r["event"] == "train"]
    curve = [(e.step, pytest.approx(e.value)) for e in events.Scalars(groups[2])]
    assert curve == [(r["step"], r["rate_per_group_nats_per_image"][2]) for r in rows]


class StandIn(ModuleType):
    """What this package uses of Weights & Biases, with the arguments that the real one takes."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.begun: dict[str, Any] = {}
        self.metrics: list[tuple[str, str | None]] = []
        self.logged: list[dict[str, Any]] = []
        self.ended = 0

    def init(self, *, project: str, name: str, id: str, resume: str, dir: str, config: dict[str, Any]) -> StandIn:
        self.begun = {"project": project, "name": name, "id": id, "resume": resume, "dir": dir, "config": config}
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def log(self, data: dict[str, Any]) -> None:
        self.logged.append(data)

    def finish(self) -> None:
        self.ended += 1

    def Image(self, picture: Image.Image) -> str:  # noqa: N802  # its name
        return f"{picture.width}x{picture.height}"


def test_weights_and_biases_hears_of_all_and_a_resumed_run_goes_on_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_PROJECT", "tests")
    train(tmp_path / "run", "wandb")
    assert (wandb.begun["project"], wandb.begun["name"], wandb.begun["resume"]) == ("tests", "run", "allow")
    assert wandb.begun["dir"] == str(tmp_path / "run" / "events") and wandb.begun["config"]["train"]["batch"]
    assert wandb.metrics == [("step", None), ("*", "step")] and wandb.ended == 1
    rows = [r for r in Run.open(tmp_path / "run").metrics() if r["event"] == "train"]
    heard = [line for line in wandb.logged if "train/bits_per_dim" in line]
    for row, line in zip(rows, heard, strict=True):
        assert line["step"] == row["step"] and line["train/bits_per_dim"] == row["bits_per_dim"]
        rates = [line[f"train/rate_per_group_nats_per_image/{group:03d}"] for group in range(3)]
        assert rates == row["rate_per_group_nats_per_image"]
    pictures = {name for line in wandb.logged for name in line if name.startswith("pictures/")}
    assert pictures == {"pictures/samples", "pictures/reconstructions", "pictures/rate_per_group"}
    first = wandb.begun["id"]
    WeightsAndBiases(SinkRun(tmp_path / "run", "", {}, (), 4))
    assert wandb.begun["id"] == first


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="Weights & Biases is not installed")
def test_weights_and_biases_writes_a_run_that_can_be_sent_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(tmp_path / "run", "wandb")
    importlib.import_module("wandb").teardown()  # its own process ends, and has written all
    (folder,) = (tmp_path / "run" / "events" / "wandb").glob("offline-run-*")
    (transaction,) = folder.glob("*.wandb")
    content = transaction.read_bytes()
    for name in ("train/bits_per_dim", "train/rate_per_group_nats_per_image/002", "validation/bits_per_dim"):
        assert name.encode() in content
    pictures = [p.name for p in (folder / "files" / "media" / "images" / "pictures").iterdir()]
    assert any(name.startswith("samples") for name in pictures)


def test_a_record_is_read_whatever_else_is_in_the_file(tmp_path: Path) -> None:
    from hvdsl.runtime.training.folder.logs import LONGEST_LINE, metrics_records

    good = json.dumps({"event": "train", "step": 1})
    long = json.dumps({"event": "train", "step": 2, "x": "y" * LONGEST_LINE})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f"{good}\n{'[' * 100_000}\n{long}\n\xff\n{{}}\n{good}".encode("latin-1"))
    assert list(metrics_records(path)) == [json.loads(good), None, None, None, None, json.loads(good)]
