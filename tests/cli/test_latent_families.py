"""Latents of every family from the command line: trained, evaluated, sampled, reconstructed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import TINY, Hvdsl

CPU = ("--device", "cpu", "--threads", "1")
ALL_FAMILIES = TINY.replace(
    "  x + (z -> conv(1x1, width))",
    """  l ~ laplace(conv(1x1, 4)) posterior laplace(concat(x, skip) -> conv(1x1, 4))
  s ~ logistic(conv(1x1, 4)) posterior logistic(concat(x, skip) -> conv(1x1, 4))
  b ~ bernoulli(conv(1x1, 3)) posterior bernoulli(concat(x, skip) -> conv(1x1, 3))
  k ~ categorical(conv(1x1, 5)) posterior categorical(concat(x, skip) -> conv(1x1, 5))
  x + (concat(z, l, s, b, k) -> conv(1x1, width))""",
)


def use(hvdsl: Hvdsl, spec: str, folder: Path) -> dict[str, object]:
    """Train two steps, draw, reconstruct; returns the importance-weighted evaluation."""
    (folder / "spec.hv").write_text(spec)
    run = folder / "run"
    assert hvdsl("train", folder / "spec.hv", "--out", run, "--steps", "2", *CPU).code == 0
    drawn = [hvdsl("sample", run, "-n", "2", "--temperature", t, "-o", folder / f"{t}.png", *CPU) for t in ("0", "0.7")]
    assert [result.code for result in drawn] == [0, 0]
    assert (folder / "0.png").read_bytes() != (folder / "0.7.png").read_bytes()
    assert hvdsl("reconstruct", run, "-n", "2", "-o", folder / "r.png", *CPU).code == 0
    found: dict[str, object] = json.loads(hvdsl("eval", run, "--samples", "2", "--json", *CPU).out)
    return found


def test_all_families_in_one_model(hvdsl: Hvdsl, tmp_path: Path) -> None:
    result = use(hvdsl, ALL_FAMILIES, tmp_path)
    rates = result["rate_per_group"]
    assert isinstance(rates, list) and len(rates) == 15 and result["samples"] == 2
    assert all(rate > 0 for rate in rates[:1] + rates[3:5])  # closed forms: never below 0


@pytest.mark.slow
@pytest.mark.parametrize("family", ["laplace", "logistic", "bernoulli", "categorical"])
def test_a_model_of_one_family(family: str, hvdsl: Hvdsl, tmp_path: Path) -> None:
    result = use(hvdsl, TINY.replace("normal(", f"{family}("), tmp_path)
    assert result["samples"] == 2
