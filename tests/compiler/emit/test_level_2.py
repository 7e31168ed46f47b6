"""Level 2: the source of level 1, its repeated recipes through `torch.compile`."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

import hvdsl
from hvdsl.grammar.source import Source
from hvdsl.runtime.latents import Source as From
from hvdsl.runtime.training.step import recipes
from hvdsl.runtime.training.step.recipes import CompilationError, compile_recipes
from tests.compiler.emit.emit_specs import HEAD, SHARING, compiled
from tests.compiler.emit.test_emitted_code import assert_same, images, shaken, walk

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


def test_torch_that_takes_no_limit_of_a_function_gets_it_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch 2.11 does."""
    limits: list[int] = []

    def compile_of_old(forward: Callable[..., Any], *, dynamic: bool) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            limits.append(torch._dynamo.config.recompile_limit)
            return forward(*args)

        return called

    monkeypatch.setattr(torch, "compile", compile_of_old)
    monkeypatch.setattr(recipes, "check_machine", lambda devices: None)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    before = torch._dynamo.config.recompile_limit
    module = compiled("vdvae").build().double()
    recipes.compile_recipes(module)
    module(images(), walk(module))
    assert set(limits) == {recipes.MOST_VERSIONS} and torch._dynamo.config.recompile_limit == before


def test_what_is_generated_is_kept_in_the_users_folder_for_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "check_machine", lambda devices: None)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/somebody/caches")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back, whatever it was
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    recipes.compile_recipes(compiled("vdvae").build())
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/home/somebody/caches/hvdsl/compiled"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    recipes.compile_recipes(compiled("vdvae").build())
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"


@pytest.mark.slow
@needs_compiler
def test_a_compiled_model_can_be_copied_and_pickled_after_a_step() -> None:
    module = hvdsl.build(Source("small.hv", ONE_SHAPE), level=2).double()
    module(images(), walk(module)).square().mean().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    again = copy.deepcopy(module)
    recipe = again.decoder.r8.level[0].block[0]
    assert recipe.forward.__self__ is recipe
    expected = module.eval()(images(), walk(module))
    for other in (again, pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(other.eval()(images(), walk(module)), expected)


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
