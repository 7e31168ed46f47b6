"""Emitted modules compute what their graphs say, and their parameters are named as their specs are built."""

from __future__ import annotations

import ast
import copy
import inspect
import os
import pickle
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import hvdsl
from hvdsl import Compiled
from hvdsl.compiler.emit import emit, emit_steps, standalone
from hvdsl.compiler.emit.modules.class_text import docstring
from hvdsl.compiler.graph import MODULE_ATTRIBUTES
from hvdsl.compiler.load import load_module
from hvdsl.compiler.pipeline import check, write
from hvdsl.grammar import print_text
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.latents import Source as From
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import draw_codes, greedy
from hvdsl.runtime.training.step.recipes import checkpoint_groups
from tests.compiler.elaborate.small_models import text as small_text
from tests.compiler.emit.emit_specs import ALL, LADDER, VDVAE, compiled
from tests.compiler.emit.reference import interpret
from tests.runtime.priors.test_sampling import BODIES, SPEC

BATCH = 2


def shaken(done: Compiled) -> nn.Module:
    """A built model in float64 and evaluation, with no parameter left at zero."""
    module = done.build().double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return module


def assert_same(results: Iterable[torch.Tensor], expected: Iterable[torch.Tensor], what: str = "") -> None:
    """Two computations of ours agree: both in float64, so that no processor's order of summation matters."""
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == wanted.dtype == torch.float64, what
        torch.testing.assert_close(result, wanted, rtol=1e-9, atol=1e-10, msg=lambda text: f"{what}: {text}")


def images() -> torch.Tensor:
    return torch.randint(0, 2, (BATCH, 1, 8, 8), generator=torch.Generator().manual_seed(2)).double()


def walk(module: nn.Module, source: From = From.POSTERIOR) -> Traversal:
    return Traversal(module.LATENTS, BATCH, SampleNoise(3, range(BATCH)), source)


@pytest.mark.parametrize("name", ALL)
def test_output_rates_and_gradients_are_those_of_the_graph_run_node_by_node(name: str) -> None:
    done = compiled(name)
    module = shaken(done)
    results = []
    for run in (module, lambda x, latents: interpret(done.model.graph, module, x, latents)):
        latents = walk(module)
        output = run(images(), latents)
        module.zero_grad()
        (output.square().mean() + latents.rates.sum()).backward()
        results.append([output, latents.rates, *(p.grad for p in module.parameters() if p.grad is not None)])
    assert_same(*results)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("name", ALL)
def test_parameters_are_named_as_the_graph_names_them(name: str, level: int) -> None:
    done = compiled(name, level)
    own = {node.parameter_path(p.role): p.shape for node in done.model.graph.nodes for p in node.parameters}
    assert {key: tuple(value.shape) for key, value in done.build().state_dict().items()} == own


@pytest.mark.parametrize("name", ALL)
def test_generation_runs_nothing_that_only_the_posterior_needs(name: str) -> None:
    module = shaken(compiled(name))
    ran: list[str] = []
    for path, part in module.named_modules():
        part.register_forward_hook(lambda *_, path=path: ran.append(path))
    output = module(None, walk(module, From.PRIOR))
    assert output.shape == (BATCH, 1, 8, 8)
    assert not [path for path in ran if path.startswith("encoder") or ".q." in path or ".s." in path]


