"""From a folder of photographs to a model, its numbers, and what others can load: README's lines, as written."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvdsl.cli.main import main

from .conftest import Hvdsl

pytestmark = pytest.mark.slow  # trains a copy of a shipped spec
README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def photographs(folder: Path, count: int, seed: int) -> None:
    """Write smooth pictures: colours that pass from one to another, of sizes and qualities of their own; some grey,
    some on their side with a tag that says so."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    for index in range(count):
        corners = Image.fromarray(generator.integers(60, 200, (2, 2, 3), dtype=np.uint8))
        size = (int(generator.integers(36, 60)), int(generator.integers(36, 60)))
        picture = corners.resize(size, Image.Resampling.BILINEAR).convert("L" if index % 10 == 9 else "RGB")
        options = {"exif": sideways} if index % 7 == 3 else {"progressive": True} if index % 5 == 2 else {}
        name = f"IMG_{index:04}.{'JPG' if index % 3 else 'jpg'}"
        picture.save(folder / name, format="JPEG", quality=int(generator.integers(70, 96)), **options)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder: 300 photographs, others to score, two to go between."""
    home = tmp_path_factory.mktemp("home")
    photographs(home / "path/to/images", 300, seed=0)
    photographs(home / "other/images", 5, seed=1)
    noise = np.random.default_rng(2).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(home / "other/images/odd.png")
    for name, number in (("a", 0), ("b", 1)):
        Image.open(home / f"path/to/images/IMG_{number:04}.{'JPG' if number else 'jpg'}").save(home / f"{name}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        yield home


def run_of(hvdsl: Hvdsl, home: Path) -> Path:
    """The run, trained by README's lines when it is first asked for."""
    run = home / "runs/my"
    if not run.exists():
        looked = hvdsl("data", "path/to/images", "--json")
        assert looked.code == 0, looked.err
        lines = json.loads(looked.out)["lines"]
        assert "shape = 3x32x32" in lines and "resize = 32x32" in lines
        assert main(["specs", "copy", "vdvae_photos", "my.hv"]) == 0
        text = Path("my.hv").read_text()
        for old, new in (
            (r"let w = .*", "let w = [32: 8, else: 8]"),
            (r"data photos .*", f"data images {{ {', '.join(lines)} }}"),
            (r"steps = 800", "steps = 200"),
            (r"sample_every = 800", "sample_every = 200"),
        ):
            text, count = re.subn(old, new, text)
            assert count == 1
        Path("my.hv").write_text(text)
        for line in lines_of("hvdsl train"):
            result = hvdsl(*shlex.split(line)[1:])
            assert result.code == 0, result.err
    return run


def lines_of(start: str = "hvdsl ") -> list[str]:
    """The commands of README's table that speak of one's own spec and run, in its order."""
    rows = "\n".join(line for line in README.splitlines() if line.startswith("|"))
    lines = re.findall(r"`(hvdsl [^`]*)`", rows)
    own = [line for line in lines if ("my.hv" in line or "runs/my" in line) and "label" not in line]
    return [line for line in own if line.startswith(start)]


def test_the_run_learned(hvdsl: Hvdsl, home: Path) -> None:
    records = [json.loads(line) for line in (run_of(hvdsl, home) / "metrics.jsonl").read_text().splitlines()]
    [validation] = [record for record in records if record["event"] == "validation" and record["step"] == 200]
    assert validation["bits_per_dim"] < 7 and validation["images"] == 30
    assert records[-1]["step"] == 200 and list((home / "runs/my/pictures").glob("samples*.png"))


def test_the_lines_of_the_readme_run_as_written(hvdsl: Hvdsl, home: Path) -> None:
    shutil.copytree(run_of(hvdsl, home), home / "runs/other", dirs_exist_ok=True)
    others = [line for line in lines_of() if not line.startswith("hvdsl train")]
    assert len(others) >= 14
    for line in others:
        result = hvdsl(*shlex.split(line)[1:])
        assert result.code == 0, f"{line}: {result.err}"
        output = re.search(r"(?:-o|--roc) (\S+)", line)
        assert output is None or Path(output[1]).exists()


def test_own_images_are_all_scored_and_the_odd_one_is_the_least_likely(hvdsl: Hvdsl, home: Path) -> None:
    result = hvdsl("eval", run_of(hvdsl, home), "--data", "other/images")
    assert result.code == 0 and "6 images of" in result.out, result.err
    result = hvdsl("score", "runs/my", "--data", "other/images", "-o", "scores.csv")
    assert result.code == 0, result.err
    with Path("scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert max(rows, key=lambda row: float(row["negative_elbo_nats"]))["image"] == "odd.png"


def test_latents_are_of_all_images(hvdsl: Hvdsl, home: Path) -> None:
    result = hvdsl("encode", run_of(hvdsl, home), "--data", "other/images", "-o", "own.npz")
    assert result.code == 0, result.err
    with np.load("own.npz") as latents:
        assert all(len(latents[key]) == 6 for key in latents.files if key.startswith("decoder"))


def test_the_exported_model_runs_in_plain_pytorch(hvdsl: Hvdsl, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = hvdsl("export", run_of(hvdsl, home), "-o", "hub/", "--license", "mit")
    assert result.code == 0, result.err
    card = (home / "hub/README.md").read_text()
    assert "bits_per_dim" in card and "digest" in card and "license: mit" in card
    assert all((home / "hub" / name).exists() for name in ("samples.png", "reconstructions.png", "spec.hv"))
    assert "hvdsl" not in re.findall(r"^\s*(?:import|from) (\w+)", (home / "hub/model.py").read_text(), re.MULTILINE)
    monkeypatch.chdir(home / "hub")
    monkeypatch.syspath_prepend(home / "hub")
    names: dict[str, torch.Tensor] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
            exec(block.replace("encode(images)", "sample(2)"), names)  # the text of our own card
    finally:
        sys.modules.pop("model", None)
    assert names["images"].shape == (16, 3, 32, 32) and names["parameters"].shape[-2:] == (32, 32)
