"""The loss of a step is a program that `torch.export` gives, and with its gradients one graph of torch's operations."""

from __future__ import annotations

import copy
import operator

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.training.schedule import Clock
from tests.runtime.training.step.test_no_host_reads import FAMILIES, batch, built
from tests.runtime.training.tiny_hierarchy import settings as tiny_settings
from tests.runtime.training.tiny_hierarchy import tiny


class Loss(nn.Module):
    """The loss of a batch as a function of tensors alone: images, targets and all noise that is drawn."""

    def __init__(self, name: str) -> None:
        super().__init__()
        model, settings = (tiny(norm=True).train(), tiny_settings()) if name == "tiny" else built(name)
        self.model = model
        self._objective = Objective(settings.objective, Clock(10, 100).steps)
        self._part = batch(model, settings, "cpu")

    def inputs(self) -> tuple[Tensor, ...]:
        drawn = self._part.noise.draw()  # type: ignore[attr-defined]  # it is joint noise
        return self._part.x, self._part.target, drawn["normal"], drawn["uniform"]

    def forward(self, x: Tensor, target: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        noise = copy.copy(self._part.noise)
        noise.hold({"normal": normal, "uniform": uniform})  # type: ignore[attr-defined]
        return self._objective(self.model, ModelBatch(x, target, noise), 0)[0]


EACH = ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)]


@pytest.mark.parametrize("name", EACH)
def test_the_loss_of_each_family_is_exported(name: str) -> None:
    loss = Loss(name).double()
    inputs = tuple(t.double() for t in loss.inputs())
    program = torch.export.export(copy.deepcopy(loss), inputs, strict=False)
    torch.testing.assert_close(program.module()(*inputs), loss(*inputs), rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", EACH)
def test_the_loss_and_its_gradients_are_one_graph_of_operations(name: str) -> None:
    loss = Loss(name).double()
    inputs = tuple(t.double() for t in loss.inputs())

    def step(*inputs: Tensor) -> list[Tensor]:
        value = loss(*inputs)
        reached = torch.autograd.grad(value, list(loss.parameters()), allow_unused=True)
        return [value, *(gradient for gradient in reached if gradient is not None)]

    expected = step(*inputs)
    graph = make_fx(step)(*inputs)
    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    kinds = {node.target for node in calls if not isinstance(node.target, torch._ops.OpOverload)}
    assert len(calls) > 100 and kinds <= {operator.getitem}
    moved = [t * 0.5 for t in inputs]  # other numbers than those that it was traced with
    torch.testing.assert_close(graph(*inputs), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(graph(*moved), step(*moved), rtol=1e-10, atol=1e-12)
