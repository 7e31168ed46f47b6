"""Priors by themselves, over codes from a file: from the spec to samples, and what is not for them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import hvdsl as library
from hvdsl.compiler.load import load_module
from hvdsl.compiler.pipeline import check
from hvdsl.grammar import print_text, print_yaml, read_yaml
from hvdsl.grammar.diagnostics import SpecError
from hvdsl.grammar.source import Source
from hvdsl.runtime.training.folder.run import Run
from hvdsl.workflows.open import first_stage
from hvdsl.workflows.stages import open_priors
from hvdsl.workflows.trained import Trained

from .conftest import Hvdsl

SPEC = """hv 1
model of_codes
data codes { levels = [top: codes(4, 2x3), bottom: codes(6, 4x6)], classes = 3, holdout = 4 }
prior top { conv(3x3, 8, mask = causal(exclude)) + (label -> conv(1x1, 8)) -> elu -> conv(1x1, 4) }
prior bottom given top {
  conv(3x3, 8, mask = causal(exclude)) + (top -> conv(1x1, 8) -> nearest(2)) -> elu -> conv(1x1, 6)
}
train top { steps = 3, batch = 8, evaluate_every = 3, optimizer = adam(lr = 1e-2) }
train bottom { steps = 3, batch = 8, optimizer = adam(lr = 1e-2) }
"""
CPU = ("--device", "cpu", "--threads", "1")


def write_codes(path: Path, seed: int = 0, count: int = 24) -> Path:
    rng = np.random.default_rng(seed)
    arrays = {"top": rng.integers(0, 4, (count, 2, 3)), "bottom": rng.integers(0, 6, (count, 4, 6))}
    np.savez(path, **arrays, label=rng.integers(0, 3, count))
    return path


def load_trained(run: Path) -> Trained:
    return library.load(run, device="cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codes")
    (folder / "spec.hv").write_text(SPEC)
    library.train(folder / "spec.hv", data=write_codes(folder / "codes.npz"), out=folder / "run", device="cpu")
    return folder


def test_the_spec_is_checked_drawn_and_emitted(hvdsl: Hvdsl, place: Path, tmp_path: Path) -> None:
    spec = place / "spec.hv"
    assert "of_codes is fine: 898 parameters, 2 priors" in hvdsl("check", spec).out
    told = json.loads(hvdsl("info", spec, "--json").out)
    assert told["levels"][1] == {"name": "bottom", "classes": 6, "grid": [4, 6], "depth": 1}
    assert [prior["name"] for prior in told["priors"]] == ["top", "bottom"]
    assert "6 codes on 4x6" in hvdsl("info", spec).out
    for kind, form in (("graph", "svg"), ("graph", "html"), ("graph", "json"), ("latents", "svg")):
        assert hvdsl("viz", kind, spec, "-o", tmp_path / f"{kind}.{form}").code == 0
    drawn = (tmp_path / "graph.svg").read_text()
    assert "likelihood" not in drawn and "p(bottom | top)" in drawn
    assert hvdsl("compile", spec, "--steps", "-o", tmp_path / "m.py").code == 0
    assert list(load_module((tmp_path / "m.py").read_text(), "m").PRIORS) == ["top", "bottom"]


def test_both_forms_say_the_same(place: Path) -> None:
    model = check(Source("spec.hv", SPEC))
    text = print_text(model.resolved)
    assert print_text(check(Source("again.hv", text)).resolved) == text
    yaml = print_yaml(model.resolved)
    assert print_text(check(read_yaml(Source("spec.yaml", yaml))).resolved) == text


MISTAKES = {
    "HV0604": [
        SPEC + "likelihood mse\n",
        SPEC + "train { batch = 8, optimizer = adam(lr = 1) }\n",
        SPEC.replace("holdout = 4", "flip = yes"),
        SPEC.replace("holdout = 4", "given top = 1"),
        SPEC.replace("holdout = 4", "given age = 1 { source = box }"),
    ],
    "HV0603": [SPEC.replace("levels = [top: codes(4, 2x3), bottom: codes(6, 4x6)], ", "")],
    "HV0602": [SPEC.replace("top: codes", '"top": codes'), SPEC.replace("bottom: codes", "top: codes")],
    "HV0314": [SPEC.replace("prior top {", "prior tip {")],
    "HV0509": [SPEC.replace("3x3, 8, mask = causal(exclude)) + (top", "3x3, 8) + (top")],
    "HV0508": [SPEC.replace("conv(1x1, 6)", "conv(1x1, 5)")],
}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in MISTAKES.items() for text in texts])
def test_mistakes_are_told(code: str, text: str) -> None:
    with pytest.raises(SpecError) as failure:
        check(Source("spec.hv", text))
    assert code in {diagnostic.code.id for diagnostic in failure.value.diagnostics}


def test_levels_are_of_codes_alone() -> None:
    with pytest.raises(SpecError, match="`levels`"):
        check("vdvae_digits", ["data.levels=[z: codes(4, 2x2)]"])


def test_the_cost_is_the_cross_entropy_of_what_was_held_out(hvdsl: Hvdsl, place: Path) -> None:
    told = json.loads(hvdsl("eval", place / "run", "--json", *CPU).out)
    assert told["images"] == 4
    assert told["prior_nats_per_image"] == pytest.approx(told["prior_bits_per_image"] * math.log(2))
    first = first_stage(load_trained(place / "run")._opened)
    prior = open_priors(first, ["top"], lambda _: True, torch.device("cpu"))["top"]
    with np.load(place / "codes.npz") as held:
        codes, label = torch.from_numpy(held["top"]), torch.from_numpy(held["label"])
    with torch.no_grad():
        nats = torch.nn.functional.cross_entropy(prior(codes, label), codes, reduction="none").flatten(1).mean(1)
    told = json.loads(hvdsl("eval", place / "run", "--data", place / "codes.npz", "--json", *CPU).out)
    assert told["images"] == 24 and told["levels"][0]["prior_nats_per_code"] == pytest.approx(nats.mean().item())


def test_codes_are_drawn_into_a_file(hvdsl: Hvdsl, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "drawn.npz"
    assert hvdsl("sample", place / "run", "-n", "3", "--label", "2,0", "-o", file, "--seed", "1", *CPU).code == 0
    trained = load_trained(place / "run")
    drawn = trained.sample_codes(3, seed=1, given={"label": [2, 0]})
    with np.load(file) as written:
        assert written["label"].tolist() == [2, 0, 2]
        assert all(torch.equal(torch.from_numpy(written[name]).long(), drawn[name]) for name in ("top", "bottom"))
    fixed = trained.sample_codes(3, seed=1, fix={"top": drawn["top"]}, schedule="wavefront")
    assert torch.equal(fixed["bottom"], drawn["bottom"]) and torch.equal(fixed["top"], drawn["top"])
    assert trained.evaluate_codes(data=file).images == 3


def test_a_run_goes_on_with_its_own_codes_and_no_others(place: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(place / "run", tmp_path / "run"))
    other = write_codes(tmp_path / "other.npz", seed=1)
    with pytest.raises(library.Error, match="trained on other codes: its data was"):
        library.train(out=run, stage="top", resume=True, steps=4, data=other, device="cpu")
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"data": str(tmp_path / "gone.npz")}))
    shutil.rmtree(run / "codes")
    with pytest.raises(library.Error, match="does not exist"):
        library.train(out=run, stage="top", resume=True, steps=4, device="cpu")
    shutil.copytree(place / "run" / "codes", run / "codes")
    assert library.train(out=run, stage="top", resume=True, steps=4, device="cpu").steps == {"top": 4}


def test_in_two_pieces_is_as_in_one(place: Path, tmp_path: Path) -> None:
    ends = []
    for name, pieces in (("one", [3]), ("two", [1, 3])):
        for steps in pieces:
            options = {"resume": True} if steps != pieces[0] else {"data": place / "codes.npz"}
            library.train(place / "spec.hv", out=tmp_path / name, stage="top", steps=steps, device="cpu", **options)  # type: ignore[arg-type]  # by name
        store = Run.open(tmp_path / name / "priors" / "top").checkpoints().latest()
        assert store is not None and store.step == 3
        ends.append(store.load("model"))
    assert all(torch.equal(ends[1][name], tensor) for name, tensor in ends[0].items())


@pytest.mark.parametrize("command", ["reconstruct", "score", "encode", "codes", "decode", "export"])
def test_what_is_about_images_is_refused(hvdsl: Hvdsl, place: Path, tmp_path: Path, command: str) -> None:
    more = {"encode": ("-o", tmp_path / "x.npz"), "codes": ("-o", tmp_path / "x.npz"), "export": ("-o", tmp_path / "x")}
    more["decode"] = (place / "codes.npz", "-o", tmp_path / "x.png")
    device = () if command == "export" else ("--device", "cpu")
    result = hvdsl(command, place / "run", *more.get(command, ()), *device)
    assert result.code in (1, 2) and "codes from a file" in result.err and "no images" in result.err


def test_the_library_says_what_is_not_for_codes(place: Path) -> None:
    trained = load_trained(place / "run")
    for use in (lambda: trained.sample(2), trained.evaluate, lambda: trained.elbo(np.zeros((1, 1, 1), np.uint8))):
        with pytest.raises(library.Error, match="codes from a file"):
            use()
    with pytest.raises(library.Error, match="no model of images"):
        library.build(place / "spec.hv")
    with pytest.raises(library.Error, match="no images"):
        library.open_data(place / "spec.hv")


def test_folders_that_hold_priors_are_listed_by_these(hvdsl: Hvdsl, place: Path) -> None:
    told = json.loads(hvdsl("runs", place, "--json").out)
    assert sorted(run["name"] for run in told["runs"]) == ["run/priors/bottom", "run/priors/top"]
    assert hvdsl("verify", place / "run").code == 0
