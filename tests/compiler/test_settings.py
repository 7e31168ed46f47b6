"""Settings sections and the likelihood of a spec, validated."""

from __future__ import annotations

import pytest

from hvdsl.compiler.assembly.assemble import assemble
from hvdsl.compiler.parameter_groups import group_summary
from hvdsl.compiler.pipeline import check
from hvdsl.compiler.setting_words import Duration, Ramp
from hvdsl.compiler.settings import L2, ModelSettings, ParameterGroup
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source
from tests.compiler.example_specs import SMALL


def settings(*overrides: str, text: str = SMALL) -> ModelSettings:
    return assemble(Source("small.hv", text), overrides).settings


def error(*overrides: str, text: str = SMALL) -> Diagnostic:
    with pytest.raises(SpecError) as caught:
        settings(*overrides, text=text)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic


def test_durations_are_steps_unless_written_otherwise() -> None:
    read = settings("train.warmup=100", "train.evaluate_every=epochs(2)", "train.sample_every=fraction(0.1)").train
    assert read is not None
    assert read.warmup == Duration(unit="steps", n=100)
    assert read.evaluate_every == Duration(unit="epochs", n=2)
    assert read.sample_every == Duration(unit="fraction", n=0.1)


def test_words_take_arguments_by_position_and_by_name() -> None:
    read = settings(
        "train.optimizer=adamax(2e-3, weight_decay = l2(3e-4))",
        "objective.beta=ramp(length = epochs(5), from = 0.5)",
    )
    assert read.train is not None
    assert (read.train.optimizer.lr, read.train.optimizer.weight_decay) == (2e-3, L2(weight=3e-4))
    assert isinstance(read.objective.beta, Ramp)
    assert (read.objective.beta.from_, read.objective.beta.length.unit) == (0.5, "epochs")


def test_half_precision_carries_its_first_scale() -> None:
    read = settings("train.precision=fp16(initial_scale = 1024)").train
    assert read is not None
    assert (read.precision, read.initial_scale) == ("fp16", 1024.0)


def test_binarization_says_how_often() -> None:
    data = settings("data.binarize=bernoulli(every = epoch)", "data.input=2 * v - 1", "likelihood.bits=1").data
    assert (data.binarize, data.binarize_every) == ("bernoulli", "epoch")


def test_lets_are_folded_into_pixel_maps() -> None:
    text = SMALL.replace("v / 7.5 - 1", "v / half - 1") + "let half = 15 / 2\n"
    assert settings(text=text).data.input == "v / 7.5 - 1"


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("train.optimizer=adam", "HV0603"),
        ("train.optimizer=adam(lr = -1)", "HV0602"),
        ("train.optimizer=adam(lr = 1, momentum = 0.9)", "HV0601"),
        ("train.optimizer=adan(lr = 1)", "HV0301"),
        ("train.batch=yes", "HV0602"),
        ("train.batch=1.5", "HV0602"),
        ("train.warmup=0.5", "HV0602"),
        ("train.precision=bf16(initial_scale = 2)", "HV0601"),
        ("train.schedule=exponential", "HV0604"),
        ("train.optimizer=adam(lr = 1, decay_only = weights)", "HV0604"),
        ("objective.bound=iwae", "HV0604"),
        ("objective.unit=mean_square", "HV0610"),
        ("data.bits=0", "HV0602"),
        ("data.shape=8x8", "HV0602"),
        ("data.input=log(v)", "HV0607"),
        ("data.input=v if v > 3 else 0", "HV0607"),
        ("data.input=len(v)", "HV0607"),
        ("data.input=tan(v)", "HV0301"),
        ("data.input=v / 5", "HV0608"),
        ("data.target=v // 3 / 5", "HV0609"),
        ("likelihood.bits=5", "HV0609"),
        ("likelihood.n=0", "HV0606"),
        ("likelihood.bins=publishd", "HV0301"),
        ("train.batch=32 if widht == 64 else 16", "HV0301"),
        ("train.schedule=cosine(over = cosine)", "HV0301"),
        ("train.batch=cosine", "HV0301"),
        ("train.warmup=fraction(2)", "HV0602"),
        ("likelihood=mse", "HV0610"),
    ],
)
def test_what_is_refused(override: str, code: str) -> None:
    diagnostic = error(override)
    assert diagnostic.code.id == code
    assert diagnostic.found
    assert diagnostic.expected
    assert diagnostic.help


