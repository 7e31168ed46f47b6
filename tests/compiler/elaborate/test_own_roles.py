"""`f(own = (gain, bias))`: what a use of a shared instance has for itself, and where it cannot."""

from __future__ import annotations

import pytest

from hvdsl.compiler.diagnostics import spec
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source


def model(uses: str, shared: str = "shared f = conv(1x1, 8)"):
    return check(Source("own.hv", spec(top=shared, encoder=f"8: conv(3x3, 8) -> {uses} -> tap")))


def test_own_roles_are_counted_and_named_at_each_use() -> None:
    plain, own = model("f -> f -> f").graph, model("f -> f(own = bias) -> f(own = (bias, weight))").graph
    assert own.parameter_count() - plain.parameter_count() == 8 + 8 + 64
    names = [n.parameter_path(p.role) for n in own.nodes for p in n.parameters if n.path == "f.conv.0"]
    assert names == [
        "f.conv.0.weight",
        "f.conv.0.bias",
        "f.conv.0.weight",
        "f_own.0.conv.0.bias",
        "f_own.1.conv.0.weight",
        "f_own.1.conv.0.bias",
    ]


@pytest.mark.parametrize(
    ("body", "kernels"),
    [
        ("shared s = conv(1x1, 8); x -> s -> s; shared s = conv(1x1, 8); x -> s", 2),
        ("shared s = conv(1x1, 8); x -> s; s = x -> conv(1x1, 8); x + s", 2),
        ("s = x -> conv(1x1, 8); shared s = conv(1x1, 8); x -> s -> s", 2),
        ("{ shared s = conv(1x1, 8); x -> s } -> { shared s = conv(1x1, 8); x -> s -> s }", 2),
        ("residual { shared s = conv(1x1, 8); s } -> residual { shared s = conv(1x1, 8); s }", 2),
        ("shared g = { shared s = conv(1x1, 8); s -> s }; g -> g -> { shared s = conv(1x1, 8); s }", 2),
    ],
)
def test_instances_of_one_name_are_different_ones(body: str, kernels: int) -> None:
    """Each has parameters of its own, whose names are of nothing else."""
    graph = model("c", f"cell c {{ {body} }}").graph
    paths = {n.path for n in graph.nodes if n.path.startswith("encoder.r8.c.0.")}
    assert len(paths) == kernels
    plain = model("c", "cell c { conv(1x1, 8) }").graph
    assert graph.parameter_count() - plain.parameter_count() == (kernels - 1) * (64 + 8)


@pytest.mark.parametrize(
    ("uses", "shared", "message"),
    [
        ("f -> f(own = gain)", "shared f = conv(1x1, 8)", "`f` has no parameters `gain`"),
        ("f -> f(own = mean)", "shared f = batch_norm", "`f` has no parameters `mean`"),
        ("f -> g -> g(own = bias)", "shared f = conv(1x1, 8)\nshared g = f -> conv(1x1, 8)", "roles of its own cannot"),
        ("f -> g -> g", "shared f = conv(1x1, 8)\nshared g = f(own = bias) -> relu", "roles of its own cannot"),
    ],
)
def test_what_cannot_be_its_own_is_refused(uses: str, shared: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        model(uses, shared)
    assert message in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        ("z ~ laplace(x) posterior product(laplace(x), laplace(x))", "`product` cannot couple these distributions"),
        ("z ~ normal(x) posterior relative(normal(x), laplace(x))", "`relative` cannot couple these distributions"),
        ("z ~ bernoulli(x) posterior relative(bernoulli(x), bernoulli(x))", "`relative` cannot couple"),
    ],
)
def test_couplings_are_of_distributions_that_they_are_defined_for(latent: str, message: str) -> None:
    group = f"group level {{ {latent}; z -> conv(1x1, logits) }}"
    with pytest.raises(SpecError) as caught:
        check(Source("couple.hv", spec(top=group)))
    assert message in caught.value.diagnostics[0].message


def test_a_latent_of_a_quantizer_is_not_drawn_on_the_way_up() -> None:
    encoder = "8: conv(3x3, 8) -> rise"
    top = "group rise { u ~ posterior nearest_code(x -> conv(1x1, 4)); x }\n"
    top += "group level { u ~ codebook(16, 4) posterior skip(u); u -> conv(1x1, logits) }"
    with pytest.raises(SpecError) as caught:
        check(Source("up.hv", spec(top=top, encoder=encoder)))
    assert "a latent of a quantizer cannot be drawn on the way up" in caught.value.diagnostics[0].message
