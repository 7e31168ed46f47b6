"""Each rule of the language's meaning, in one small spec."""

from __future__ import annotations

import pytest

from hvdsl.compiler.graph import Term
from hvdsl.grammar.diagnostics import Severity
from tests.compiler.elaborate.small_models import codes, encoded, faults, model, operations, paths


def test_arithmetic_comes_before_flows() -> None:
    nodes = encoded("8: { h = conv(3x3, 8); h + h -> relu -> tap }")
    assert operations(nodes) == ["conv", "add", "relu"]


def test_statements_are_one_long_flow() -> None:
    nodes = encoded("8: { conv(3x3, 8)\n relu\n elu -> tap }")
    assert [n.inputs[0].node for n in nodes[1:]] == [nodes[0].index, nodes[1].index]


def test_a_binding_leaves_x_alone() -> None:
    nodes = encoded("8: { conv(3x3, 8); h = relu; elu -> tap; tap(other) = h }")
    conv, relu, elu = nodes
    assert relu.inputs[0].node == elu.inputs[0].node == conv.index
    assert relu.names == ("h",)


def test_binding_x_is_a_bare_flow_and_adds_no_name() -> None:
    graph = model(encoder="8: { x = conv(3x3, 8) -> tap }").graph
    assert paths(graph, "encoder") == ["encoder.r8.conv.0"]


def test_tuples_flow_through_recipes_and_come_apart() -> None:
    graph = model(
        top="cell swap { a, b = x\n b, a }",
        encoder="8: { a, b = conv(3x3, 8) -> split(2, 6) -> swap; b -> conv(1x1, 8) -> tap; tap(six) = a }",
    ).graph
    assert [n.shapes[0][0] for n in graph.nodes if n.operation.name == "tap"] == [8, 6]


def test_an_underscore_discards() -> None:
    nodes = encoded("8: { _, b = conv(3x3, 8) -> split(2, 6); b -> tap }")
    assert nodes[1].names == (None, "b")


def test_none_is_absence() -> None:
    recipe = "cell f(aux = none) { x + (aux -> conv(1x1, 8)) }"
    assert operations(encoded("8: conv(3x3, 8) -> f -> tap", recipe)) == ["conv"]
    with_aux = encoded("8: { h = conv(3x3, 8); h -> f(h) -> tap }", recipe)
    assert operations(with_aux) == ["conv", "conv", "add"]
    assert operations(encoded("8: conv(3x3, 8) -> { concat(x, none) } -> tap")) == ["conv"]


def test_the_branch_not_taken_is_not_elaborated() -> None:
    nodes = encoded("8: conv(3x3, 8) -> (relu if res == 8 else no_such_thing) -> tap")
    assert operations(nodes) == ["conv", "relu"]


def test_only_the_chosen_entry_of_a_map_is_evaluated() -> None:
    nodes = encoded("8: conv(3x3, w[res]) -> tap", "let w = [4: 1 / 0, else: res]")
    assert nodes[0].args["out"] == 8


def test_lets_are_late_bound_and_use_the_context_of_their_use() -> None:
    nodes = encoded("8: conv(3x3, a) -> { conv(1x1, b) } -> tap", "let b = 2 * channels\nlet a = n\nlet n = 6")
    assert [n.args["out"] for n in nodes] == [6, 12]


def test_context_names_are_fixed_on_entering() -> None:
    nodes = encoded("8: conv(3x3, 8) -> { conv(1x1, 2 * channels)\n conv(1x1, channels) } -> tap")
    assert [n.args["out"] for n in nodes] == [8, 16, 8]


def test_channels_of_a_tensor_is_of_this_point() -> None:
    nodes = encoded("8: conv(3x3, 8) -> { conv(1x1, 16)\n conv(1x1, channels(x)) } -> tap")
    assert [n.args["out"] for n in nodes] == [8, 16, 16]


