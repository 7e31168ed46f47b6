"""Checkpoints on the disk: whole or not there, and nothing damaged is ever loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from hvdsl.runtime.training.folder.checkpoint import CheckpointError, CheckpointStore, weights_metadata

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(2, dtype=torch.bfloat16)}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def save(store: CheckpointStore, step: int) -> Path:
    return store.save(step, {"model": WEIGHTS}, {"step": step})


def test_what_is_saved_comes_back(store: CheckpointStore) -> None:
    save(store, 7)
    checkpoint = store.latest()
    assert checkpoint is not None
    assert checkpoint.step == 7
    assert checkpoint.state == {"step": 7}
    loaded = checkpoint.tensors("model", WEIGHTS)
    assert all(torch.equal(loaded[name], t) and loaded[name].dtype == t.dtype for name, t in WEIGHTS.items())


def test_nothing_in_a_checkpoint_is_a_pickle(store: CheckpointStore) -> None:
    assert sorted(p.suffix for p in save(store, 1).iterdir()) == [".json", ".safetensors"]


def test_only_the_newest_are_kept_and_one_besides(store: CheckpointStore) -> None:
    for step in (8, 9, 10, 100):
        save(store, step)
    store.prune(2, besides=8)
    assert sorted(p.name for p in store.folder.iterdir()) == ["10", "100", "8"]
    store.prune(1)
    assert store.steps() == [100]


def test_what_is_learned_later_goes_into_the_state(store: CheckpointStore) -> None:
    save(store, 1)
    before = dict(store.open(1).state)
    store.annotate(1, {"measured": {"validation": {"bits_per_dim": 3.5}}})
    assert dict(store.open(1).state) == before | {"measured": {"validation": {"bits_per_dim": 3.5}}}
    with pytest.raises(CheckpointError, match="no complete checkpoint of step 2"):
        store.annotate(2, {})


def test_there_is_no_latest_before_the_first(store: CheckpointStore) -> None:
    assert store.latest() is None


def test_a_step_that_is_saved_again_replaces_itself(store: CheckpointStore) -> None:
    save(store, 1)
    save(store, 1)
    assert store.steps() == [1]


def test_what_a_killed_process_left_is_ignored_and_cleared(store: CheckpointStore) -> None:
    save(store, 1)
    half = store.folder / ".2.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert store.steps() == [1]
    save(store, 3)
    assert not half.exists()


def fail_after(calls: int, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `os.fsync` fail with `error` once it has been called so often: any write may be the one that fails."""
    real, count = os.fsync, iter(range(1_000))

    def fsync(descriptor: int) -> None:
        if next(count) >= calls:
            raise error
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("calls", [0, 1])
def test_a_full_disk_leaves_the_last_good_checkpoint(
    calls: int, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, 1)
    fail_after(calls, OSError(28, "No space left on device"), monkeypatch)
    with pytest.raises(CheckpointError, match=r"no space .* step 2 .* step 1 is intact: free some space and resume"):
        save(store, 2)
    monkeypatch.undo()
    assert store.steps() == [1]
    assert [p.name for p in store.folder.iterdir()] == ["1"]
    save(store, 2)
    assert store.steps() == [1, 2]


def test_a_refused_write_says_why(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_after(0, PermissionError(13, "Permission denied"), monkeypatch)
    with pytest.raises(CheckpointError, match=r"Permission denied; there is no earlier checkpoint"):
        save(store, 1)


def test_another_models_shape_is_named(store: CheckpointStore) -> None:
    save(store, 1)
    other = WEIGHTS | {"a.weight": torch.zeros(3, 3)}
    with pytest.raises(CheckpointError, match=re.escape("`a.weight` is [2, 3] torch.float32 there and [3, 3]")):
        store.open(1).tensors("model", other)


@pytest.mark.parametrize(("name", "message"), [("a.weight", "not in this one"), ("c.weight", "which this model has")])
def test_another_models_names_are_named(name: str, message: str, store: CheckpointStore) -> None:
    save(store, 1)
    other: dict[str, Tensor] = dict(WEIGHTS)
    if name in other:
        del other[name]
    else:
        other[name] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=message):
        store.open(1).tensors("model", other)


