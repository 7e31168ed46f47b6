"""Receptive fields, generation and latent structure, the exported graph and the summary."""

from __future__ import annotations

import json
import subprocess
import sys

from hvdsl.compiler.analysis.causality import sight
from hvdsl.compiler.analysis.export import to_json, to_networkx
from hvdsl.compiler.analysis.field import receptive_fields
from hvdsl.compiler.analysis.reach import generation, latent_structure
from hvdsl.compiler.analysis.summary import summary
from hvdsl.compiler.graph import Term
from tests.compiler.analysis.small_graphs import Maker, ladder


def test_kernels_widen_the_field_by_the_stride_above_them() -> None:
    m = Maker((3, 64, 64))
    x = m.add("conv", m.image(), kernel=(3, 3), out=4)
    x = m.add("conv", x, kernel=(4, 4), out=4, stride=(2, 2))
    x = m.add("conv", x, kernel=(3, 3), out=4, dilation=(2, 2))
    assert receptive_fields(m.graph(x)).output == (3 + 3 + 8, 3 + 3 + 8)


def test_a_global_mean_sees_the_whole_image() -> None:
    m = Maker((3, 64, 32))
    x = m.image()
    gate = m.add("sigmoid", m.add("global_pool", x))
    assert receptive_fields(m.graph(m.add("mul", x, gate))).output == (64, 32)


def test_nearest_keeps_the_field() -> None:
    m = Maker((3, 64, 64))
    x = m.add("nearest", m.add("avg_pool", m.image(), kernel=(4, 4)), factor=(4, 4))
    assert receptive_fields(m.graph(x)).output == (4, 4)


def test_posteriors_are_measured_past_no_other_latent() -> None:
    graph = ladder()
    fields = receptive_fields(graph)
    # 3x3, mean of 2x2, 3x3 at stride 2: 3 + 1 + 4. The finer one reads the 3x3 features through another 3x3.
    assert fields.posterior == ((8, 8), (5, 5))
    assert fields.output == (8, 8)


def test_only_the_way_through_priors_generates() -> None:
    graph = ladder()
    split = generation(graph)
    ops = [graph.nodes[i].operation.name for i in split.nodes]
    assert "image" not in ops and "tap" not in ops and ops.count("latent") == 2
    assert sorted(split.nodes + split.inference_only) == list(range(len(graph.nodes)))
    assert split.nodes == tuple(sorted(split.nodes))


def test_what_goes_past_the_latents_needs_the_image() -> None:
    m = Maker((3, 8, 8))
    x = m.image()
    tap = m.add("tap", m.add("conv", x, kernel=(3, 3), out=4), name="")
    z = m.latent("z", m.add("normal", params=Term("standard", (2,)), grid=(8, 8)), m.add("normal", tap))
    graph = m.graph(m.add("concat", z, tap))
    assert "image" in [graph.nodes[i].operation.name for i in generation(graph).nodes]


def test_latents_of_one_level_can_be_drawn_together() -> None:
    m = Maker((4, 4, 4))
    x = m.image()
    start = m.add("learned", init=Term("zeros"), channels=4, grid=(4, 4))
    posterior = m.add("normal", x)
    top = m.latent("top", m.add("normal", start), posterior)
    wide = m.add("conv", top, kernel=(1, 1), out=4)
    left = m.latent("left", m.add("normal", wide), posterior)
    right = m.latent("right", m.add("normal", wide), posterior)
    last = m.latent("last", m.add("normal", m.add("concat", left, right)), posterior)
    found = latent_structure(m.graph(last))
    assert found.parents == ((), (0,), (0,), (1, 2))
    assert found.parallel == ((0,), (1, 2), (3,))
    assert found.depth == 3


def test_a_prior_sees_the_positions_of_its_kernel() -> None:
    m = Maker((1, 1, 1))
    x = m.add("codes", name="z", classes=8, grid=(16, 16))
    x = m.add("conv", x, kernel=(3, 3), out=8, mask=Term("causal", ("exclude",)))
    middle = sight(m.graph(m.add("conv", x, kernel=(1, 1), out=8)))
    assert (middle.seen, middle.rows_above, middle.hole) == (4, 1, (8, 6))


def test_json_of_two_builds_is_equal_to_the_byte() -> None:
    first, second = (json.dumps(to_json(ladder())) for _ in range(2))
    assert first == second
    data = json.loads(first)
    assert data["latents"][0]["path"] == "decoder.r4.layer.0.z"
    assert data["nodes"][data["output"][0]]["op"] == "output"


def test_networkx_view_keeps_operands_and_ports() -> None:
    graph = ladder()
    view = to_networkx(graph)
    assert view.number_of_nodes() == len(graph.nodes)
    concat = next(n for n in graph.nodes if n.operation.name == "concat")
    operands = sorted(d["operand"] for _, _, d in view.in_edges(concat.index, data=True))
    assert operands == [0, 1]
    assert view.nodes[concat.index]["shapes"] == ((32, 8, 8),)


def test_summary_adds_up() -> None:
    graph = ladder()
    found = summary(graph)
    assert found.parameters == graph.parameter_count() == sum(r.parameters for r in found.resolutions)
    assert found.macs == sum(r.macs for r in found.resolutions)
    assert found.encoder_parameters + found.decoder_parameters == found.parameters
    assert (found.latent_groups, found.latent_dims, found.stochastic_depth) == (2, 4 * 16 + 4 * 64, 2)
    assert [(r.height, r.blocks, r.groups, r.latent_shapes) for r in found.resolutions] == [
        (8, 1, 1, ((4, 8, 8),)),
        (4, 1, 1, ((4, 4, 4),)),
    ]
    assert found.receptive_field == (8, 8)
    assert found.generation_macs < found.macs
    assert json.loads(json.dumps(found.to_json()))["resolutions"][0]["groups"] == 1


def test_analyses_import_neither_torch_nor_networkx() -> None:
    code = (
        "import sys, hvdsl.compiler.catalogue.reference;"
        "import hvdsl.compiler.analysis.summary, hvdsl.compiler.analysis.export;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'networkx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