def test_res_is_the_label_in_a_row_and_of_what_entered_elsewhere() -> None:
    nodes = encoded("8: conv(3x3, 8) -> tap -> avg_pool(2) -> conv(1x1, res) -> { conv(1x1, res) }")
    assert [n.args["out"] for n in nodes if n.operation.name == "conv"] == [8, 8, 4]


def test_index_counts_instances_of_a_recipe_in_the_section() -> None:
    nodes = encoded("8: f -> relu -> f * 2 -> tap", "cell f { conv(1x1, index + 1) }")
    assert [n.args["out"] for n in nodes if n.operation.name == "conv"] == [1, 2, 3]


def test_index_in_a_repeat_is_the_turn() -> None:
    nodes = encoded("8: { conv(1x1, index + 3) } * 2 -> (conv(1x1, index + 5) -> relu) * 2 -> tap")
    assert [n.args["out"] for n in nodes if n.operation.name == "conv"] == [3, 4, 5, 6]


def test_count_and_latents_are_totals() -> None:
    graph = model(
        top="cell f { conv(1x1, 8, init = scaled(1 / count)) -> conv(1x1, 8, init = scaled(latents * 2)) }",
        encoder="8: f * 3 -> tap -> f",
        decoder="8: learned(zeros, 8) -> level * 2 -> conv(1x1, logits)",
    ).graph
    inits = [n.parameters[0].init for n in graph.nodes if n.operation.name == "conv" and "encoder" in n.path]
    assert inits[0] == inits[6] == Term("scaled", (0.25,))
    assert inits[1] == Term("scaled", (4.0,))


def test_each_turn_has_its_own_parameters_and_zero_turns_are_the_identity() -> None:
    graph = model(encoder="8: conv(3x3, 8) -> conv(3x3, 8) * 2 -> conv(3x3, 8) * 0 -> tap").graph
    assert paths(graph, "encoder") == [f"encoder.r8.conv.{i}" for i in range(3)]


def test_repeating_a_step_parameter_places_it_anew() -> None:
    graph = model(top="cell twice(f) { f * 2 }", encoder="8: conv(3x3, 8) -> twice(relu -> conv(1x1, 8)) -> tap").graph
    assert paths(graph, "encoder.r8.twice") == [f"encoder.r8.twice.0.f.conv.{i}" for i in range(2)]


def test_arguments_are_evaluated_at_the_call_and_defaults_in_the_callee() -> None:
    recipe = "cell f(n = channels) { conv(1x1, n) }"
    nodes = encoded("8: conv(3x3, 8) -> { conv(1x1, 4) -> f(channels) -> f } -> tap", recipe)
    assert [n.args["out"] for n in nodes] == [8, 4, 8, 8]


def test_an_option_s_own_words_come_before_names() -> None:
    nodes = encoded("8: conv(3x3, 8, pad = tf) -> tap", "let tf = 3")
    assert nodes[0].args["pad"] == Term("tf")


def test_words_pass_through_parameters() -> None:
    nodes = encoded("8: f(zeros) -> f -> tap", "cell f(start = scaled(2)) { conv(3x3, 8, init = start) }")
    assert [n.args["init"] for n in nodes] == [Term("zeros"), Term("scaled", (2,))]


def test_kernels_are_numbers_pairs_or_sizes() -> None:
    nodes = encoded("8: conv(3, 8) -> conv((1, 3), 8) -> conv(1x3, 8) -> conv(res, 8, pad = tf) -> tap")
    assert [n.args["kernel"] for n in nodes] == [(3, 3), (1, 3), (1, 3), (8, 8)]


