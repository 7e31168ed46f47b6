"""A trained model for others: exported programs, ONNX graphs, a folder for a model hub."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import hvdsl
from hvdsl.grammar import print_text
from hvdsl.runtime.training.folder.weights import save_weights
from hvdsl.workflows import export
from hvdsl.workflows.programs import examples, programs

from .conftest import Loaded
from .models import CODES

SMALL = """hv 1
model small
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
encoder { 8: conv(3x3, 4) -> { x + attention(x, x, x, heads = 2) } -> tap }
decoder { 8: {
  x = learned(zeros, 4)
  z ~ normal(x) posterior normal(concat(x, skip) -> conv(1x1, 4))
  z -> conv(1x1, logits)
} }
likelihood discretized_logistic
objective { unit = nats_per_dim }
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> hvdsl.Trained:
    compiled = hvdsl.compile(hvdsl.Source("small.hv", SMALL))
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_weights(compiled.build(1), path, print_text(compiled.model.resolved), step=3)
    return hvdsl.load(path, device="cpu")


@pytest.mark.slow
def test_programs_take_noise_and_any_number_of_images(small: hvdsl.Trained, tmp_path: Path) -> None:
    from torch.export.pt2_archive._package import load_pt2

    [path] = small.export(tmp_path / "model.pt2")
    images = torch.randint(0, 16, (7, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    reconstruct = torch.export.load(path).module()
    assert torch.equal(reconstruct(images.float()).round().to(torch.uint8), small.reconstruct(images))
    programs = load_pt2(path).exported_programs
    assert set(programs) == {"encode", "decode", "model", "sample"}
    [z] = programs["encode"].module()(images.float())
    assert torch.allclose(z, small.encode(images)["z"], atol=1e-6)
    assert torch.allclose(programs["decode"].module()(z), reconstruct(images.float()), atol=1e-4)
    with zipfile.ZipFile(path) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("programs.json")]
        about = json.loads(archive.read(name))
    noise = [torch.rand(2, *(2, 8, 8)) if kind == "normal" else torch.rand(2, 1, 8, 8) for kind in
             about["sample"]["noise"].values()]  # fmt: skip
    drawn = programs["sample"].module()(*noise)
    assert drawn.shape == (2, 1, 8, 8) and not torch.equal(drawn[0], drawn[1])


CLASSES = """hv 1
model classes
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
encoder { 8: conv(4x4, 4, stride = 4) -> tap }
decoder {
  2: { k ~ categorical(learned(zeros, 4)) posterior categorical(skip)
       k }
  8: upconv(4x4, logits, stride = 4)
}
likelihood discretized_logistic
objective { unit = nats_per_dim }
"""


@pytest.mark.parametrize("text", [CLASSES, CODES])
def test_classes_and_codes_go_through_programs_of_any_number_of_images(text: str) -> None:
    compiled = hvdsl.compile(hvdsl.Source("small.hv", text))
    made = programs(compiled.build(1), compiled.model.settings)
    assert ("sample" in made) == (text is CLASSES)  # codes start from priors of their own
    for name in ("encode", "decode"):
        traced = made[name].trace(examples(made, compiled.model.settings.data, 3, seed=0)[name]).module()
        inputs = examples(made, compiled.model.settings.data, 5, seed=1)[name]
        for found, expected in zip(_tuple(traced(*inputs)), _tuple(made[name].module(*inputs)), strict=True):
            assert torch.allclose(found, expected, atol=1e-4)  # kernels of a graph round in another order


CONDITIONED = """hv 1
model conditioned
data digits {
  shape = 1x8x8, bits = 4, input = v / 7.5 - 1
  given label = 10 classes { drop = 0.1 }
  given noise = 1 { drop = 0.1 }
  given low = 1x4x4 { source = image }
}
encoder { 8: concat(x, low -> nearest(2)) -> conv(3x3, 4) -> tap }
decoder { 8: {
  x = learned(zeros, 4)
  z ~ normal(concat(x, label, noise) -> conv(1x1, 8)) posterior normal(concat(x, skip, label) -> conv(1x1, 8))
  concat(z, label) -> conv(1x1, logits)
} }
likelihood discretized_logistic
objective { unit = nats_per_dim }
"""


def test_programs_take_conditions_by_their_names() -> None:
    compiled = hvdsl.compile(hvdsl.Source("small.hv", CONDITIONED))
    made, data = programs(compiled.build(1), compiled.model.settings), compiled.model.settings.data
    names = {name: [condition.name for condition in program.given] for name, program in made.items()}
    assert names["encode"] == names["reconstruct"] == ["label", "noise", "low"]
    assert names["decode"] == names["sample"] == ["label", "noise"]  # only the encoder reads `low`
    traced = made["decode"].trace(examples(made, data, 3, seed=0)["decode"]).module()
    z, label, age = examples(made, data, 5, seed=1)["decode"]
    assert label[-1] == -1 and torch.isnan(age[-1])
    expected = made["decode"]((z, label, age))[0]
    assert torch.allclose(traced(z, label=label, noise=age), expected, atol=1e-4)
    assert not torch.allclose(traced(z, label=9 - label.clamp_min(0), noise=age), expected, atol=1e-2)
    with pytest.raises(ValueError, match="keyword"):
        traced(z, label, age)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".pt2", ".onnx", ""])