def test_a_mistake_in_an_argument_is_marked_there() -> None:
    diagnostic = error(text=SMALL.replace("lr = 1e-3", "lr = 0"))
    assert diagnostic.span is not None
    assert diagnostic.span.text == "lr = 0"


def test_both_lengths_of_training_in_one_section_are_refused() -> None:
    diagnostic = error(text=SMALL.replace("steps = 100", "steps = 100, epochs = 3"))
    assert diagnostic.code.id == "HV0604"


def test_none_is_a_word_of_settings_too() -> None:
    train = settings("train.checkpointing=none").train
    assert train is not None and train.checkpointing == "none"


def test_samples_while_a_prior_trains_are_refused() -> None:
    prior = "prior z { shift(right = 1) }\ntrain z { batch = 2, optimizer = adam(lr = 1), sample_every = 5 }\n"
    diagnostic = error(text=SMALL + prior)
    assert diagnostic.code.id == "HV0604" and diagnostic.span is not None
    assert diagnostic.span.text == "sample_every = 5"


def test_an_endless_run_has_no_fractions() -> None:
    text = SMALL.replace("steps = 100, ", "")
    assert settings(text=text).train is not None
    assert error("train.warmup=fraction(0.1)", text=text).code.id == "HV0604"


def test_targets_may_be_coarser_than_the_data() -> None:
    text = SMALL.replace("input = v / 7.5 - 1", "input = v / 7.5 - 1, target = v // 2 * 2 / 7 - 1")
    assert dict(assemble(Source("m.hv", text)).likelihood.options)["bits"] == 3


@pytest.mark.parametrize(("channels", "logits"), [(1, 6), (2, 12), (3, 20), (4, 30)])
def test_a_mixtures_channels_for_any_number_of_image_channels(channels: int, logits: int) -> None:
    assert (
        assemble(Source("m.hv", SMALL.replace("data digits", "data images")), [f"data.shape={channels}x8x8"]).logits
        == logits
    )


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("train.optimizer.lr=1e-2", "train.optimizer.lr", 1e-2),
        ("train.optimizer.weight_decay.weight=0.1", "train.optimizer.weight_decay.weight", 0.1),
        ("train.schedule.floor=1e-5", "train.schedule.floor", 1e-5),
        ("train.precision.initial_scale=4", "train.initial_scale", 4.0),
        ("objective.beta.length.n=7", "objective.beta.length.n", 7.0),
        ("objective.beta.start=epochs(2)", "objective.beta.start.unit", "epochs"),
        ("train.batch=sqrt(1024)", "train.batch", 32),
        ("train.optimizer.betas=(0.5, 0.6)", "train.optimizer.betas", (0.5, 0.6)),
    ],
)
def test_every_nested_key_can_be_set(override: str, path: str, expected: object) -> None:
    whole = (
        "train.optimizer=adamax(2e-3, weight_decay = l2(3e-4))",
        "train.schedule=cosine(1e-4)",
        "train.precision=fp16",
        "objective.beta=ramp(length = epochs(5), from = 0.5)",
    )
    value: object = settings(*whole, override)
    for name in path.split("."):
        value = getattr(value, name)
    assert value == expected


def test_what_is_set_inside_a_word_leaves_the_rest() -> None:
    read = settings("train.optimizer=adamax(2e-3, (0.8, 0.9), 1e-3)", "train.optimizer.lr=1e-2").train
    assert read is not None
    assert (read.optimizer.lr, read.optimizer.betas, read.optimizer.eps) == (1e-2, (0.8, 0.9), 1e-3)


