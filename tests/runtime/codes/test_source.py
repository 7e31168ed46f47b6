"""Codes from a file: what is read, what is refused, and how it is divided and stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hvdsl.runtime.codes.files import write_arrays
from hvdsl.runtime.codes.levels import CodesError, Level
from hvdsl.runtime.codes.source import code_parts, read_code_file
from hvdsl.runtime.codes.store import CodeStore
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.latents import Condition

LEVELS = (Level("a", 4, (2, 3)), Level("b", 300, (1, 1), depth=2))
LABEL = Condition("label", (3, 1, 1), 3, drop=0.1)
AGE = Condition("age", (1, 1, 1))
RNG = np.random.default_rng(0)
ARRAYS: dict[str, NDArray[Any]] = {
    "a": RNG.integers(0, 4, (5, 2, 3)).astype(np.uint8),
    "b": RNG.integers(0, 300, (5, 2, 1, 1)).astype(np.uint16),
    "label": np.array([0, 1, -1, 2, 0]),
    "age.given": np.arange(5.0),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "c.npz", **ARRAYS)  # type: ignore[arg-type]  # the stub takes one keyword's type for all
    return tmp_path / "c.npz"


def test_codes_and_what_stands_beside_them_are_stored(file: Path, tmp_path: Path) -> None:
    codes = read_code_file(file, LEVELS, [LABEL, AGE])
    rows = np.array([3, 1, 2])
    store = codes.store(tmp_path / "store", rows, "train", World())
    assert len(codes) == 5 and len(store) == 3 and store.fields["age"].tolist() == [[3.0], [1.0], [2.0]]
    whole, fields = store.rows(["b", "a", "label"]).conditioned([0, 1, 2], ["age"])
    assert whole[:, :2].tolist() == ARRAYS["b"][rows].reshape(3, -1).tolist()
    assert whole[:, 2:8].tolist() == ARRAYS["a"][rows].reshape(3, -1).tolist()
    assert whole[:, 8].tolist() == [2, 1, -1] and fields["age"].tolist() == [[3.0], [1.0], [2.0]]


def test_a_store_is_written_once_and_again_for_other_rows(file: Path, tmp_path: Path) -> None:
    codes = read_code_file(file, LEVELS, [])
    first = codes.store(tmp_path / "store", np.arange(4), "train", World())
    written = (tmp_path / "store" / "codes.npy").stat().st_mtime_ns
    assert codes.store(tmp_path / "store", np.arange(4), "train", World()).identity == first.identity
    assert (tmp_path / "store" / "codes.npy").stat().st_mtime_ns == written
    other = codes.store(tmp_path / "store", np.arange(3), "train", World())
    assert other.identity != first.identity and len(CodeStore.open(tmp_path / "store")) == 3


def test_the_autoencoder_of_the_codes_is_kept_where_the_file_says_it(tmp_path: Path) -> None:
    write_arrays(tmp_path / "c.safetensors", {"a": ARRAYS["a"]}, LEVELS[:1], "m", "abc")
    assert read_code_file(tmp_path / "c.safetensors", LEVELS[:1], []).origin == "abc"
    write_arrays(tmp_path / "d.npz", {"a": ARRAYS["a"]}, LEVELS[:1], "m", "")
    assert read_code_file(tmp_path / "d.npz", LEVELS[:1], []).origin == ""


def test_one_array_is_one_level(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAYS["a"])
    assert len(read_code_file(tmp_path / "a.npy", LEVELS[:1], [])) == 5
    with pytest.raises(CodesError, match="no codes of `b`"):
        read_code_file(tmp_path / "a.npy", LEVELS, [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"a": ARRAYS["a"][:, :1]}, r"are \(5, 1, 3\); `levels` says \(N, 2, 3\)"),
        ({"a": ARRAYS["a"] + 1}, "run from 1 to 4; `levels` says 4, numbered from 0"),
        ({"a": ARRAYS["a"] / 2}, "not whole numbers"),
        ({"a": ARRAYS["a"][:4]}, "4 images at one level and 5 at `b`"),
        ({"label": np.full(5, 3)}, "declares 3 classes, numbered from 0, -1 for none"),
        ({"label": np.zeros(4, int)}, "a whole number for each of 5 images"),
        ({"age.given": np.full(5, np.nan)}, "lacks some values"),
        ({"age.given": np.zeros((5, 2))}, r"expected \(5, 1\)"),
    ],
)
def test_what_is_not_what_is_said_is_refused(tmp_path: Path, changed: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "c.npz", **(ARRAYS | changed))  # type: ignore[arg-type]  # the stub takes one keyword's type
    with pytest.raises(CodesError, match=message):
        read_code_file(tmp_path / "c.npz", LEVELS, [LABEL, AGE])


def test_what_is_not_there_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CodesError, match="has no codes of `c`"):
        read_code_file(file, [Level("c", 2, (1, 1))], [])
    with pytest.raises(CodesError, match="has no array `sex`"):
        read_code_file(file, LEVELS, [Condition("sex", (1, 1, 1))])
    with pytest.raises(CodesError, match=r"has no `train\.npz`"):
        code_parts(tmp_path)
    with pytest.raises(CodesError, match="does not exist"):
        read_code_file(tmp_path / "no.npz", LEVELS, [])
