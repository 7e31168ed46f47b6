"""`hvdsl.compile` and `hvdsl.build`, used as their documentation says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hvdsl
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Traversal

SMALL = {"width": 8}


def test_compile_gives_source_graph_and_a_file_that_stands_alone(tmp_path: Path) -> None:
    compiled = hvdsl.compile("vdvae_digits", overrides=SMALL)
    assert "class VdvaeDigits(nn.Module):" in compiled.source
    assert compiled.graph.number_of_nodes() == len(compiled.model.graph.nodes)
    alone = tmp_path / "alone.py"
    alone.write_text(compiled.standalone())
    script = "import sys, alone; alone.Model(); sys.exit('hvdsl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={}, check=False).returncode == 0


def test_compiling_imports_no_torch() -> None:
    script = "import sys, hvdsl; hvdsl.compile('vdvae_digits'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_built_model_infers_and_generates() -> None:
    model = hvdsl.build("vdvae_digits", overrides=SMALL)
    v = torch.zeros(2, 1, 8, 8)
    latents = Traversal.infer(model.LATENTS, 2, SampleNoise(0, range(2)))
    params = model(model.input(v), latents)
    nats = latents.rates.sum(0) - model.likelihood.log_prob(params, model.target(v))
    assert nats.shape == (2,)
    prior = Traversal.generate(model.LATENTS, 2, SampleNoise(0, range(2)))
    assert model(None, prior).shape == params.shape


def test_equal_seeds_give_equal_parameters() -> None:
    first, again, other = (hvdsl.build("vdvae_digits", overrides=SMALL, seed=seed) for seed in (1, 1, 2))
    name = "encoder.r8.conv.0.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def test_overrides_are_python_values() -> None:
    settings = hvdsl.compile("vdvae_digits", overrides={"train.batch": 16, "data.flip": True}).model.settings
    assert settings.train.batch == 16
    assert settings.data.flip is True


def test_a_wrong_spec_raises_with_everything_that_is_wrong() -> None:
    text = "hv 1\nmodel two\nencoder { 8: conf(3x3, 8) -> tapp }\n"
    with pytest.raises(SpecError) as failure:
        hvdsl.compile(Source("two.hv", text))
    assert len(failure.value.diagnostics) > 1


def test_a_wrong_override_says_what_there_is() -> None:
    with pytest.raises(SpecError) as failure:
        hvdsl.build("vdvae_digits", overrides={"widht": 8})
    assert "width" in failure.value.diagnostics[0].help
