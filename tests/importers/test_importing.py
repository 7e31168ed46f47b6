"""`hvdsl import`: files in a release's format become runs that evaluate and sample."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import hvdsl
from hvdsl.cli.main import main
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.importers import WeightsError, rename
from hvdsl.importers.weights import read_release, sources
from hvdsl.runtime.ground.noise import RecordedNoise
from hvdsl.runtime.latents import Traversal
from hvdsl.runtime.training.folder.weights import model_tensors
from tests.golden import nvae_recorded, test_pixelsnail, test_vqvae2
from tests.golden.recorded import FOLDER, SPECS, case, our_names, published_weights

NAME = "a_8bit_32px"
SPEC = FOLDER / "specs" / "vdvae_a.hv"


def imported(weights: Path, out: Path, *options: str) -> int:
    return main(["import", "openai-vdvae", str(weights), "--spec", str(SPEC), "--out", str(out), *options])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run imported from a file as training under data parallelism leaves it, with the recorded images as its data."""
    folder = tmp_path_factory.mktemp("import")
    torch.save({f"module.{key}": value for key, value in published_weights(NAME).items()}, folder / "model.th")
    pixels = case(NAME).image("image_u8").numpy().astype(np.uint8)
    (folder / "data").mkdir()
    for split in ("train", "valid", "test"):
        np.save(folder / "data" / f"{split}.npy", pixels)
    assert imported(folder / "model.th", folder / "run", "--data", str(folder / "data")) == 0
    return folder / "run"


def test_an_imported_run_gives_the_recorded_numbers(run: Path) -> None:
    trained = hvdsl.load(run, device="cpu")
    recorded, module = case(NAME), trained.model
    splits = hvdsl.open_data(trained.spec, data=run.parent / "data")
    v = torch.from_numpy(splits.test.batch(range(2)).astype(np.float32))
    latents = Traversal.infer(module.LATENTS, 2, RecordedNoise(2, recorded.noise()))
    with torch.no_grad():
        log_likelihood = module.likelihood.log_prob(module(module.input(v), latents), module.target(v))
    distortion, rate = -log_likelihood / v[0].numel(), latents.rates.sum(0) / v[0].numel()
    assert distortion.tolist() == pytest.approx(recorded.tensors["distortion"].tolist(), rel=1e-5)
    assert rate.tolist() == pytest.approx(recorded.tensors["rate"].tolist(), rel=1e-5)


def test_an_imported_run_evaluates_and_samples(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--json", "--device", "cpu"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 2
    # Other noise than the recorded, which these untrained weights amplify.
    assert result["bits_per_dim"] == pytest.approx(case(NAME).facts["bits_per_dim_float64"], rel=0.3)
    assert len(result["rate_per_group"]) == case(NAME).facts["n_groups"]
    assert main(["sample", str(run), "-n", "2", "--device", "cpu", "-o", str(tmp_path / "samples.png")]) == 0
    assert (tmp_path / "samples.png").is_file()


@pytest.mark.parametrize("ending", [".safetensors", ".th"])
def test_every_form_of_the_file_gives_the_same_run(run: Path, tmp_path: Path, ending: str) -> None:
    weights = tmp_path / f"plain{ending}"
    save = save_file if ending == ".safetensors" else torch.save
    save(published_weights(NAME), weights)
    assert imported(weights, tmp_path / "run") == 0
    first, second = (folder / "checkpoints" / "0" / "model.safetensors" for folder in (run, tmp_path / "run"))
    assert first.read_bytes() == second.read_bytes()


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("executed"),)


def _without_one(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    return dict(list(weights.items())[1:])


def _with_another(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    return weights | {"decoder.more.weight": torch.zeros(2)}


def _with_a_wrong_shape(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    return weights | {"encoder.in_conv.weight": torch.zeros(3, 3)}


def _with_more_than_tensors(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    return weights | {"step": 12}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_without_one, "lack"),
        (_with_another, "also hold decoder.more.weight"),
        (_with_a_wrong_shape, "encoder.in_conv.weight is (3, 3)"),
        (_with_more_than_tensors, "named tensors only"),
    ],
)
def test_other_weights_are_refused_and_no_run_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change, sentence: str
) -> None:
    torch.save(change(published_weights(NAME)), tmp_path / "model.th")
    assert imported(tmp_path / "model.th", tmp_path / "run") == 1
    message = capsys.readouterr().err
    assert sentence in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["hostile", "hostile zip", "truncated", "text", "empty", "folder"])
