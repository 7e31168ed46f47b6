"""What other languages and papers write is answered by what is written here."""

from __future__ import annotations

import pytest

from hvdsl import grammar
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from tests.compiler.example_specs import SMALL


@pytest.mark.parametrize(
    ("old", "new", "code", "help"),
    [
        ("concat(x, skip)", "torch.cat(x, skip)", "HV0301", "concat(a, b)"),
        ("concat(x, skip)", "concat([x, skip])", "HV0401", "leave out the brackets"),
        ("concat(x, skip)", "x -> concat(x, skip)", "HV0401", "{ concat(…) }"),
        ("conv(3x3, width) -> tap -> avg", "nn.ReLU -> tap -> avg", "HV0301", "`relu`"),
        ("avg_pool(2)", "ops.avg_poll(2)", "HV0301", "did you mean `avg_pool`?"),
        ("avg_pool(2)", "ops.qqqq(2)", "HV0301", "known here"),
        ("avg_pool(2)", "MaxPool2d(2)", "HV0301", "max_pool(2)"),
        ("avg_pool(2)", "avg_pool(2) -> 2 * relu", "HV0401", "step * n"),
        ("avg_pool(2)", "avg_pool(2) -> [relu, relu]", "HV0401", "a -> b"),
        ("z ~ normal(conv(1x1, 8))", "z ~ prior", "HV0301", ""),
        ("conv(3x3, width) -> tap -> avg", "conv(kernel_size = 3) -> tap -> avg", "HV0407", "`kernel`"),
        ("conv(3x3, width) -> tap -> avg", "conv(3, 8, init = gaussian(std = 1)) -> tap -> avg", "HV0407", "`s`"),
        ("let width = 8", "let width = [8: 8, else: 4]", "HV0401", "width[res]"),
        ("shape = 1x8x8", "size = 8", "HV0601", "`shape`"),
        ("batch = 8", "batch_size = 8", "HV0601", "`batch`"),
        ("steps = 100", "steps = epochs(2)", "HV0301", "`epochs = 2` in place of `steps`"),
        ("adam(lr = 1e-3)", "adam(learning_rate = 1e-3)", "HV0601", "`lr`"),
        ("unit = nats_per_dim", "unit = nats_per_dim, kl_weight = 1", "HV0601", "`beta`"),
        ("discretized_logistic_mixture(2)", "dmol(2)", "HV0605", "discretized_logistic_mixture"),
        ("v / 7.5 - 1", "v / 7.5 \u2212 1", "HV0109", "write `-`"),
        ("1e-3", "1e\u20133", "HV0107", "write `1e-3`"),
        ("avg_pool(2)", "avg_pool(2)\u00a0", "HV0108", "a plain space"),
        ("unit = nats_per_dim", "unit = nats_per_dim, \u03b2 = 1", "HV0108", "write `beta`"),
        ("v / 7.5", "v / 7,5", "HV0101", "write `7.5`"),
        ("unit = nats_per_dim", "unit = nats_per_dim, beta = ramp(length = fraction(0,1))", "HV0601", "write `0.1`"),
        ("likelihood", "// scored by\nlikelihood", "HV0101", "a comment begins with `#`"),
        ("likelihood", "/* scored by */ likelihood", "HV0101", "a comment begins with `#`"),
        ("unit = nats_per_dim", "unit: nats_per_dim", "HV0101", "write `=`"),
        ("adam(lr = 1e-3)", "adam(lr: 1e-3)", "HV0101", "write `=`"),
        ("z ~ normal(conv(1x1, 8))", "z ~ normal(conv(1x1, 6))", "HV0503", "a mean and a scale for each"),
        ("z ~ normal(conv(1x1, 8))", "z ~ normal(mu = conv(1x1, 4), sigma = conv(1x1, 4))", "HV0407", "one tensor"),
        ("bits = 4, input = v / 7.5 - 1", "bits = 8", "HV0608", "write `input = 2 * v / 255 - 1`"),
    ],
)
def test_a_habit_gets_its_hint(old: str, new: str, code: str, help: str) -> None:
    assert old in SMALL
    with pytest.raises(SpecError) as caught:
        check(Source("small.hv", SMALL.replace(old, new)))
    first = caught.value.diagnostics[0]
    assert first.code.id == code and help in first.help
    assert {d.code.id for d in caught.value.diagnostics} == {code}  # no consequence


def test_where_a_distribution_belongs_they_are_listed() -> None:
    with pytest.raises(SpecError) as caught:
        check(Source("small.hv", SMALL.replace("z ~ normal(conv(1x1, 8))", "z ~ prior")))
    assert "`normal`, `laplace`" in caught.value.diagnostics[0].expected


def test_a_condition_that_nothing_reads_is_told() -> None:
    text = SMALL.replace("bits = 4,", "bits = 4, given age = 1,\n")
    assert [(d.code.id, d.span.text) for d in check(Source("small.hv", text)).warnings if d.span] == [("HV0904", "age")]
    assert check(Source("small.hv", text.replace("concat(x, skip)", "concat(x, skip, age)"))).warnings == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hv: 1\nmodel: a: b\n", "quote values"),
        ("hv: 1\nlet: {a: 1, b\n", "is not closed"),
        ("hv: 1\nmodel: @a\n", "in quotes"),
        ("hv: 1\n\tmodel: a\n", "indent by spaces"),
        ("hv: 1\nmodel\nlet: 3\n", "without its `:`"),
        ("hv: 1\nmodel: | a\n", "means something to YAML"),
    ],
)
def test_yaml_that_is_none_is_told_in_our_words(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        grammar.read_yaml(Source("small.yaml", text))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code.id == "HV0115" and words in f"{diagnostic.message} {diagnostic.help}"