def test_the_nearest_default_wins_and_the_call_always() -> None:
    nodes = encoded(
        "default conv { bias_init = ones }\n  8: conv(3x3, 8) -> f -> conv(3x3, 8, bias_init = fan_in) -> g -> tap",
        "default conv { bias_init = zeros, bias = yes }\n"
        "cell f { default conv { bias = no }\n conv(1x1, 8) -> g }\ncell g { conv(1x1, 8) }",
    )
    assert [(n.args["bias"], n.args["bias_init"]) for n in nodes] == [
        (True, Term("ones")),
        (False, Term("ones")),
        (True, Term("ones")),  # a recipe's default is for its own text
        (True, Term("fan_in")),
        (True, Term("ones")),
    ]


def test_a_section_s_default_does_not_reach_the_other() -> None:
    graph = model(encoder="default conv { bias = no }\n  8: conv(3x3, 8) -> tap").graph
    bias = {n.path.split(".")[0]: n.args["bias"] for n in graph.nodes if n.operation.name == "conv"}
    assert bias == {"encoder": False, "decoder": True}


def test_learned_takes_the_shape_of_what_it_is_added_to() -> None:
    nodes = encoded("8: conv(3x3, 8) -> add(learned(zeros)) -> { x + learned(ones) } -> tap")
    assert [n.shapes[0] for n in nodes if n.operation.name == "learned"] == [(8, 8, 8)] * 2


def test_sources_stand_at_the_row_s_label() -> None:
    graph = model(
        decoder="4: learned(zeros, 8) -> nearest(2) -> avg_pool(2)\n  8: nearest(2) -> level -> conv(1x1, logits)"
    ).graph
    assert next(n for n in graph.nodes if n.operation.name == "learned").shapes == ((8, 4, 4),)


def test_numbers_and_tensors() -> None:
    nodes = encoded("8: conv(3x3, 8) -> { 1 - 2 * x / 4 + x * x } -> tap")
    assert operations(nodes) == ["conv", "mul_number", "div_number", "number_sub", "mul", "add"]


def test_residual_adds_shortcut_and_scaled_body() -> None:
    graph = model(
        encoder="8: conv(3x3, 8) -> residual(scale = 0.1, shortcut = conv(1x1, 4)) { conv(3x3, 4) } -> tap"
    ).graph
    assert paths(graph, "encoder") == ["encoder.r8.conv.0", "encoder.r8.shortcut.conv.0", "encoder.r8.conv.1"]
    residual = next(n for n in graph.nodes if n.operation.name == "residual")
    made = [graph.nodes[v.node].path for v in residual.inputs]
    assert made == ["encoder.r8.shortcut.conv.0", "encoder.r8.conv.1"]
    assert residual.args == {"scale": 0.1}


@pytest.mark.parametrize(
    ("join", "after"),
    [("sum", ["add"]), ("concat", ["concat"]), ("mean", ["mean"]), ("delta", ["sub", "sub", "add", "add"])],
)
def test_parallel_places_copies_on_one_input(join: str, after: list[str]) -> None:
    nodes = encoded(f"8: conv(3x3, 8) -> parallel(2, join = {join}) {{ conv(1x1, 8) }} -> tap")
    assert operations(nodes) == ["conv", "conv", "conv", *after]
    assert nodes[1].inputs == nodes[2].inputs


def test_shared_is_one_instance_wherever_it_is_used() -> None:
    graph = model(
        top="shared f = conv(1x1, 8) -> relu",
        encoder="8: conv(3x3, 8) -> f * 2 -> g -> tap",
        level=SHARED_LEVEL,
    ).graph
    uses = [n for n in graph.nodes if n.path == "f.conv.0"]
    assert [n.shared for n in uses] == [(), ("weight", "bias"), ("weight", "bias")]
    assert graph.parameter_count() == sum(
        p.size for n in {n.path: n for n in graph.nodes}.values() for p in n.parameters
    )


SHARED_LEVEL = """
cell g { f }
group level {
  z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8))
  x + (z -> conv(1x1, channels))
}"""


