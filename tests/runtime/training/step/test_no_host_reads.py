"""A step never waits for its device: on `meta`, where tensors have no values, any read of one is an error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import hvdsl
from benchmarks.launches import on_meta
from hvdsl.compiler.settings import ModelSettings
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import JointNoise
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.latents.noise import noise_layout
from hvdsl.runtime.objective import spectral
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.quantizers.codebook import Codebook
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from hvdsl.runtime.training.tasks import ImageTask
from tests.cli.conftest import TINY
from tests.runtime.training.tiny_hierarchy import settings as tiny_settings
from tests.runtime.training.tiny_hierarchy import tiny

BATCH = 2
FAMILIES: dict[str, dict[str, str]] = {
    "vdvae_digits": {"width": "8", "zdim": "2"},
    "nvae_digits": {"c": "8", "zdim": "2"},
    "vqvae2_photos": {"ch": "8", "inner": "4", "codes": "16", "dim": "4"},
    "lvae_mnist": {"train.steps": "100", "train.skip_above": "100"},
}
OPTIMIZERS = [
    "sgd(lr = 0.1, momentum = 0.9)",
    "adamw(lr = 1e-3, weight_decay = 0.1)",
    "adamax(lr = 1e-3, weight_decay = 0.1)",
    "adamax(lr = 1e-3, bias_correction = no)",
]


def built(spec: str | Source, **overrides: str) -> tuple[nn.Module, ModelSettings]:
    """A narrow model in training whose codebooks have begun, which a first step on the host does."""
    narrow = FAMILIES[spec] if isinstance(spec, str) else {}
    compiled = hvdsl.compile(spec, overrides=narrow | {"train.batch": str(BATCH)} | overrides)
    model = compiled.build().train()
    for module in model.modules():
        if isinstance(module, Codebook):
            module._begun = True
    return model, compiled.model.settings


def batch(model: nn.Module, settings: ModelSettings, device: str) -> ModelBatch:
    v = torch.zeros(BATCH, *settings.data.shape, device=device)
    vae = as_vae(model)
    noise = JointNoise(0, range(BATCH), layout=noise_layout(tuple(vae.LATENTS)), device=device)
    if device == "meta":
        layout = noise.layout
        noise.hold({k: torch.empty(BATCH, n, device=device) for k, n in layout.totals.items()})
    return ModelBatch(vae.input(v), vae.target(v), noise)


def optimization(model: nn.Module, settings: ModelSettings) -> Optimization[ModelBatch]:
    assert settings.train is not None
    return ImageTask(settings.objective).optimization(model, settings.train, Clock(10, 100), World())


@pytest.fixture
def fused_on_meta() -> Iterator[None]:
    """torch's fused updates, which have no form without values: there they take their tensors and do nothing."""
    with on_meta():
        yield


class Elsewhere(TorchDispatchMode):
    """Names the operations whose result is a tensor of the host: what is captured could not copy it to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and t.device.type == "cpu" for t in tree_leaves(result)):
            self.operations.append(str(function))
        return result


def test_a_read_on_meta_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        torch.zeros((), device="meta").item()


@pytest.mark.usefixtures("fused_on_meta")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_of_each_family_reads_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "FIRST_ITERATIONS", 1)  # one of them reads what forty do
    model, settings = built(name)
    updates = optimization(model.to("meta"), settings)
    updates.launch([batch(model, settings, "meta")])
    part = batch(model, settings, "meta")
    with Elsewhere() as elsewhere:
        updates.launch([part])
    assert not elsewhere.operations
    assert updates.step_number == 2


@pytest.mark.usefixtures("fused_on_meta")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_of_each_optimizer_reads_nothing(optimizer: str) -> None:
    model, settings = built(Source("tiny.hv", TINY), **{"train.optimizer": optimizer, "train.clip_each": "1"})
    updates = optimization(model.to("meta"), settings)
    updates.launch([batch(model, settings, "meta")] * 2)
    assert updates.step_number == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device, whose waits torch can count")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_on_an_accelerator_waits_for_nothing(name: str) -> None:
    model, settings = built(name)
    updates = optimization(model.cuda(), settings)
    updates.step([batch(model, settings, "cuda")])  # what is made once is made
    ready = batch(model, settings, "cuda")
    ready.noise.draw()  # type: ignore[attr-defined]  # it is joint noise
    torch.cuda.set_sync_debug_mode("error")
    try:
        updates.launch([ready])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [result.step for result in updates.results()] == [1]


@pytest.mark.parametrize("name", ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_loss_and_backward_are_one_graph(name: str) -> None:
    """What can be traced without a break can be captured: no value decides what is computed."""
    model, settings = (tiny(norm=True).train(), tiny_settings()) if name == "tiny" else built(name)
    objective = Objective(settings.objective, Clock(10, 100).steps)
    part = batch(model, settings, "cpu")
    part.noise.draw()  # type: ignore[attr-defined]  # it is joint noise

    def loss(x: Tensor, target: Tensor) -> Tensor:
        return objective(model, ModelBatch(x, target, part.noise), 0)[0]

    expected = loss(part.x, part.target)
    expected.backward()  # type: ignore[no-untyped-call]  # torch's own
    gradients = [p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    traced = torch.compile(loss, fullgraph=True, backend="eager")(part.x, part.target)
    traced.backward()
    torch.testing.assert_close(traced, expected)
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient)