@pytest.mark.parametrize("name", ALL)
def test_the_first_groups_inferred_and_the_rest_generated(name: str) -> None:
    module = shaken(compiled(name))
    latents = Traversal.reconstruct(module.LATENTS, BATCH, SampleNoise(3, range(BATCH)), keep=2)
    module(images(), latents)
    rates = latents.rates.sum(1)
    assert (rates[:2] > 0).all() and (rates[2:] == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_source_is_the_same_every_time_and_clean(name: str, tmp_path: Path) -> None:
    source = compiled(name).source
    assert source == compiled(name).source
    file = tmp_path / "model.py"
    file.write_text(source)
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    rules = [
        "--isolated",
        "--line-length=110",
        "--select=E,F,I,N",
        "--ignore=N812",
        "--config",
        'lint.isort.known-first-party=["hvdsl"]',
    ]
    found = subprocess.run([ruff, "check", *rules, str(file)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_source_does_not_depend_on_the_order_of_hashes() -> None:
    code = (
        "import sys, hvdsl; from hvdsl.grammar.source import Source; from tests.compiler.emit.emit_specs import ALL\n"
    )
    code += "for name, text in ALL.items(): sys.stdout.write(hvdsl.compile(Source(name, text)).source)"
    written = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert written[0] == written[1] != b""


def test_repeats_are_loops() -> None:
    source = compiled("vdvae").source
    assert "for i, layer in enumerate(self.r4.layer):" in source
    assert "x = layer(x, skip_4, latents[1 + i : 2 + i])" in source
    assert "for block in self.r1.block:" in source
    assert "for i in range(4))" in source  # the latents


def test_taps_of_repeats_are_lists_read_in_reverse() -> None:
    source = compiled("mirrored").source
    assert "skip_8.append(x)" in source
    assert "skip_4[3 - i]" in source


def test_instances_that_differ_in_numbers_share_a_class_and_others_get_a_number() -> None:
    source = compiled("vdvae").source
    assert source.count("class Bottleneck") == 1
    assert "def __init__(self, channels: int, k: tuple[int, int], out: int, last: Init) -> None:" in source
    assert "class Row2(Recipe):" in compiled("mirrored").source


def test_parameters_of_a_recipe_are_named_within_a_tuple() -> None:
    top = "cell parts(a, b) { u, w = split(a, b)\n concat(w, u) }"
    row = "8: conv(3x3, 8) -> parts(3, 5) -> conv(1x1, 8) -> parts(2, 6) -> tap"
    source = hvdsl.compile(Source("parts.hv", small_text(top=top, encoder=row))).source
    assert "def __init__(self, a: int, b: int) -> None:" in source and "x.split((self.a, self.b), 1)" in source


def test_a_target_says_what_it_is_made_of() -> None:
    spec = small_text().replace("likelihood bernoulli", "likelihood normal").replace("nats_per_image", "nats_per_dim")
    for target, said in (("clean / 15", "Map `clean`, which stands beside"), ("clean - v", "Map `clean` and `v` to")):
        data = f"input = v / 15, target = {target}, given clean = 1x8x8 {{ input = v / 15 }}"
        text = spec.replace("input = v, binarize = threshold", data)
        assert f'"""{said}' in hvdsl.compile(Source("target.hv", text)).source


def test_classes_that_a_rewrite_specialises_say_how() -> None:
    source = hvdsl.compile("vdvae_digits").source
    assert "class BottleneckOfConcat(Recipe):" in source and "class BottleneckOfActivated(Recipe):" in source
    assert "class GatedWithSeen(Recipe):" in hvdsl.compile("vqvae2_photos").source


def test_lets_are_constants_and_computed_fractions_say_from_what() -> None:
    source = hvdsl.compile("vdvae_digits").source
    assert "\nWIDTH = 32\n" in source and "Conv2d(8, WIDTH, (1, 1), weight_init=last, bias_init=zeros())" in source
    assert "self.r1 = Scope(block=[Block((1, 1), scaled(0.4472135954999579))])  # 1 / sqrt(count)" in source
    varied = hvdsl.compile("vdvae_digits", overrides={"zdim": 3}).source
    assert "ZDIM" not in varied  # only ever a part of an argument, as in `2 * zdim`
    assert "\nN_CODES = 128\n" in hvdsl.compile("vqvae2_photos").source  # `CODES` is an attribute of priors


def test_the_comment_above_a_recipe_is_its_docstring() -> None:
    source = hvdsl.compile("vdvae_digits").source
    assert '"""Four pre-activated convolutions; 1x1 kernels where the map is too small for 3x3.' in source


@pytest.mark.parametrize("spec", ["vdvae_digits", "vqvae2_photos", "nvae_digits", "biva_cifar10"])
def test_the_resolved_spec_gives_the_same_text_byte_for_byte(spec: str) -> None:
    model = check(spec, ["data.holdout=100"] if spec == "vdvae_digits" else [])
    again = check(Source("resolved.hv", print_text(model.resolved)))
    assert write(again) == write(model)
    assert not model.priors or emit_steps(again) == emit_steps(model)


@pytest.mark.parametrize("spec", ["nvae_cifar10", "vdvae_ffhq1024", "vqvae2_256", "biva_cifar10"])
def test_lines_are_at_most_110_wide(spec: str) -> None:
    model = check(spec)
    for text in (write(model), emit_steps(model) if model.priors else ""):
        assert max(map(len, text.splitlines()), default=0) <= 110


def test_values_keep_the_names_of_the_spec() -> None:
    source = compiled("vdvae").source
    assert "p, feature = self.p.bottleneck[0](x).split((4, 8), 1)" in source
    assert "z = latents[0].draw(Normal(p), posterior)" in source


@pytest.mark.parametrize("text", ['"""; import os', "ends in \\", "two\nlines", "\x00\u2028", "{braces} %s"])
def test_a_title_cannot_break_out_of_its_string(text: str) -> None:
    statement = ast.parse(docstring(text)).body
    assert len(statement) == 1
    assert isinstance(statement[0], ast.Expr) and isinstance(statement[0].value, ast.Constant)


def test_names_that_python_or_torch_use_are_kept_apart() -> None:
    text = LADDER.replace("mlp", "half").replace("hidden", "lambda").replace("rise", "sequence")
    module = shaken(hvdsl.compile(Source("names.hv", text)))
    assert module(images(), walk(module)).shape == (BATCH, 1, 8, 8)


def test_tracebacks_and_inspect_show_the_source() -> None:
    module = compiled("vdvae").build()
    assert inspect.getsource(type(module)).startswith("class SmallVdvae(nn.Module):")
    with pytest.raises(RuntimeError) as caught:
        module(torch.zeros(BATCH, 3, 8, 8), walk(module))
    assert "x = self.r8.conv[0](x)" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ALL)
def test_modules_can_be_copied_with_forwards_of_their_own(name: str) -> None:
    module = shaken(compiled(name))
    checkpoint_groups(module)
    again = copy.deepcopy(module)
    before = again(images(), walk(module))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert type(again) is type(module)
    assert torch.equal(again(images(), walk(module)), before)
    assert not torch.equal(module(images(), walk(module)), before)
    module.train()(images(), walk(module)).square().mean().backward()
    assert all(p.grad is None for p in again.parameters())


def test_pickled_modules_open_where_they_were_never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: shaken(compiled(name)) for name in ALL}
    pickles = {name: pickle.dumps(module) for name, module in modules.items()}
    monkeypatch.setattr("hvdsl.compiler.load._loaded", {})  # as in a process that has seen none of them
    for name in [n for n in sys.modules if n.startswith("hvdsl.emitted.")]:
        monkeypatch.delitem(sys.modules, name)
    for name, module in modules.items():
        opened = pickle.loads(pickles[name])
        assert type(opened) is not type(module) and type(opened).__name__ == type(module).__name__
        assert torch.equal(opened(images(), walk(module)), module(images(), walk(module)))


@pytest.mark.parametrize("name", ALL)
def test_a_doubled_model_computes_in_double(name: str) -> None:
    module = shaken(compiled(name)).double()
    for x, source in ((images().double(), From.POSTERIOR), (None, From.PRIOR)):
        latents = walk(module, source)
        output = module(x, latents)
        assert {output.dtype, *(z.dtype for z in latents.z)} == {torch.float64}
    assert {b.dtype for b in module.buffers() if b.is_floating_point()} <= {torch.float64}


def test_a_pass_that_cannot_be_is_refused_in_words() -> None:
    module = shaken(compiled("vdvae"))
    with pytest.raises(ValueError, match=r"takes its posterior sample, which needs an image: give one, or generate"):
        module(None, walk(module))
    with pytest.raises(ValueError, match="the traversal is of 2 images, the batch has 3"):
        module(torch.zeros(3, 1, 8, 8), walk(module))
    with pytest.raises(ValueError, match="groups, the model has"):
        module(images(), walk(shaken(compiled("upwards"))))


CONDITIONAL = """hv 1
model conditional
data digits { shape = 1x8x8, bits = 4, input = v, binarize = threshold, classes = 3 }
group level {
  z ~ normal(concat(x, label -> nearest(8)) -> conv(1x1, 4)) posterior normal(concat(x, skip) -> conv(1x1, 4))
  x + (z -> conv(1x1, 4)) + (label -> conv(1x1, 4))
}
encoder { 8: conv(3x3, 4) -> tap }
decoder { 8: learned(zeros, 4) -> level * 2 -> conv(1x1, logits) }
likelihood bernoulli
objective { unit = nats_per_image }
"""


def test_conditions_are_keywords_after_the_latents_and_classes_may_be_absent() -> None:
    done = hvdsl.compile(Source("conditional.hv", CONDITIONAL))
    assert "def forward(self, x: Tensor | None, latents: Traversal, *, label: Tensor) -> Tensor:" in done.source
    assert "def forward(self, x: Tensor, label: Tensor, skip: Tensor | None, latents: Traversal)" in done.source
    module = shaken(done)

    def of(x: torch.Tensor | None, *classes: int) -> torch.Tensor:
        source = From.PRIOR if x is None else From.POSTERIOR
        output: torch.Tensor = module(x, walk(module, source), label=torch.tensor(classes))
        return output

    for x in (images(), None):
        assert not torch.equal(of(x, 0, 1), of(x, 0, 2))
        assert torch.equal(of(x, 0, 1)[0], of(x, 0, 2)[0])
        assert not torch.equal(of(x, -1, -1), of(x, 0, 0))
    with torch.no_grad():  # without the condition's own weights every class is as none
        for level in module.decoder.r8.level:
            level.conv[1].weight.zero_()
            level.z.prior.conv[0].weight[:, 4:].zero_()
    torch.testing.assert_close(of(None, -1, -1), of(None, 2, 1))
    assert module.double()(images().double(), walk(module), label=torch.tensor([0, 1])).dtype == torch.float64


def test_a_module_that_fails_to_load_leaves_nothing_behind() -> None:
    with pytest.raises(NameError):
        load_module("undefined\n", "broken")
    assert "hvdsl.emitted.broken" not in sys.modules


def test_compiling_imports_no_torch() -> None:
    code = f"import sys, hvdsl; from hvdsl.grammar.source import Source; hvdsl.compile(Source('a.hv', {VDVAE!r}))"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


STANDALONE = """
import importlib, sys
sys.modules["hvdsl"] = None
import torch
x = torch.load("images.pt", weights_only=True)
for name in sys.argv[1:]:
    model = importlib.import_module(name)
    vae = model.Model().double()
    vae.load_state_dict(torch.load(name + ".weights.pt", weights_only=True))
    vae.eval()
    latents = model.Traversal(vae.LATENTS, len(x), model.SampleNoise(3, range(len(x))))
    prior = model.Traversal(vae.LATENTS, len(x), model.SampleNoise(3, range(len(x))), model.Source.PRIOR)
    with torch.no_grad():
        output, drawn = vae(vae.input(x), latents), vae(None, prior)
        image = vae.likelihood.sample(drawn, model.SampleNoise(4, range(len(x))))
        score = vae.likelihood.log_prob(output, vae.target(x))
        torch.save([output, latents.rates, score, drawn, image], name + ".results.pt")
"""


def test_standalone_files_run_where_hvdsl_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(STANDALONE)
    torch.save(images(), tmp_path / "images.pt")
    modules = {name: shaken(compiled(name)) for name in ALL}
    for name, module in modules.items():
        text = compiled(name).standalone()
        assert "hvdsl.runtime" not in [line.split()[1] for line in text.splitlines() if line.startswith("from ")]
        (tmp_path / f"{name}.py").write_text(text)
        torch.save(module.state_dict(), tmp_path / f"{name}.weights.pt")
    subprocess.run(
        [sys.executable, "run.py", *ALL], cwd=tmp_path, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    for name, module in modules.items():
        with torch.no_grad():
            latents = walk(module)
            output = module(images(), latents)
            drawn = module(None, walk(module, From.PRIOR))
            image = module.likelihood.sample(drawn, SampleNoise(4, range(BATCH)))
            expected = [output, latents.rates, module.likelihood.log_prob(output, images()), drawn, image]
        results = torch.load(tmp_path / f"{name}.results.pt", weights_only=True)
        assert_same(results, expected, name)


def test_a_standalone_file_is_initialised_when_constructed_and_draws_codes_by_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = check(Source("small.hv", SPEC.format(body=BODIES["strict"], more="")))
    text = standalone(emit(model), emit_steps(model))
    assert "hvdsl" not in [line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith("from ")]
    alone = ModuleType("alone")
    monkeypatch.setitem(sys.modules, "alone", alone)  # dataclasses look their module up
    exec(compile(text, "alone.py", "exec"), alone.__dict__)
    first, second, other = (alone.Model(**seed).state_dict() for seed in ({}, {"seed": 0}, {"seed": 1}))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    prior = load_module(emit(model), "drawn").PRIORS["z"]()
    initialize(prior, 1)
    steps = load_module(emit_steps(model), "drawn_steps").STEPS["z"]
    drawn = draw_codes(StepwisePrior(prior, steps), greedy, batch=2)
    own = alone.StepwisePrior(alone.PRIORS["z"](seed=1), alone.STEPS["z"])
    assert torch.equal(alone.draw_codes(own, alone.greedy, batch=2), drawn)


def test_every_attribute_of_a_torch_module_is_reserved() -> None:
    own = {name for name in dir(nn.Module()) if not name.startswith("_")}
    assert own <= MODULE_ATTRIBUTES