def test_a_missing_manifest_is_told_and_not_skipped(store: CheckpointStore) -> None:
    save(store, 1)
    (save(store, 2) / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"2 has no manifest.json, so it is not whole; remove .* to go on"):
        store.latest()


@pytest.mark.parametrize("scheme", [0, 99, "2", True, None, [1]])
def test_a_noise_scheme_that_is_none_is_refused(scheme: object, store: CheckpointStore) -> None:
    store.save(1, {"model": WEIGHTS}, {"noise_scheme": scheme})
    with pytest.raises(CheckpointError, match="names the noise scheme"):
        _ = store.open(1).noise_scheme


def test_a_checkpoint_without_a_noise_scheme_is_of_the_first(store: CheckpointStore) -> None:
    save(store, 1)
    assert store.open(1).noise_scheme == 1


def test_files_of_weights_say_of_which_spec_they_are(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, metadata=weights_metadata("hv 1\n"))
    path = store.save(5, {"model": WEIGHTS, "ema": WEIGHTS, "optimizer": WEIGHTS}, {"noise_scheme": 2})
    for part in ("model", "ema"):
        with safe_open(path / f"{part}.safetensors", framework="pt") as file:
            about = file.metadata()
            assert len(about.pop("hvdsl.sha256")) == 64
            assert about == {
                "hvdsl.spec": "hv 1\n",
                "hvdsl.spec_sha256": hashlib.sha256(b"hv 1\n").hexdigest(),
                "hvdsl.step": "5",
                "hvdsl.noise_scheme": "2",
            }
    with safe_open(path / "optimizer.safetensors", framework="pt") as file:
        assert not file.metadata()


def test_a_part_that_is_not_there_is_named(store: CheckpointStore) -> None:
    save(store, 1)
    with pytest.raises(CheckpointError, match=r"has no `optimizer`: it holds model.safetensors"):
        store.open(1).load("optimizer")


@pytest.mark.parametrize("position", [0, 8, 60, -1])
def test_one_flipped_bit_is_found(position: int, store: CheckpointStore) -> None:
    file = save(store, 1) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged.*; remove .* to go on"):
        store.open(1).load("model")


def test_a_file_cut_short_is_found(store: CheckpointStore) -> None:
    file = save(store, 1) / "model.safetensors"
    os.truncate(file, 20)
    with pytest.raises(CheckpointError, match=r"damaged"):
        store.open(1).load("model")


HOSTILE: list[Any] = [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b"[]",
    b'{"format": 3}',
    b'{"format": 2, "complete": true, "step": 1, "files": {}, "state": {}}',
    b'{"format": 1, "complete": true, "step": 1, "files": {}, "state": {}, "sha256": ""}',
    b'{"format": 1, "complete": false, "step": 1, "files": {}, "state": {}}',
    b'{"format": 1, "complete": true, "step": 2, "files": {}, "state": {}}',
    b'{"format": 1, "complete": true, "step": 1, "files": [], "state": {}}',
    b'{"format": 1, "complete": true, "step": 1, "files": {"model.safetensors": 3}, "state": {}}',
]


@pytest.mark.parametrize("manifest", HOSTILE)
def test_a_manifest_that_is_not_one_is_refused_in_a_sentence(manifest: bytes, store: CheckpointStore) -> None:
    path = save(store, 1)
    (path / "manifest.json").write_bytes(manifest)
    with pytest.raises(CheckpointError, match=r"manifest.json"):
        store.latest()


def test_a_number_changed_in_a_manifest_is_found(store: CheckpointStore) -> None:
    path = store.save(7, {"model": WEIGHTS}, {"guard": {"skipped": 3}}) / "manifest.json"
    store.annotate(7, {"best": None})
    assert store.open(7).state == {"guard": {"skipped": 3}, "best": None}
    path.write_text(path.read_text().replace('"skipped": 3', '"skipped": 4'))
    with pytest.raises(CheckpointError, match=r"manifest.json is damaged: .* SHA-256"):
        store.open(7)


def test_a_consistent_manifest_of_a_file_that_is_no_safetensors(store: CheckpointStore) -> None:
    path = save(store, 1)
    data = b"\x80\x04. a pickle, perhaps"
    (path / "model.safetensors").write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["model.safetensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del manifest["sha256"]
    manifest["format"] = 1  # that of version 0.1, which has no digest of itself
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"not a safetensors file"):
        store.open(1).load("model")
