"""Summaries of whole models equal what is published or was measured of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from hvdsl.compiler.analysis.causality import sight
from hvdsl.compiler.analysis.cost import cost
from hvdsl.compiler.analysis.reach import generation
from hvdsl.compiler.analysis.summary import Summary, summary
from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.elaboration.elaborate import elaborate
from hvdsl.compiler.graph import Role
from hvdsl.compiler.model import Model

CASES = Path(__file__).parents[2] / "grammar" / "cases"


@cache
def model(name: str) -> Model:
    return elaborate(assemble(CASES / f"{name}.hv"))


def spec_summary(name: str) -> Summary:
    return summary(model(name).graph)


@pytest.mark.parametrize(
    ("name", "parameters", "encoder", "tensors", "groups", "dims"),
    [
        ("vdvae_cifar10", 39_145_700, 7_497_888, 1393, 43, 412_432),
        ("vdvae_ffhq1024", 109_366_904, 23_759_288, 2392, 70, 27_588_640),
    ],
)
def test_very_deep_vae(name: str, parameters: int, encoder: int, tensors: int, groups: int, dims: int) -> None:
    totals = spec_summary(name)
    assert (totals.parameters, totals.encoder_parameters, totals.parameter_tensors) == (
        parameters,
        encoder,
        tensors,
    )
    assert totals.encoder_parameters + totals.decoder_parameters == parameters
    assert (totals.latent_groups, totals.latent_dims) == (groups, dims)
    assert totals.stochastic_depth == groups


def test_start_maps_of_very_deep_vae() -> None:
    maps = [n for n in model("vdvae_cifar10").graph.nodes if n.operation.name == "learned"]
    assert sum(p.size for n in maps for p in n.parameters) == 522_624


def test_nouveau_vae() -> None:
    totals = spec_summary("nvae_cifar10")
    assert (totals.parameters, totals.latent_groups) == (130_852_480, 30)
    norms = [n for n in model("nvae_cifar10").graph.nodes if n.operation.name == "batch_norm"]
    assert len(norms) == 364


def test_vector_quantised_vae_and_its_priors() -> None:
    known = model("vqvae2_256")
    totals = summary(known.graph)
    assert (totals.parameters, totals.buffers) == (1_388_867, 132_096)
    assert {name: cost(graph).parameters for name, graph in known.priors.items()} == {
        "z_top": 84_873_280,
        "z_bottom": 89_762_816,
    }
    assert sight(known.priors["z_top"]).rows_above == 16  # all that precede the middle: by attention


def test_inverse_autoregressive_flow() -> None:
    totals = spec_summary("iaf_cifar10")
    assert totals.parameters == 41_557_927
    assert totals.likelihood_parameters == 1  # one scale for all pixels
    assert round(totals.macs / 1e9, 1) == 10.6
    assert totals.latent_dims == 163_840


def test_two_directions_of_inference_draw_pairs_together() -> None:
    totals = spec_summary("biva_cifar10")
    assert (totals.latent_groups, totals.stochastic_depth) == (29, 15)


@pytest.mark.parametrize("name", ["vdvae_cifar10", "nvae_cifar10", "vqvae2_256", "biva_cifar10", "lvae_mnist"])
def test_models_can_generate(name: str) -> None:
    graph = model(name).graph
    assert all(graph.nodes[i].role is not Role.IMAGE for i in generation(graph).nodes)