def test_a_file_that_is_no_weights_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "model.th"
    match content:
        case "hostile":
            weights.write_bytes(pickle.dumps(Hostile()))
        case "hostile zip":
            torch.save({"a": Hostile()}, weights)
        case "truncated":
            torch.save(published_weights(NAME), weights)
            weights.write_bytes(weights.read_bytes()[:1000])
        case "text":
            weights.write_text("not weights")
        case "empty":
            weights.touch()
        case "folder":
            weights.mkdir()
    assert imported(weights, tmp_path / "run") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "run").exists()


def test_weights_of_another_spec_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(published_weights(NAME), tmp_path / "model.th")
    arguments = ["--spec", "vdvae_digits", "--out", str(tmp_path / "run")]
    assert main(["import", "openai-vdvae", str(tmp_path / "model.th"), *arguments]) == 1
    assert "is this" in capsys.readouterr().err


@pytest.mark.parametrize("source", sources())
def test_a_release_says_which_names_it_goes_by(source: str) -> None:
    release = read_release(source)
    patterns = " ".join(rule.ours.pattern for rule in release.rules)
    patterns = patterns.replace("z_(?P<level>top|bottom)", "z_top z_bottom")
    patterns = re.sub(r"\(\?P<\w+>|\\[wd]|row\d", " ", patterns)
    places = {"encoder", "decoder", "posterior", "prior", "r", "row", "codes", "counts", "sums", "codebook"}
    words = set(re.findall(r"[a-z]\w*", patterns)) - places - set(OPERATIONS) - {"value", "weight", "gain", "bias"}
    assert words == set(release.names)
    specs = Path(hvdsl.__file__).parent / "specs"
    [text] = [
        p.read_text("utf-8") for p in (specs / release.written_in, specs / "lib" / release.written_in) if p.exists()
    ]
    assert all(re.search(rf"\b{name}\b", text) for name in release.names)


@pytest.mark.parametrize("published", ["encoder.enc_blocks.0.c1.weight", "encoder.in_conv.weight"])
def test_a_renamed_recipe_is_told_what_the_release_calls_it(published: str) -> None:
    ours = {"encoder.r8.block.0.narrow.0.conv.0.weight": (4, 8, 1, 1)}
    with pytest.raises(WeightsError) as caught:
        rename("openai-vdvae", ours, {published: torch.zeros(4, 8, 1, 1)})
    assert "block.0.narrow.0.conv.0.weight has no counterpart" in str(caught.value)
    assert "as `vdvae_cells.hv` has them: `block`, `bottleneck`, `layer`, `p`, `q`" in str(caught.value)


def case_of(source: str) -> tuple[dict[str, tuple[int, ...]], dict[str, torch.Tensor]]:
    """Names and shapes of a small spec's tensors, and those that a release has for it."""
    match source:
        case "openai-vdvae":
            return our_names(hvdsl.compile(FOLDER / "specs" / SPECS["c_custom_widths"])), published_weights(
                "c_custom_widths"
            )
        case "nvidia-nvae":
            name = "f_vanilla_1group"
            return nvae_recorded.our_names(name), nvae_recorded.published(name)
        case "rosinality-pixelsnail":
            own = test_pixelsnail.prior("tiny_top").named_parameters()
            return {name: tuple(value.shape) for name, value in own}, test_pixelsnail.recorded("tiny_top", "model")
    tensors = model_tensors(test_vqvae2.model("tiny_a"))
    return {name: tuple(t.shape) for name, t in tensors.items()}, test_vqvae2.recorded("tiny_a", "model")


@pytest.mark.parametrize("source", sources())
def test_every_name_of_a_spec_is_free_or_told(source: str) -> None:
    """A renamed recipe, binding or latent gives the same tensors, or the sentence that says which name is wanted."""
    ours, published = case_of(source)
    expected = list(rename(source, ours, published).values())
    fixed = {*OPERATIONS, "encoder", "decoder", "prior", "posterior", "codebook"}
    steps = {step for name in ours for step in name.split(".")[:-1] if not re.fullmatch(r"\d+|r\d+(x\d+)?", step)}
    compared = 0
    for step in sorted(steps - fixed):
        renamed = {re.sub(rf"\b{step}(?=\.)", f"{step}_too", name): shape for name, shape in ours.items()}
        try:
            tensors = list(rename(source, renamed, published).values())
        except WeightsError as error:
            assert f"`{step}`" in str(error)
            compared += 1
        else:
            assert all(map(torch.equal, tensors, expected))
    assert compared >= 3