def test_shared_in_a_recipe_is_one_for_each_instance() -> None:
    graph = model(top="cell g { shared f = conv(1x1, 8)\n f * 3 }", encoder="8: conv(3x3, 8) -> g * 2 -> tap").graph
    assert paths(graph, "encoder.r8.g") == ["encoder.r8.g.0.f.conv.0", "encoder.r8.g.1.f.conv.0"]


def test_what_a_shared_instance_shares_itself_is_counted_once() -> None:
    graph = model(
        top="cell g { shared f = conv(1x1, 8)\n f * 2 }\nshared twice = g",
        encoder="8: conv(3x3, 8) -> twice * 2 -> tap",
    ).graph
    uses = [n for n in graph.nodes if n.path == "twice.g.0.f.conv.0"]
    assert [n.shared for n in uses] == [(), *[("weight", "bias")] * 3]


def test_a_shared_group_reads_and_draws_at_the_row_of_its_use() -> None:
    graph = model(
        top="shared step = level",
        encoder="8: conv(3x3, 8) -> tap -> avg_pool(2)\n 4: conv(3x3, 8) -> tap",
        decoder="4: learned(zeros, 8) -> step\n 8: nearest(2) -> step * 2 -> conv(1x1, logits)",
        level=SHARED_LEVEL.replace("standard(4)", "conv(1x1, 8)").replace("cell g { f }\n", ""),
    ).graph
    assert [group.shape for group in graph.latents] == [(4, 4, 4), (4, 8, 8), (4, 8, 8)]


def test_a_shared_group_with_a_prior_of_a_fixed_size_is_of_one_row() -> None:
    found = faults(
        top="shared step = level",
        encoder="8: conv(3x3, 8) -> tap -> avg_pool(2)\n 4: conv(3x3, 8) -> tap",
        decoder="4: learned(zeros, 8) -> step\n 8: nearest(2) -> step * 2 -> conv(1x1, logits)",
        level=SHARED_LEVEL.replace("cell g { f }\n", ""),
    )
    assert [fault.code.id for fault in found if fault.severity is Severity.ERROR] == ["HV0805"]


def test_one_tap_is_shared_by_all_readers() -> None:
    graph = model(decoder="8: learned(zeros, 8) -> level * 3 -> conv(1x1, logits)").graph
    (tap,) = [n.index for n in graph.nodes if n.operation.name == "tap"]
    assert sum(v.node == tap for n in graph.nodes for v in n.inputs) == 3


def test_an_instance_reads_once_however_often_it_says_skip() -> None:
    group = (
        "group level { z ~ normal(standard(4)) posterior normal(skip + skip -> conv(1x1, 8))\n"
        " x + (z -> conv(1x1, 8)) }"
    )
    graph = model(
        level=group,
        encoder="8: conv(3x3, 8) -> (relu -> tap) * 2",
        decoder="8: learned(zeros, 8) -> level * 2 -> conv(1x1, logits)",
    ).graph
    sums = [n for n in graph.nodes if n.operation.name == "add" and n.inputs[0] == n.inputs[1]]
    taps = [n.index for n in graph.nodes if n.operation.name == "tap"]
    assert [n.inputs[0].node for n in sums] == taps[::-1]


def test_an_outer_group_reads_and_hands_on() -> None:
    graph = model(
        level="group one(s) { z ~ normal(standard(4)) posterior normal(s -> conv(1x1, 8))\n"
        " x + (z -> conv(1x1, 8)) }\n"
        "group level(n) { s = skip -> conv(1x1, 8)\n one(s) * n }",
        encoder="8: conv(3x3, 8) -> (relu -> tap) * 2",
        decoder="8: learned(zeros, 8) -> level(3) -> level(1) -> conv(1x1, logits)",
    ).graph
    assert len(graph.latents) == 4


def test_taps_of_a_name_are_read_by_that_name() -> None:
    group = "group level { z ~ normal(standard(4)) posterior normal(skip(a) + skip(b)); x + (z -> conv(1x1, 8)) }"
    graph = model(level=group, encoder="8: { a, b = conv(3x3, 16) -> chunk(2); tap(a) = a; tap(b) = b }").graph
    assert [n.args["name"] for n in graph.nodes if n.operation.name == "tap"] == ["a", "b"]


