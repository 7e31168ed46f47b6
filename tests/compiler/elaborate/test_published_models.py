"""The published models come out with the exact parameters, latents and orders of their code."""

from __future__ import annotations

import time

import pytest

from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.elaboration.elaborate import elaborate
from hvdsl.compiler.graph import Graph, GraphScope, Term
from hvdsl.compiler.pipeline import check

# parameters, latents, latent scalars, batch norms
SIZES = {
    "vdvae_cifar10": (39_145_700, 43, 412_432, 0),
    "vdvae_ffhq1024": (109_366_904, 70, 27_588_640, 0),
    "nvae_cifar10": (130_852_480, 30, 153_600, 364),
    "nvae_cifar10@no_flows": (129_215_680, 30, 153_600, 364),
    "nvae_ffhq256": (330_798_664, 36, 6_005_760, 460),
    "vqvae2_256": (1_388_867, 2, 327_680, 0),
    "iaf_cifar10": (41_557_927, 20, 163_840, 0),  # with the likelihood's one learned scale
    "lvae_mnist": (1_868_768, 5, 124, 38),
    "biva_cifar10": (100_075_664, 29, 156_320, 0),
    "evdvae_cifar10": (56_598_692, 47, 827_488, 0),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_exact(name: str) -> None:
    graph = check(name).graph
    scalars = sum(c * h * w for c, h, w in (g.shape for g in graph.latents))
    norms = sum(n.operation.name == "batch_norm" for n in graph.nodes)
    assert (graph.parameter_count(), len(graph.latents), scalars, norms) == SIZES[name]


def test_priors_of_vqvae2_are_exact() -> None:
    priors = check("vqvae2_256").priors
    assert {name: graph.parameter_count() for name, graph in priors.items()} == {
        "z_top": 84_873_280,
        "z_bottom": 89_762_816,
    }


def test_the_encoder_of_vdvae_has_its_published_size() -> None:
    nodes = [n for n in check("vdvae_cifar10").graph.nodes if n.path.startswith("encoder.")]
    assert sum(p.size for n in nodes for p in n.parameters) == 7_497_888


@pytest.mark.parametrize("name", ["vdvae_cifar10", "nvae_cifar10", "biva_cifar10", "vqvae2_256"])
def test_operands_come_before_their_nodes_and_paths_are_unique(name: str) -> None:
    graph = check(name).graph
    for node in graph.nodes:
        assert graph.nodes[node.index] is node
        assert all(v.node < node.index for v in node.inputs)
        assert all(0 <= v.port < len(graph.nodes[v.node].shapes) for v in node.inputs)
    owners = [n.path for n in graph.nodes if n.parameters]
    assert len(owners) == len(set(owners))
    assert all(owners)


@pytest.mark.parametrize("name", ["vdvae_cifar10", "nvae_cifar10", "biva_cifar10", "lvae_mnist"])
def test_the_tree_of_scopes_holds_every_node_once_in_order(name: str) -> None:
    graph = check(name).graph
    assert [n.index for n in graph.root.nodes()] == list(range(len(graph.nodes)))
    for node in graph.nodes:
        assert node in node.scope.members


def test_paths_of_vdvae_follow_the_structure() -> None:
    graph = check("vdvae_cifar10").graph
    owners = {n.path for n in graph.nodes if n.parameters}
    assert {
        "encoder.r32.conv.0",
        "encoder.r32.block.11.bottleneck.0.conv.3",
        "decoder.r1.learned.0",
        "decoder.r16.layer.3.q.bottleneck.0.conv.2",
        "decoder.r16.layer.3.p.bottleneck.0.conv.0",
        "decoder.r16.layer.3.conv.0",
        "decoder.r16.layer.3.block.0.bottleneck.0.conv.0",
        "decoder.r32.affine.0",
    } <= owners
    assert [g.path for g in graph.latents[:2]] == ["decoder.r1.layer.0.z", "decoder.r4.layer.0.z"]
    assert [g.shape for g in graph.latents[:2]] == [(16, 1, 1), (16, 4, 4)]


def test_initial_values_know_how_many_blocks_there_are() -> None:
    graph = check("vdvae_cifar10").graph
    last = {n.path: n.args["init"] for n in graph.nodes if n.operation.name == "conv"}
    assert last["encoder.r32.block.0.bottleneck.0.conv.3"] == Term("scaled", (1 / 33**0.5,))
    assert last["decoder.r32.layer.0.conv.0"] == Term("scaled", (1 / 43**0.5,))
    weights = {n.path: n.parameters[0].init for n in graph.nodes if n.operation.name == "conv"}
    assert weights["decoder.r32.layer.0.conv.0"] == Term("scaled", (1 / 43**0.5,))


def test_a_repeat_is_turns_of_recipe_instances_with_their_constants() -> None:
    graph = check("vdvae_cifar10").graph
    row = _scope(graph, "decoder.r16")
    repeat = next(m for m in row.members if isinstance(m, GraphScope) and m.kind == "repeat")
    turns = [m for m in repeat.members if isinstance(m, GraphScope)]
    assert [t.kind for t in turns] == ["turn"] * 11
    instance = turns[3].members[0]
    assert isinstance(instance, GraphScope)
    assert (instance.kind, instance.path) == ("recipe", "decoder.r16.layer.3")
    bottleneck = _scope(graph, "decoder.r16.layer.3.q.bottleneck.0")
    assert bottleneck.constants["out"] == 32
    assert bottleneck.constants["k"] == (3, 3)
    assert bottleneck.constants["last"] == Term("fan_in")


def _scope(graph: Graph, path: str) -> GraphScope:
    todo = [graph.root]
    while todo:
        scope = todo.pop()
        if scope.named and scope.path == path:
            return scope
        todo += [m for m in scope.members if isinstance(m, GraphScope)]
    raise LookupError(path)


def test_as_many_taps_as_readers_are_read_in_reverse() -> None:
    graph = check("nvae_cifar10").graph
    taps = [n.index for n in graph.nodes if n.operation.name == "tap"]
    assert len(taps) == 30
    read = [_tap_of_posterior(graph, group.node) for group in graph.latents]
    assert read == taps[::-1]


def _tap_of_posterior(graph: Graph, latent: int) -> int:
    """The tap nearest to a latent's posterior, which its own group reads."""
    todo, seen = [graph.nodes[latent].inputs[1].node], set[int]()
    found: list[int] = []
    while todo:
        index = todo.pop()
        node = graph.nodes[index]
        if index in seen or node.operation.name == "latent":
            continue
        seen.add(index)
        if node.operation.name == "tap":
            found.append(index)
        else:
            todo += [v.node for v in node.inputs]
    assert len(found) == 1
    return found[0]


def test_latents_drawn_on_the_way_up_keep_their_distribution_and_draw() -> None:
    graph = check("biva_cifar10").graph
    upward = [g for g in graph.latents if g.name == "u"]
    assert len(upward) == 14
    for group in upward:
        _, posterior, draw = graph.nodes[group.node].inputs
        assert posterior.node == draw.node
        assert graph.nodes[posterior.node].operation.name == "tap"
        assert (draw.port, posterior.port) == (0, 1)
    # read in reverse: the first in generation is the last that was drawn
    drawn = [graph.nodes[g.node].inputs[2].node for g in upward]
    assert drawn == sorted(drawn, reverse=True)
    assert [g.shape[0] for g in upward] == list(range(12, 40, 2))


def test_elaboration_is_fast_enough_to_check_while_typing() -> None:
    closed = assemble("vdvae_ffhq1024")
    elaborate(closed)
    start = time.process_time()
    elaborate(closed)
    assert time.process_time() - start < 1.5  # about 0.15 s on an idle core
