"""Names of a spec that Python, torch or emitted code also use: nothing that a spec may be called collides."""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import keyword
import sys

import pytest
import torch

import hvdsl
from hvdsl.compiler.elaboration.environment import PUBLIC_OPERATIONS, RESERVED
from hvdsl.compiler.emit import emit_priors, emit_steps
from hvdsl.compiler.emit.runtime_index import exports
from hvdsl.compiler.graph import MODULE_ATTRIBUTES
from hvdsl.compiler.load import load_module
from hvdsl.compiler.pipeline import check
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import draw_codes, greedy

SPEC = """hv 1
model {model}
data digits {{ shape = 1x8x8, bits = 4, input = v, binarize = threshold }}
let {let} = 4
cell {cell}(n) {{ residual {{ gelu -> conv(3x3, n) }} }}
group {group} {{
  {bind} = gelu -> conv(1x1, 4)
  {latent} ~ normal({bind}) posterior normal(concat(x, skip({tap})) -> conv(1x1, 4))
  x + ({latent} -> conv(1x1, {let}))
}}
encoder {{ 8: conv(3x3, {let}) -> {cell}({let}) * 2 -> tap({tap}) }}
decoder {{ 8: learned(zeros, {let}) -> {group} * 2 -> {cell}({let}) -> conv(1x1, logits) }}
likelihood bernoulli
objective {{ unit = nats_per_image }}
"""
ROLES = ("model", "let", "cell", "group", "bind", "latent", "tap")
IN_EMITTED_CODE = """
    Model PRIORS STEPS LATENTS CODES CONDITIONS WAVEFRONT_SKEW F Tensor nn torch annotations math self cls super range
    enumerate begin draw start infer inferred batch device dtype buffers prior posterior encoder decoder likelihood
    input target forward latents model h i j k q p r8 r4 skip z out a b append split Module ModuleList conv2d block
    layer learned normal steps codes constants operands attention linear convolution
"""


def of_python_torch_and_ours() -> list[str]:
    names = {*keyword.kwlist, *keyword.softkwlist, *MODULE_ATTRIBUTES, *IN_EMITTED_CODE.split(), *exports()}
    names |= {name for name in (*dir(builtins), *dir(torch.nn.functional)) if name.islower() and name[0] != "_"}
    context = {"label", "count", "latents", "index", "channels", "height", "width_px", "res", "logits"}
    return sorted(names - set(RESERVED) - set(PUBLIC_OPERATIONS) - context - {"self_"})


NAMES = of_python_torch_and_ours()
CHUNK = 40


@pytest.mark.parametrize("start", range(0, len(NAMES), CHUNK))
def test_a_model_whose_names_are_others_compiles_and_runs(start: int) -> None:
    for i in range(start, min(start + CHUNK, len(NAMES)), 4):
        chosen = {role: NAMES[(i + 53 * k) % len(NAMES)] for k, role in enumerate(ROLES)}
        module = hvdsl.build(Source("names.hv", SPEC.format(**chosen)))
        walk = Traversal(module.LATENTS, 2, SampleNoise(0, range(2)))
        assert module(torch.zeros(2, 1, 8, 8), walk).shape == (2, 1, 8, 8), chosen
        assert [group.name for group in module.LATENTS] == [chosen["latent"]] * 2


@pytest.mark.parametrize("role", ["model", "cell", "latent"])
@pytest.mark.parametrize("name", ["is", "class", "None", "normal", "learned", "conv2d", "self", "Recipe", "Scope", "x"])
def test_names_that_once_collided(role: str, name: str) -> None:
    names = {
        "model": "small",
        "let": "wide",
        "cell": "net",
        "group": "level",
        "bind": "mix",
        "latent": "u",
        "tap": "up",
    }
    if name in RESERVED or name in PUBLIC_OPERATIONS:
        name = name.capitalize()
    module = hvdsl.build(Source("names.hv", SPEC.format(**{**names, role: name})))
    assert module(torch.zeros(2, 1, 8, 8), Traversal(module.LATENTS, 2, SampleNoise(0, range(2)))).shape[0] == 2


CODES = """hv 1
model {model}
data images {{ shape = 1x4x4, bits = 8, input = v / 255, classes = 3 }}
cell {cell} {{ elu -> conv(1x1, 6) }}
encoder {{ 4: conv(3x3, 8) -> tap }}
decoder {{ 4: {{ {z} ~ codebook(6, 4) posterior nearest_code(skip -> conv(1x1, 4)); x = {z} -> conv(1x1, logits) }} }}
likelihood mse
objective {{ unit = mean_square }}
prior {z} {{ conv(3, 8, mask = causal(exclude)) + (label -> conv(1x1, 8)) -> {cell} }}
"""


@pytest.mark.parametrize(
    "names",
    [
        ("Model", "class", "is"),
        ("codes", "prior_", "x"),
        ("PRIORS", "buffers", "self"),
        ("F", "one_hot", "h"),
        ("STEPS", "torch", "CodeMap"),
        ("like", "j", "None"),
        ("nn", "Tensor", "StepBuffers"),
        ("super", "z_prior", "Attention"),
        ("gate", "codes_0", "linear"),
    ],
)
def test_priors_whose_names_are_others_are_drawn(names: tuple[str, str, str]) -> None:
    cell, z, model = names
    spec = check(Source("names.hv", CODES.format(model=model, cell=cell, z=z)))
    prior = load_module(emit_priors(spec), "named_priors").PRIORS[z]()
    initialize(prior, 1)
    stepwise = StepwisePrior(prior, load_module(emit_steps(spec), "named_steps").STEPS[z])
    label = torch.tensor([0, 2])
    drawn = draw_codes(stepwise, greedy, (label,), batch=2)
    with torch.no_grad():
        assert torch.equal(prior(drawn, label).argmax(1), drawn)


def test_standalone_names_are_apart_too() -> None:
    names = dict(zip(ROLES, ("normal", "F", "scope", "recipe", "torch", "is", "x_"), strict=True))
    done = hvdsl.compile(Source("names.hv", SPEC.format(**names)))
    space: dict[str, object] = {"__name__": "alone_with_names"}
    sys.modules["alone_with_names"] = importlib.util.module_from_spec(  # dataclasses look their module up
        importlib.machinery.ModuleSpec("alone_with_names", None)
    )
    try:
        exec(compile(done.standalone(), "<alone>", "exec"), space)
        module = space["Model"](seed=1)  # type: ignore[operator]
        walk = space["Traversal"](module.LATENTS, 2, space["SampleNoise"](0, range(2)))  # type: ignore[operator]
        assert module(torch.zeros(2, 1, 8, 8), walk).shape == (2, 1, 8, 8)
    finally:
        del sys.modules["alone_with_names"]
