"""What is said of one latent alone: read, printed, emitted, sampled by, and refused where it means nothing."""

from __future__ import annotations

import pytest
import torch

from hvdsl.compiler.load import load_module
from hvdsl.compiler.pipeline import write
from hvdsl.compiler.setting_words import AtLeast
from hvdsl.compiler.settings import LatentSettings
from hvdsl.grammar.printer import print_text
from hvdsl.grammar.source import Source
from hvdsl.grammar.text.reader import read_text
from hvdsl.grammar.yaml.printer import canonical, print_yaml
from hvdsl.grammar.yaml.reader import read_yaml
from hvdsl.runtime.distributions import Normal, bounded, logvar
from hvdsl.runtime.latents import FreeBits
from hvdsl.runtime.latents.group import default_temperatures
from tests.compiler.elaborate.small_models import faults, model, text

LEVEL = """
group level(n = 4) {{
  z ~ normal({prior}) posterior normal(skip -> conv(1x1, 2 * n)) {settings}
  x + (z -> conv(1x1, channels))
}}"""


def level(settings: str, prior: str = "standard(n)") -> str:
    return LEVEL.format(settings=settings, prior=prior)


def test_settings_are_expressions_of_their_place() -> None:
    (latent,) = model(
        level=level("{ weight = n / 8, free = at_least(0.1, per = channel), temperature = res / 10 }")
    ).graph.latents
    assert latent.settings == LatentSettings(weight=0.5, free=AtLeast(nats=0.1, per="channel"), temperature=0.8)
    assert model(level=level("{ free = none }")).graph.latents[0].settings == LatentSettings(free="none")
    assert model().graph.latents[0].settings is None


def test_emitted_groups_carry_them_and_sampling_takes_their_temperature() -> None:
    own = level("{ weight = 0.5, free = at_least(0.1, when = training), temperature = 0.3 }")
    decoder = "8: learned(zeros, 8) -> level * 2 -> conv(1x1, logits)"
    module = load_module(write(model(level=own, decoder=decoder)), "own_settings").Model()
    assert [(g.weight, g.free, g.temperature) for g in module.LATENTS] == [
        (0.5, FreeBits(0.1, when="training"), 0.3)
    ] * 2
    assert default_temperatures(module.LATENTS, 1.0) == (0.3, 0.3)


@pytest.mark.parametrize(
    "statement",
    [
        "z ~ normal(p) posterior normal(q) { weight = 0.5, free = none }",
        "z ~ normal(p) posterior normal(q) -> iaf { h = conv(3x3, 8) } { temperature = 0.9 }",
        "z ~ normal(p) posterior normal(q) -> iaf { weight = conv(3x3, 8); x = weight }",
        "z ~ normal(p) { weight = 2 }",
    ],
)
def test_both_spellings_keep_them(statement: str) -> None:
    spec = read_text(Source("a.hv", text(level=f"group level {{\n  {statement}\n}}\n")))
    assert print_text(read_text(Source("b.hv", print_text(spec)))) == print_text(spec)
    assert statement in print_text(spec).replace("{\n    ", "{ ").replace("\n    ", "; ").replace("\n  }", " }")
    assert read_yaml(Source("a.yaml", print_yaml(spec))) == canonical(spec)


@pytest.mark.parametrize(
    ("settings", "code", "place"),
    [
        ("{ wieght = 1, free = none }", "HV0601", "wieght"),
        ("{ weight = -1 }", "HV0602", "-1"),
        ("{ weight = 1, weight = 2 }", "HV0206", "weight"),
        ("{ weight = count }", "HV0409", "count"),
        ("{ free = 3 }", "HV0602", "3"),
    ],
)
def test_mistakes_in_them_are_told_at_their_place(settings: str, code: str, place: str) -> None:
    (fault,) = faults(level=level(settings))
    assert (fault.code.id, fault.span.text if fault.span else "") == (code, place)


def test_codes_have_none_of_them() -> None:
    codes = LEVEL.replace("normal({prior})", "codebook(8, n)").replace(
        "normal(skip -> conv(1x1, 2 * n))", "nearest_code(skip -> conv(1x1, n))"
    )
    (fault,) = faults(level=codes.format(settings="{ temperature = 0.5 }"))
    assert fault.code.id == "HV0604"


def test_scales_by_log_variance_and_within_bounds() -> None:
    raw = torch.linspace(-3, 3, 7).reshape(1, 7, 1, 1)
    params = torch.cat([torch.zeros_like(raw), raw], 1)
    torch.testing.assert_close(Normal(params, scale=logvar()).scale.square(), raw.exp())
    limited = Normal(
        torch.cat([torch.zeros(1, 2, 1, 1), torch.tensor([-99.0, 99.0]).reshape(1, 2, 1, 1)], 1), scale=bounded(0.5, 2)
    )
    assert limited.scale.flatten().tolist() == [0.5, 2.0]
    emitted = write(model(level=level("", "conv(1x1, 2 * n), scale = bounded(0.5, 2)")))
    assert "scale=bounded(least=0.5, most=2)" in emitted
    (fault,) = faults(level=level("", "conv(1x1, 2 * n), scale = bounded(2, 0.5)"))
    assert "wrong way round" in fault.message
