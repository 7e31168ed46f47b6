"""The emitted PixelSNAIL priors against numbers recorded from the public PyTorch implementation.

Limits are those that the recordings come with: logits 2e-5, cross entropy 1e-5, gradients 1e-4 of a tensor's largest
entry; sampled maps and dependencies exact.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from hvdsl.compiler.analysis.causality import own_codes, seen_positions
from hvdsl.compiler.emit import emit_priors, emit_steps
from hvdsl.compiler.graph import Graph
from hvdsl.compiler.load import load_module
from hvdsl.compiler.pipeline import check
from hvdsl.importers import rename
from hvdsl.importers.weights import published_names, read_release
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.protocol import Choose, StepwisePrior
from hvdsl.runtime.priors.sampling import Schedule, draw_codes, greedy
from tests.golden.recorded import FOLDER

SPECS = {"tiny_top": "pixelsnail_top.hv", "tiny_bottom": "pixelsnail_bottom.hv"}
CASES = list(SPECS)


@cache
def recorded(name: str, file: str = "io") -> dict[str, Tensor]:
    return load_file(FOLDER / "pixelsnail" / name / f"{file}.safetensors")


def compiled(name: str) -> tuple[Graph, nn.Module]:
    model = check(FOLDER / "specs" / SPECS[name])
    module = load_module(emit_priors(model), f"recorded_{name}")
    latent, graph = next(iter(model.priors.items()))
    prior: nn.Module = module.PRIORS[latent]()
    initialize(prior, 0)
    return graph, prior


def in_our_names(prior: nn.Module, published: dict[str, Tensor]) -> dict[str, Tensor]:
    wanted = {key: tuple(p.shape) for key, p in prior.named_parameters()}
    weights = {key: value for key, value in published.items() if key != "background"}
    renamed = rename("rosinality-pixelsnail", wanted, weights)
    return {key: value.reshape(wanted[key]) for key, value in renamed.items()}


def prior(name: str) -> nn.Module:
    _, built = compiled(name)
    built.load_state_dict(in_our_names(built, recorded(name, "model")))
    return built.eval()


def stepwise(name: str) -> StepwisePrior:
    (steps,) = load_module(emit_steps(check(FOLDER / "specs" / SPECS[name])), f"recorded_{name}_steps").STEPS.values()
    return StepwisePrior(prior(name), steps)


def given(name: str) -> list[Tensor]:
    io = recorded(name)
    return [io["condition"]] if "condition" in io else []


@pytest.mark.parametrize("name", CASES)
def test_logits_and_cross_entropy(name: str) -> None:
    io, built = recorded(name), prior(name)
    with torch.no_grad():
        logits = built(io["codes"], *given(name))
    assert (logits - io["logits"]).abs().max() <= 2e-5
    entropy = F.cross_entropy(logits, io["codes"], reduction="none")
    assert (entropy - io["cross_entropy_map"]).abs().max() <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    io, built = recorded(name), prior(name)
    F.cross_entropy(built(io["codes"], *given(name)), io["codes"]).backward()
    theirs = published_names((key for key, _ in built.named_parameters()), read_release("rosinality-pixelsnail").rules)
    gradients = recorded(name, "grads")
    masks = {f"{path}.weight": m.mask for path, m in built.named_modules() if getattr(m, "mask", None) is not None}
    compared = [(key, p) for key, p in built.named_parameters() if theirs[key] in gradients]
    assert len(compared) == len(gradients)
    for key, parameter in compared:
        assert parameter.grad is not None
        wanted = gradients[theirs[key]].reshape(parameter.shape)
        if key in masks:  # the reference leaves gradients at masked elements, which have no meaning
            wanted = wanted * masks[key]
        assert (parameter.grad - wanted).abs().max() <= 1e-4 * wanted.abs().max() + 1e-12, key


def choices(name: str) -> dict[str, Choose]:
    gumbel = recorded(name)["gumbel"]
    return {
        "greedy": greedy,
        "greedy_prefix": greedy,
        "gumbel_t1": lambda logits, i, j: (logits + gumbel[:, i, j]).argmax(1),
        "gumbel_t07": lambda logits, i, j: (logits / 0.7 + gumbel[:, i, j]).argmax(1),
    }


@pytest.mark.parametrize(
    ("name", "schedule"), [("tiny_top", "raster"), ("tiny_bottom", "raster"), ("tiny_bottom", "wavefront")]
)
@pytest.mark.parametrize("kind", ["greedy", "greedy_prefix", "gumbel_t1", "gumbel_t07"])
def test_sampled_maps_are_the_recorded_ones(name: str, schedule: Schedule, kind: str) -> None:
    io = recorded(name)
    keep = None
    if kind == "greedy_prefix":
        mask = torch.zeros_like(io["codes"], dtype=torch.bool)
        mask[:, :2] = True
        keep = io["codes"], mask
    choose, batch = choices(name)[kind], len(io["codes"])
    drawn = draw_codes(stepwise(name), choose, given(name), batch=batch, keep=keep, schedule=schedule)
    assert torch.equal(drawn, io[f"sample.{kind}"])


@pytest.mark.parametrize("name", CASES)
def test_the_greedy_map_is_the_argmax_of_one_full_forward(name: str) -> None:
    built = stepwise(name)
    drawn = draw_codes(built, greedy, given(name), batch=2)
    with torch.no_grad():
        assert torch.equal(built.module(drawn, *given(name)).argmax(1), drawn)


@pytest.mark.parametrize("name", CASES)
def test_the_compiler_knows_which_codes_reach_which_logits(name: str) -> None:
    io, (graph, _) = recorded(name), compiled(name)
    _, height, width = own_codes(graph).shapes[0]
    for at in range(height * width):
        seen = seen_positions(graph, divmod(at, width))
        for node, key in zip(seen, ("depends", "depends_on_condition"), strict=False):
            found = [bool(seen[node] >> place & 1) for place in range(io[key].shape[1])]
            assert found == io[key][at].bool().tolist(), (key, at)
