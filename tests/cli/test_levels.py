"""Hierarchies of codes of any number of levels, strides and kinds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .codes import CPU, sampled
from .conftest import Hvdsl

LEVELS = """hv 1
model levels
use "pixelsnail.hv"
default conv { bias_init = zeros }
data arrays { shape = 3x32x32, bits = 8, input = v / 127.5 - 1 }
cell head(cond = none) { stem(8, 3) -> plain(1, inner = 8, k = 3, cond = cond) -> elu }
encoder {
  32: conv(4x4, 16, stride = 2) -> relu
  16: conv(3x3, 16) -> relu -> tap -> conv(8x8, 16, stride = 4, pad = (2, 2, 2, 2)) -> relu
   4: conv(3x3, 16) -> relu -> tap -> conv(4x4, 16, stride = 2) -> relu
   2: conv(3x3, 16) -> relu -> tap
}
decoder {
   2: { a ~ codebook(16, 4) posterior nearest_code(skip -> conv(1x1, 4)); x = a }
   4: {
    up = upconv(4x4, 8)
    b ~ finite_scalar(7, 5, 9) posterior round_code(concat(up, skip) -> conv(1x1, 3))
    x = concat(up, b)
  }
  16: {
    up = upconv(8x8, 8, stride = 4)
    c ~ lookup_free(3) posterior sign_code(concat(up, skip) -> conv(1x1, 3))
    x = concat(up, c)
  }
  32: upconv(4x4, logits)
}
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
train { steps = 2, batch = 8, optimizer = adam(lr = 1e-3) }
prior a { head -> conv(1x1, 16) }
prior b given a { cond = a -> condition(8, 1, up = 2); head(cond) -> conv(1x1, 315) }
prior c given a, b {
  cond = concat(a -> condition(8, 1, up = 8), b -> condition(8, 1, up = 4))
  head(cond) -> conv(1x1, 8)
}
train a { steps = 1, batch = 8, optimizer = adam(lr = 1e-3) }
train b { steps = 1, batch = 8, optimizer = adam(lr = 1e-3) }
train c { steps = 1, batch = 8, optimizer = adam(lr = 1e-3) }
"""


def test_levels_of_any_number_stride_and_kind(hvdsl: Hvdsl, tmp_path: Path) -> None:
    (tmp_path / "levels.hv").write_text(LEVELS)
    run, codes = tmp_path / "run", tmp_path / "codes.npz"
    for split in ("train", "valid", "test"):
        np.save(tmp_path / f"{split}.npy", np.arange(8 * 32 * 32 * 3, dtype=np.uint8).reshape(8, 32, 32, 3))
    assert hvdsl("train", tmp_path / "levels.hv", "--stage", "all", "--data", tmp_path, "--out", run, *CPU).code == 0
    found = json.loads(hvdsl("eval", run, "--json", *CPU).out)
    assert [(level["codes"], level["shape"]) for level in found["levels"]] == [
        (16, [2, 2]),
        (315, [4, 4]),
        (8, [16, 16]),
    ]
    assert found["uniform_bits_per_image"] == pytest.approx(4 * 4 + 16 * np.log2(315) + 256 * 3)
    assert hvdsl("codes", run, "--split", "test", "-o", codes, *CPU).code == 0
    assert hvdsl("decode", run, codes, "-o", tmp_path / "images.npy", *CPU).code == 0
    sampled(hvdsl, run, tmp_path / "samples.png", "--fix", f"b={codes}")