def test_a_let_that_stands_for_a_word_is_set_inside() -> None:
    text = SMALL.replace("adam(lr = 1e-3)", "plan") + "let plan = adam(lr = 1e-3, eps = 1e-4)\n"
    read = settings("train.optimizer.lr=1", text=text).train
    assert read is not None and (read.optimizer.lr, read.optimizer.eps) == (1, 1e-4)


@pytest.mark.parametrize(
    "override",
    [
        "train.optimizer.momentum=0.9",
        "train.optimizer.lr.x=3",
        "train.batch.size=3",
        "train.schedule.flor=1",
        "data.name=x",
    ],
)
def test_a_nested_key_that_is_not_there_is_named(override: str) -> None:
    diagnostic = error(override)
    assert diagnostic.code.id == "HV0209"
    assert override.partition("=")[0].split(".")[-1] in diagnostic.message + diagnostic.found


def test_settings_written_at_the_wrong_place_are_shown_the_right_one() -> None:
    assert "optimizer = adam(lr = …)" in error(text=SMALL.replace("steps = 100", "lr = 1, steps = 100")).help
    assert "fp16(initial_scale = …)" in error(text=SMALL.replace("steps = 100", "initial_scale = 1, steps = 100")).help


def test_a_key_of_a_settings_word_is_offered_where_it_is() -> None:
    assert error("train.lr=1e-3").help == "write `train.optimizer.lr`"


def test_parameter_groups_go_by_pattern() -> None:
    read = settings('train.groups=["encoder": frozen, "*.bias": trained(lr = 1e-4, weight_decay = 0)]').train
    assert read is not None
    assert read.groups == {
        "encoder": ParameterGroup(kind="frozen"),
        "*.bias": ParameterGroup(kind="trained", lr=1e-4, weight_decay=0.0),
    }
    named = settings("train.groups=mine", text=SMALL + 'let mine = ["encoder": frozen]\n').train
    assert named is not None and set(named.groups) == {"encoder"}


def test_parameter_groups_are_counted_by_the_first_pattern() -> None:
    groups = 'groups = ["*.bias": trained(lr = 1e-4), "encoder": frozen]'
    model = check(Source("small.hv", SMALL.replace("lr = 1e-3) }", f"lr = 1e-3), {groups} }}")))
    assert group_summary(model.graph, model.settings.train) == [
        {"pattern": "*.bias", "kind": "trained", "lr": 1e-4, "weight_decay": None, "parameters": 16 + 2 * 24 + 6},
        {"pattern": "encoder", "kind": "frozen", "lr": None, "weight_decay": None, "parameters": 72 + 576},
    ]
    assert group_summary(model.graph, None) == []


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("3", "3"),
        ("[encoder: frozen]", "encoder"),
        ('["encoder": frozen, else: frozen]', '["encoder": frozen, else: frozen]'),
        ('["encoder": 3]', "3"),
        ('["a": trained(lr = 0)]', "lr = 0"),
        ('["a": frozen, "a": frozen]', '"a"'),
    ],
)
def test_a_mistake_in_parameter_groups_is_told_at_its_place(value: str, place: str) -> None:
    text = SMALL.replace("lr = 1e-3) }", f"lr = 1e-3), groups = {value} }}")
    diagnostic = error(text=text)
    assert (diagnostic.code.id, diagnostic.span.text if diagnostic.span else "") == ("HV0602", place)


def test_patterns_are_checked_against_the_parameters_there_are() -> None:
    def fault(groups: str) -> Diagnostic:
        with pytest.raises(SpecError) as caught:
            check(Source("small.hv", SMALL), [f"train.groups={groups}"])
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.code.id == "HV0615"
        return diagnostic

    assert fault('["encodr": frozen]').help == "did you mean `encoder`?"
    assert fault('["encoder": frozen, "encoder.r8": trained]').help == "put the narrower pattern first"
    assert "every parameter is frozen" in fault('["*": frozen]').message
