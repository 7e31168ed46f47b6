"""The public VQ-VAE-2, autoencoder and priors, as `hvdsl import` takes it."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from .codes import CPU, refusal, sampled
from .conftest import Hvdsl


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with the three files of the public VQ-VAE-2, of few codes, and the spec of all of them."""
    golden = Path(__file__).parents[1] / "golden"
    text = (golden / "specs/vqvae2_a.hv").read_text().replace("hv 1", 'hv 1\nuse "pixelsnail.hv"', 1)
    text = text.replace("codes = 32", "codes = 12")
    whole = load_file(golden / "vqvae2/tiny_a/model.safetensors")
    fewer = {
        name: t[..., :12].contiguous() if name.startswith("quantize_") and "conv" not in name else t
        for name, t in whole.items()
    }
    torch.save(fewer, tmp_path / "autoencoder.pt")
    for level in ("top", "bottom"):
        text += "".join((golden / f"specs/pixelsnail_{level}.hv").read_text().partition("prior z_")[1:])
        tensors = load_file(golden / f"pixelsnail/tiny_{level}/model.safetensors")
        torch.save({"model": tensors, "args": argparse.Namespace(n_res_block=2)}, tmp_path / f"{level}.pt")
    (tmp_path / "spec.hv").write_text(text)
    (tmp_path / "data").mkdir()
    for split in ("train", "valid", "test"):
        np.save(tmp_path / "data" / f"{split}.npy", np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3))
    return tmp_path


def bring(folder: Path, *options: str | Path) -> tuple[str | Path, ...]:
    command = ("import", "rosinality-vqvae2", folder / "autoencoder.pt", "--spec", folder / "spec.hv")
    return (*command, "--data", folder / "data", "--out", folder / "run", *options)


def test_a_published_hierarchy_evaluates_and_samples(hvdsl: Hvdsl, published: Path) -> None:
    priors = ("--prior", f"z_top={published / 'top.pt'}", "--prior", f"z_bottom={published / 'bottom.pt'}")
    assert hvdsl(*bring(published, *priors)).code == 0
    levels = json.loads(hvdsl("eval", published / "run", "--json", *CPU).out)["levels"]
    assert all(level["prior_nats_per_code"] > 0 for level in levels)
    assert sampled(hvdsl, published / "run", published / "samples.png").ndim == 3
    told = refusal(hvdsl, "train", "--resume", "--out", published / "run", "--stage", "z_top")
    assert "has no `train z_top` section" in told


def test_published_priors_are_read_before_a_run_is_made(hvdsl: Hvdsl, published: Path) -> None:
    top = torch.load(published / "top.pt", weights_only=False)["model"]
    torch.save({"model": {k: v for k, v in top.items() if "horizontal" not in k}}, published / "less.pt")
    (published / "hostile.pt").write_bytes(pickle.dumps(Hostile(published / "executed"), protocol=2))
    for given, told in (
        (f"z_bottom={published / 'top.pt'}", "they also hold"),
        (f"z_top={published / 'less.pt'}", "lack"),
        (f"z_top={published / 'hostile.pt'}", "cannot be read as tensors"),
        (f"z_top={published / 'none.pt'}", "does not exist"),
    ):
        assert told in refusal(hvdsl, *bring(published), "--prior", given, machine=False)
    assert "write LATENT=WEIGHTS" in refusal(hvdsl, *bring(published), "--prior", "z=x.pt", code=2, machine=False)
    text = (published / "spec.hv").read_text()
    (published / "spec.hv").write_text(text.replace("codes = 12", "codes = 16").replace("1x1, 12", "1x1, 16"))
    told = refusal(hvdsl, *bring(published), machine=False)
    assert "quantize_t.embed is (8, 12), the spec needs (8, 16)" in told
    torch.save(torch.load(published / "top.pt", weights_only=False), published / "autoencoder.pt")
    assert "is not a state dict" in refusal(hvdsl, *bring(published), machine=False)
    assert not (published / "run").exists()
    assert not (published / "executed").exists()


class Hostile:
    """What would make a file, were it ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)
