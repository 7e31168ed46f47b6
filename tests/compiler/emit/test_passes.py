"""Every pass keeps outputs, gradients and names; what it is for, it does."""

from __future__ import annotations

import pytest
import torch

import hvdsl
from hvdsl.compiler.passes import PASSES
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.latents import Source as From
from tests.compiler.emit.emit_specs import ALL, VDVAE, compiled
from tests.compiler.emit.test_emitted_code import assert_same, images, shaken, walk


def kept_bytes(module: torch.nn.Module) -> int:
    """Bytes of the distinct storages that one step keeps for its backward pass."""
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        latents = walk(module)
        module(images(), latents).sum()
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("step", PASSES, ids=lambda step: step.name)
def test_outputs_rates_gradients_and_names_stay(name: str, step: object) -> None:
    plain = shaken(compiled(name))
    text = Source(f"{name}.hv", ALL[name])
    changed = hvdsl.compile(text, passes=[step.name]).build().double().eval()  # type: ignore[attr-defined]  # parametrised over `Pass`
    changed.load_state_dict(plain.state_dict())
    assert list(changed.state_dict()) == list(plain.state_dict())
    results = []
    for module in (plain, changed):
        latents = walk(module)
        output = module(images(), latents)
        (output.square().mean() + latents.rates.sum()).backward()
        generated = module(None, walk(module, From.PRIOR))
        results.append([output, latents.rates, generated, *(p.grad for p in module.parameters() if p.grad is not None)])
    assert_same(*results)


def test_split_concat_shares_the_activation_and_keeps_less() -> None:
    text = Source("small.hv", VDVAE)
    plain, split = hvdsl.compile(text, level=0), hvdsl.compile(text, passes=["split_concat"])
    assert "torch.cat" in plain.source and "torch.cat" not in split.source
    assert split.source.count("class Layer") == 1
    assert kept_bytes(split.build().double()) < 0.9 * kept_bytes(plain.build().double())


def test_compiling_leaves_the_graph_as_it_was() -> None:
    done = hvdsl.compile(Source("small.hv", VDVAE))
    assert any(node.operation.name == "concat" for node in done.model.graph.nodes)
    assert done.graph.number_of_nodes() == len(done.model.graph.nodes)


def test_level_0_changes_nothing_and_no_passes_is_level_0() -> None:
    text = Source("small.hv", VDVAE)
    assert hvdsl.compile(text, level=0).source == hvdsl.compile(text, passes=[]).source
    assert hvdsl.compile(text).source == hvdsl.compile(text, level=1).source


def test_an_unknown_pass_or_level_is_refused() -> None:
    text = Source("small.hv", VDVAE)
    with pytest.raises(SpecError, match="unknown pass `split_concad`") as caught:
        hvdsl.compile(text, passes=["split_concad"])
    assert caught.value.diagnostics[0].code.id == "HV0802"
    with pytest.raises(SpecError, match="no optimisation level 7"):
        hvdsl.compile(text, level=7)


def test_overrides_reach_the_module() -> None:
    done = hvdsl.compile(Source("small.hv", VDVAE), overrides={"width": 4, "objective.unit": "nats_per_dim"})
    assert done.model.settings.objective.unit == "nats_per_dim"
    assert done.build().decoder.r1.learned[0].value.shape == (4, 1, 1)