def test_a_conditioned_model_is_loaded_back_and_gives_the_same(ending: str, tmp_path: Path) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnxruntime")
    compiled = hvdsl.compile(hvdsl.Source("small.hv", CONDITIONED))
    weights = save_weights(
        compiled.build(1), tmp_path / "small.safetensors", print_text(compiled.model.resolved), step=3
    )
    files = hvdsl.load(weights, device="cpu").export(tmp_path / f"out{ending}")  # which compares what it wrote
    assert files and all(file.exists() for file in files)


def _tuple(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def test_what_gives_something_else_is_refused(
    small: hvdsl.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(module: torch.nn.Module, path: Path, spec: str, *, step: int) -> Path:
        return save_weights(hvdsl.build(hvdsl.Source("small.hv", SMALL), seed=2), path, spec, step=step)

    monkeypatch.setattr(export, "save_weights", other)
    with pytest.raises(hvdsl.Error, match=r"does not give what the model gives: .* differ"):
        small.export(tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_a_folder_is_what_a_model_hub_takes(small: hvdsl.Trained, tmp_path: Path) -> None:
    assert small.export(tmp_path / "hub", license="cc-by-4.0") == [tmp_path / "hub"]
    names = {path.name for path in (tmp_path / "hub").iterdir()}
    assert names >= {"README.md", "model.safetensors", "model.py", "spec.hv", "samples.png", "reconstructions.png"}
    card = (tmp_path / "hub" / "README.md").read_text("utf-8")
    assert "license: cc-by-4.0" in card and "# small" in card
    assert hvdsl.load(tmp_path / "hub" / "model.safetensors").step == 3
    plain = card.split("```python\n")[2].split("```")[0]
    block = "import sys\nsys.modules['hvdsl'] = None\nsys.path.insert(0, '.')\n" + plain + "print(parameters.shape)"
    done = subprocess.run([sys.executable, "-B", "-c", block], cwd=tmp_path / "hub", capture_output=True, text=True)
    assert done.stdout.startswith("torch.Size([1, 1, 8, 8])"), done.stderr
    with pytest.raises(hvdsl.Error, match="there already"):
        small.export(tmp_path / "hub")


def test_other_endings_are_refused(small: hvdsl.Trained, tmp_path: Path) -> None:
    with pytest.raises(hvdsl.UsageError, match=r"\.pt2 or \.onnx"):
        small.export(tmp_path / "model.pt")
    with pytest.raises(hvdsl.UsageError, match="model card of a folder"):
        small.export(tmp_path / "model.pt2", license="mit")


@pytest.mark.slow
def test_onnx_graphs_take_any_number_of_images(small: hvdsl.Trained, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    files = small.export(tmp_path / "model.onnx")
    assert [file.name for file in files] == [f"model.{n}.onnx" for n in ("encode", "decode", "reconstruct", "sample")]
    images = torch.randint(0, 16, (7, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "model.reconstruct.onnx")
    [pixels] = session.run(None, {"pixels": images.float().numpy()})
    assert (torch.from_numpy(pixels) - small.reconstruct(images).float()).abs().max() <= 0.51


@pytest.mark.slow
@pytest.mark.parametrize("name", ["families", "codes", "nvae", "flows"])
def test_every_family_can_be_exported(name: str, loaded: Loaded, tmp_path: Path) -> None:
    assert loaded(name).export(tmp_path / "model.pt2") == [tmp_path / "model.pt2"]