def test_names_bound_in_a_row_are_seen_by_later_rows() -> None:
    graph = model(
        encoder="8: { h = conv(3x3, 8)\n h -> tap -> avg_pool(2) }\n"
        "  4: { conv(1x1, 8) + (h -> avg_pool(2)) -> tap(low) }"
    ).graph
    assert "add" in [n.operation.name for n in graph.nodes]


def test_a_flow_follows_the_posterior_s_sample() -> None:
    group = (
        "group level(n) { z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8)) -> flow * n\n"
        " x + (z -> conv(1x1, 8)) }\n"
        "cell flow { iaf(shift) { conv(3x3, 4, mask = causal(before)) } }"
    )
    with_flow = model(level=group, decoder="8: learned(zeros, 8) -> level(2) -> conv(1x1, logits)").graph
    latent = with_flow.nodes[with_flow.latents[0].node]
    prior, posterior, z = (with_flow.nodes[v.node] for v in latent.inputs)
    assert [prior.operation.name, posterior.operation.name, z.operation.name] == ["normal", "normal", "iaf"]
    assert paths(with_flow, "decoder.r8.level.0.z") == [
        "decoder.r8.level.0.z.posterior.conv.0",
        "decoder.r8.level.0.z.posterior.flow.0.conv.0",
        "decoder.r8.level.0.z.posterior.flow.1.conv.0",
    ]
    without = model(level=group, decoder="8: learned(zeros, 8) -> level(0) -> conv(1x1, logits)").graph
    assert len(without.nodes[without.latents[0].node].inputs) == 2
    assert "sample" not in [n.operation.name for n in without.nodes]


def test_a_distribution_may_be_used_twice() -> None:
    group = (
        "group level { t = normal(conv(1x1, 8))\n"
        " z ~ t posterior product(normal(skip -> conv(1x1, 8)), t)\n x + (z -> conv(1x1, 8)) }"
    )
    graph = model(level=group).graph
    latent = graph.nodes[graph.latents[0].node]
    product = graph.nodes[latent.inputs[1].node]
    assert latent.inputs[0] == product.inputs[1]


CODEBOOK = "8: { z ~ codebook(16, 4) posterior nearest_code(skip -> conv(1x1, 4))\n z -> conv(1x1, logits) }"


def test_a_prior_starts_from_one_hot_codes_and_ends_with_logits() -> None:
    found = model(decoder=CODEBOOK, tail="prior z { default conv { bias = no }\n shift(right = 1) -> conv(1x1, 16) }")
    prior = found.priors["z"]
    codes_node = prior.nodes[0]
    assert (codes_node.operation.name, codes_node.shapes) == ("codes", ((16, 8, 8),))
    assert prior.shape(prior.output) == (16, 8, 8)
    assert paths(prior) == ["prior.conv.0"]
    assert prior.parameter_count() == 16 * 16
    assert found.graph.latents[0].family == "codebook"


def test_labels_may_be_oblong_and_computed() -> None:
    graph = model(
        top="let h = 4",
        data="1x8x4",
        encoder="8x4: conv(3x3, 8) -> tap -> avg_pool(2)\n  (h, h // 2): relu",
        decoder="8x4: learned(zeros, 8) -> level -> conv(1x1, logits)",
    ).graph
    assert graph.shape(graph.output) == (1, 8, 4)
    assert graph.latents[0].path == "decoder.r8x4.level.0.z"


def test_the_label_of_the_data_is_a_tensor() -> None:
    found = faults(decoder="8: learned(zeros, 8) -> { x + (label -> conv(1x1, 8)) } -> level -> conv(1x1, logits)")
    assert codes(found) == ["HV0306"]
