"""Steps in static tensors, as CUDA graphs need them: a replay here is the same step again on those."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from hvdsl.compiler.setting_words import BySize, Duration, Ramp
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.runtime.latents.noise import set_noise_scheme
from hvdsl.runtime.training.folder.run import Run
from hvdsl.runtime.training.step.graphs import WARM_UP, capture
from hvdsl.runtime.training.step.optimization import Optimization
from hvdsl.runtime.training.trainer import Trainer
from tests.runtime.training.tiny_hierarchy import Blobs, TinyHierarchy, settings, tiny

STEPS = 8
SCHEDULED = ObjectiveSettings(
    unit="nats_per_image",
    beta=Ramp(length=Duration(n=6), floor=0.1),
    balance=BySize(weight="square"),
    spectral=1e-2,
    batch_norm_gamma=1e-2,
)


def trainer(model: TinyHierarchy, **train: Any) -> Trainer:
    chosen = settings(steps=STEPS, skip_above=1e4, **train).model_copy(update={"objective": SCHEDULED})
    return Trainer(model, chosen, Blobs(40))


class Recorder:
    """Counts what is captured, and replays by running it again."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, run: Callable[[], Any]) -> Callable[[], Any]:
        self.captured += 1

        def replay() -> Any:
            self.replayed += 1
            return run()

        return replay


@pytest.mark.parametrize("train", [{}, {"accumulate": 2}, {"dropout": 0.2}])
def test_replayed_steps_are_those_that_are_run(train: dict[str, Any]) -> None:
    dropout = train.pop("dropout", 0.0)
    plain, replayed = tiny(norm=True, dropout=dropout), tiny(norm=True, dropout=dropout)
    trainer(plain, **train).fit()
    recorder, training = Recorder(), trainer(replayed, **train)
    assert training.optimization.use_graphs(recorder) is None
    training.fit()
    # Balancing ends with the ramp, and with it the operations change: after six steps that is a second phase.
    assert (recorder.captured, recorder.replayed) == (1, 6 - WARM_UP)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, replayed.state_dict()[name]), name


def test_a_step_that_cannot_be_captured_is_run() -> None:
    def broken(run: Callable[[], Any]) -> Callable[[], Any]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    plain, refused = tiny(), tiny()
    training = trainer_of(refused)
    assert training.optimization.use_graphs(broken) is None
    training.fit()
    trainer_of(plain).fit()
    captured = training.optimization._captured
    assert captured is not None
    assert captured.refused == "a step could not be captured: operation not permitted when stream is capturing"
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, refused.state_dict()[name]), name


def test_a_replay_that_gives_something_else_is_not_trusted() -> None:
    def stale(run: Callable[[], Any]) -> Callable[[], Any]:
        def replay() -> Any:
            numbers, terms = run()
            return numbers * 1.01, terms

        return replay

    plain, doubted = tiny(norm=True, dropout=0.2), tiny(norm=True, dropout=0.2)
    training = trainer(doubted)
    assert training.optimization.use_graphs(stale) is None
    training.fit()
    trainer(plain).fit()
    refusal = training.optimization.refused_graphs()
    assert refusal is None  # the loop has said it
    captured = training.optimization._captured
    assert captured is not None
    assert captured.refused is not None
    assert captured.refused.startswith("a replayed step is not the step: its loss is ")
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, doubted.state_dict()[name]), name


def test_a_failed_capture_leaves_nothing_to_the_step_that_is_run_instead(capsys: pytest.CaptureFixture[str]) -> None:
    """What is captured computes nothing, so gradients of the attempt hold whatever lay in their memory."""
    plain, refused = tiny(), tiny()
    training = Trainer(refused, settings(), Blobs(20), console=Console(width=200))

    def broken(run: Callable[[], Any]) -> Callable[[], Any]:
        for p in refused.parameters():
            p.grad = torch.full_like(p, torch.nan)
        raise RuntimeError("out of memory")

    assert training.optimization.use_graphs(broken) is None
    training.fit()
    trainer_of(plain).fit()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, refused.state_dict()[name]), name
    assert capsys.readouterr().out.count("a step could not be captured: out of memory") == 1


def trainer_of(model: TinyHierarchy, **train: Any) -> Trainer:
    return Trainer(model, settings(**train), Blobs(20))


def test_a_checkpoint_is_gone_on_from_in_new_tensors(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", {})
    Trainer(tiny(), settings(steps=2), Blobs(20), run=run).fit()
    straight, resumed = tiny(), tiny(seed=9)
    trainer_of(straight).fit()
    training = Trainer(resumed, settings(), Blobs(20), run=run)
    assert training.optimization.use_graphs(Recorder()) is None
    training.resume()
    training.fit()
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_what_cannot_be_a_graph_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    def reason(model: TinyHierarchy, **train: Any) -> str | None:
        updates: Optimization = trainer_of(model, **train).optimization
        return updates.use_graphs(Recorder())

    first = tiny()
    set_noise_scheme(first, 1)
    assert reason(first) == "noise of scheme 1 is drawn on the host"
    assert reason(tiny(), checkpointing="group") == "activation checkpointing keeps random states on the host"
    assert reason(tiny(), precision="fp16") == "fp16 adapts its scale to what a step gave"
    Trainer(tiny(), settings(steps=1), Blobs(20), console=Console(width=200), graphs="on").fit()
    assert "graphs (graphs are of CUDA devices)" in capsys.readouterr().out.replace("\n", " ")


def test_a_failed_capture_gives_stream_and_generator_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch leaves its capturing stream the current one, and the generator captured, where ending a capture fails."""
    state: dict[str, Any] = {"stream": "own", "generator": "own"}

    class Generator:
        def clone_state(self) -> str:
            return f"copy of {state['generator']}"

        def graphsafe_set_state(self, other: str) -> None:
            state["generator"] = other

    @contextmanager
    def failing(graph: object, capture_error_mode: str) -> Iterator[None]:
        state.update(stream="captured", generator="captured")
        yield
        raise RuntimeError("capture was invalidated")

    for name, value in {
        "CUDAGraph": object,
        "current_stream": lambda: state["stream"],
        "set_stream": lambda stream: state.update(stream=stream),
        "current_device": lambda: 0,
        "default_generators": [Generator()],
        "graph": failing,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    with pytest.raises(RuntimeError, match="invalidated"):
        capture(lambda: None)
    assert state == {"stream": "own", "generator": "copy of own"}
