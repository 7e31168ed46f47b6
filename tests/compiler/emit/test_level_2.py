"""Level 2: the source of level 1, its repeated recipes through `torch.compile`."""

from __future__ import annotations

import copy
import pickle
import shutil

import pytest
import torch

import hvdsl
from hvdsl.grammar.source import Source
from hvdsl.runtime.latents import Source as From
from hvdsl.runtime.training.recipes import CompilationError, compile_recipes
from tests.compiler.emit.emit_specs import HEAD, SHARING
from tests.compiler.emit.test_emitted_code import assert_same, compiled, images, shaken, walk

# One graph is enough: compilation takes seconds for each.
ONE_SHAPE = (
    HEAD.format(name="one_shape")
    + """
cell block { residual { gelu -> conv(3x3, width) } }
group level {
  z ~ normal(conv(1x1, 4)) posterior normal(concat(x, skip) -> conv(1x1, 4))
  x + (z -> conv(1x1, width)) -> block
}
encoder { 8: conv(3x3, width) -> block -> tap }
decoder { 8: learned(zeros, width) -> level * 2 -> conv(1x1, logits) }
"""
)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")


def test_the_source_is_that_of_level_1() -> None:
    assert compiled("vdvae", 2).source == compiled("vdvae", 1).source


@needs_compiler
def test_the_outermost_repeated_recipes_without_latents_are_compiled() -> None:
    module = compiled("vdvae").build()
    names = list(module.state_dict())
    assert compile_recipes(module) == 10 + 8 * 3  # the encoder's blocks; in each layer q, p and the block
    assert "forward" in vars(module.decoder.r4.layer[0].block[0])
    assert "forward" not in vars(module.decoder.r4.layer[0]) and "forward" not in vars(module.encoder)
    assert list(module.state_dict()) == names


@pytest.mark.slow
@needs_compiler
def test_a_compiled_model_can_be_copied_and_pickled_after_a_step() -> None:
    module = hvdsl.build(Source("small.hv", ONE_SHAPE), level=2)
    module(images(), walk(module)).square().mean().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    again = copy.deepcopy(module)
    recipe = again.decoder.r8.level[0].block[0]
    assert recipe.forward.__self__ is recipe
    expected = module.eval()(images(), walk(module))
    for other in (again, pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(other.eval()(images(), walk(module)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@needs_compiler
def test_outputs_rates_and_gradients_are_those_of_level_0() -> None:
    text = Source("small.hv", ONE_SHAPE)
    plain = shaken(hvdsl.compile(text, level=0))
    fast = hvdsl.build(text, level=2).double().eval()
    fast.load_state_dict(plain.state_dict())
    results = []
    for module in (plain, fast):
        latents = walk(module)
        output = module(images(), latents)
        (output.square().mean() + latents.rates.sum()).backward()
        generated = module(None, walk(module, From.PRIOR))
        results.append([output, latents.rates, generated, *(p.grad for p in module.parameters() if p.grad is not None)])
    assert_same(*results)


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompilationError, match="`no-such-compiler` is not installed"):
        hvdsl.build(Source("sharing.hv", SHARING), level=2)
