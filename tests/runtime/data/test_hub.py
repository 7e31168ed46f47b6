"""Data sets by a hub's name: the files of a snapshot, pinned to its revision, and one sentence where there is none."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import hvdsl
from hvdsl.compiler.settings import Data
from hvdsl.grammar.source import Source
from hvdsl.runtime.data import DataError, open_given, open_splits
from hvdsl.runtime.data.hub import hub_folder, noted_place
from hvdsl.runtime.data.source import find_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC = """
hv 1
model tiny
data images { shape = 1x8x8, input = v / 127.5 - 1 }
group layer {
  z ~ normal(conv(1x1, 4)) posterior normal(concat(x, skip) -> conv(1x1, 4))
  x + (z -> conv(1x1, 8))
}
encoder { 8: conv(3x3, 8) -> tap }
decoder { 8: learned(zeros, 8) -> layer -> conv(1x1, logits) }
likelihood discretized_logistic_mixture(1)
objective { unit = nats_per_dim }
train { steps = 2, batch = 4, optimizer = adam(lr = 1e-3) }
"""


def snapshot(cache: Path) -> Path:
    """The cache of a hub's library, with one data set of two configurations."""
    home = cache / "datasets--maker--faces"
    folder = home / "snapshots" / COMMIT
    rng = np.random.default_rng(0)
    for name in ("small/train", "small/test", "large/train"):
        (folder / name).mkdir(parents=True)
        for place in range(10):
            Pillow.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / name / f"{place}.png")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of the hub's library, which gives a snapshot that is there."""
    folder, seen = snapshot(tmp_path), list[dict[str, Any]]()

    def snapshot_download(repo_id: str, **options: Any) -> str:
        seen.append({"repo_id": repo_id, **options})
        if options["revision"] not in (None, "main", COMMIT):
            raise OSError("404: Revision Not Found\nmore words")
        return str(folder)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    return seen


def images(**options: Any) -> Data:
    return Data(name="images", shape=(1, 8, 8), **options)


@pytest.mark.parametrize("name", ["hf://maker/faces:small", "hf:/maker/faces:small", "hf://maker/faces@main:small"])
def test_a_data_set_is_its_files(calls: list[dict[str, Any]], name: str) -> None:
    splits = open_splits(images(), Path(name))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (9, 1, 10)
    pinned = f"hf://maker/faces@{COMMIT}:small"
    assert splits.summary == f"20 images (train 10, test 10); {pinned}; 1 held out for validation"
    assert open_given(images(), Path(name)).name == f"10 test images of {Path(name)}; {pinned}"
    assert noted_place(Path(name)) == pinned
    assert {call["repo_type"] for call in calls} == {"dataset"}


def test_only_tables_and_pictures_are_downloaded(calls: list[dict[str, Any]]) -> None:
    hub_folder(Path("hf://maker/faces"))
    patterns = calls[0]["allow_patterns"]
    assert {"*.parquet", "*.arrow", "*.png", "*.JPG"} <= set(patterns)
    assert not {"*.py", "*.pkl", "*.npy", "*", "*.json"} & set(patterns)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://maker/faces:medium", "has no folder `medium`: it has large, small"),
        ("hf://maker/faces:../../..", r"has no folder `\.\./\.\./\.\.`"),
        ("hf://maker/faces:/etc", "has no folder `/etc`"),
        (
            "hf://maker/faces@old",
            r"cannot be downloaded \(404: Revision Not Found\): .*`hf download --repo",
        ),
        ("hf://", "no name of a data set: write `hf://OWNER/NAME`"),
        ("hf://a/b/c", "no name of a data set"),
    ],
)
def test_what_is_not_there_is_one_sentence(calls: list[dict[str, Any]], name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_source(images(), Path(name))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"^reading hf://maker/faces needs `huggingface_hub`.*'hvdsl\[hub\]'"):
        find_source(images(), Path("hf://maker/faces"))


def test_a_run_goes_on_with_the_revision_that_it_began_with(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    hvdsl.train(Source("tiny.hv", SPEC), data="hf://maker/faces:small", out=out, device="cpu")
    pinned = f"hf://maker/faces@{COMMIT}:small"
    assert json.loads((out / "environment.json").read_text())["data"] == pinned
    assert json.loads((out / "history.jsonl").read_text().splitlines()[0])["data"] == pinned
    calls.clear()
    hvdsl.train(out=out, resume=True, steps=4, device="cpu")
    assert {call["revision"] for call in calls} == {COMMIT}


def test_the_library_finds_what_it_has_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    snapshot(tmp_path)
    download = hub.snapshot_download
    offline = {"cache_dir": tmp_path, "local_files_only": True}
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **options: download(name, **(options | offline)))
    folder = hub_folder(Path("hf://maker/faces@main:small"))
    assert folder.name == f"hf://maker/faces@{COMMIT}:small"
    assert len(find_source(images(), Path("hf://maker/faces:small")).parts["train"]) == 10
    with pytest.raises(DataError, match=r"hf://maker/other cannot be downloaded \("):
        hub_folder(Path("hf://maker/other"))
