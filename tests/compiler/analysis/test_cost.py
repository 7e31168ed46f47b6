"""Parameters, multiply-accumulates and memory agree with counting by hand and with torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hvdsl.compiler.analysis.cost import cost, macs
from hvdsl.compiler.analysis.memory import StepMemory, memory
from hvdsl.compiler.graph import Graph, Term
from tests.compiler.analysis.small_graphs import Maker, ladder


def bottleneck_stack(width: int, size: int, blocks: int) -> Graph:
    """Residual bottlenecks of four pre-activated convolutions, as in VDVAE."""
    m = Maker((width, size, size))
    x = m.image()
    with m.within("section", "encoder"), m.within("row", f"r{size}"):
        for i in range(blocks):
            with m.within("recipe", "block", i):
                h = x
                for kernel, out in ((1, width // 4), (3, width // 4), (3, width // 4), (1, width)):
                    h = m.add("conv", m.add("gelu", h), kernel=(kernel, kernel), out=out)
                x = m.add("residual", x, h)
    return m.graph(x)


class Bottlenecks(nn.Module):
    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        mid = width // 4
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(width, mid, 1),
                    nn.Conv2d(mid, mid, 3, padding=1),
                    nn.Conv2d(mid, mid, 3, padding=1),
                    nn.Conv2d(mid, width, 1),
                ]
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for convs in self.blocks:
            h = x
            assert isinstance(convs, nn.ModuleList)
            for conv in convs:
                h = conv(F.gelu(h))
            x = x + h
        return x


def measured_bytes(run: Callable[[], Tensor], parameters: list[Tensor]) -> int:
    """Bytes of distinct storages that autograd keeps, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, int] = {}
    held = []

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return sum(kept.values())


def test_counts_and_memory_agree_with_torch() -> None:
    graph, module = bottleneck_stack(32, 8, 3), Bottlenecks(32, 3)
    x = torch.rand(1, 32, 8, 8)
    with FlopCounterMode(display=False) as counter:
        module(x)
    parameters = list(module.parameters())
    assert cost(graph).parameters == sum(p.numel() for p in parameters) == graph.parameter_count()
    assert 2 * cost(graph).macs == counter.get_total_flops()
    assert memory(graph).saved == pytest.approx(measured_bytes(lambda: module(x), parameters), rel=0.02)


def test_views_keep_the_tensor_that_they_look_at_once() -> None:
    m = Maker((8, 4, 4))
    pieces = m.add("split", m.add("add_number", m.image(), number=1.0), sizes=(2, 6))
    first = m.add("conv", pieces, kernel=(1, 1), out=4)
    second = m.add("conv", type(pieces)(pieces.node, 1), kernel=(1, 1), out=4)
    graph = m.graph(m.add("add", first, second))
    assert memory(graph).saved == 8 * 4 * 4 * 4


def test_checkpointing_saves_memory() -> None:
    shallow, deep = (StepMemory(bottleneck_stack(32, 16, n)) for n in (2, 12))
    least = deep.memory(deep.segments).peak
    assert least < 0.5 * deep.memory().peak
    per_block = (least - shallow.memory(shallow.segments).peak) / 10
    assert per_block == 32 * 16 * 16 * 4  # the stream, once per block


def test_buffers_and_parameters_are_counted_apart() -> None:
    m = Maker((8, 4, 4))
    graph = m.graph(m.add("batch_norm", m.image()))
    assert (cost(graph).parameters, cost(graph).buffers) == (16, 16)


def test_shared_parameters_count_once() -> None:
    m = Maker((8, 4, 4))
    x = m.add("conv", m.image(), kernel=(1, 1), out=8)
    y = m.add("conv", x, kernel=(1, 1), out=8)
    m.nodes[y.node].shared = ("weight",)
    assert cost(m.graph(y)).parameters == 64 + 8 + 8


def test_nearest_code_counts_its_distances() -> None:
    m = Maker((4, 2, 2))
    prior = m.add("codebook", codes=16, dim=4, grid=(2, 2))
    posterior = m.add("nearest_code", m.image())
    z = m.latent("z", prior, posterior)
    graph = m.graph(z)
    assert macs(graph, graph.nodes[z.node]) == 4 * 16 * 4


def test_a_scope_has_a_cost_of_its_own() -> None:
    graph = ladder()
    encoder, decoder = (cost(graph, scope.nodes()) for scope in graph.root.members[1:3])  # type: ignore[union-attr]  # sections
    assert encoder.parameters == 16 * 3 * 9 + 16 + 16 * 16 * 9 + 16
    assert encoder.parameters + decoder.parameters == graph.parameter_count()


def test_weight_norm_gains_are_parameters() -> None:
    m = Maker((8, 4, 4))
    graph = m.graph(m.add("conv", m.image(), kernel=(3, 3), out=4, norm=Term("weight"), bias=False))
    assert cost(graph).parameters == 4 * 8 * 9 + 4
