"""Mistakes with discrete latents, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvdsl.compiler.pipeline import check
from hvdsl.grammar.diagnostics import Diagnostic, SpecError
from hvdsl.grammar.source import Source

SPEC = (Path(__file__).parents[2] / "golden" / "specs" / "vqvae2_a.hv").read_text(encoding="utf-8")
SPEC = SPEC.replace("default codebook { decay = 0.99 }", "")
TOP = "nearest_code(skip -> conv(1x1, dim))"


def problem(old: str, new: str, tail: str = "") -> Diagnostic:
    assert old in SPEC
    with pytest.raises(SpecError) as raised:
        check(Source("codes.hv", SPEC.replace(old, new, 1) + tail))
    return raised.value.diagnostics[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TOP, f"{TOP} -> conv(1x1, dim)", "a discrete latent has no flow"),
        (TOP, "nearest_code(skip -> conv(1x1, 5))", "prior and posterior of `z_top` differ in shape"),
        (TOP, "round_code(skip -> conv(1x1, dim))", "prior and posterior of `z_top` are of different families"),
        ("upconv(4x4, dim)", "upconv(4x4, dim, stride = 4)", "`concat` joins maps of one size"),
        ("3x32x32", "3x36x36", "row 32 begins at 36"),
        ("codebook(codes, dim)", "codebook(0, dim)", "`codes` must be at least 1"),
        ("codebook(codes, dim)", "codebook(codes, dim, depth = 0)", "`depth` must be at least 1"),
        (
            "codebook(codes, dim)",
            "codebook(codes, dim, update = gradient, expire = 2)",
            "`expire` has no meaning for codes with `update = gradient`",
        ),
        (
            "codebook(codes, dim)",
            "codebook(codes, dim, shared = yes)",
            "`shared` has no meaning for codes of one depth",
        ),
        (
            "codebook(codes, dim)",
            "codebook(codes, dim, depth = 2, distance = cosine)",
            "`distance = cosine` has no meaning for codes of several depths",
        ),
        ("codebook(codes, dim)", "finite_scalar(8, 2)", "two levels are 0 and -1 unless they are symmetric"),
        ("codebook(codes, dim)", "lookup_free(40)", "codes of more than 20 bits are not supported"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, message: str) -> None:
    assert problem(old, new).message == message


def test_a_prior_of_residual_codes_gives_the_logits_of_every_depth() -> None:
    tail = "\nprior z_top { shift(right = 1) -> conv(1x1, codes) }\n"
    found = problem("codebook(codes, dim)", "codebook(codes, dim, depth = 2)", tail)
    assert found.message == "the prior of `z_top` does not end with its logits"
    assert "the 2 depths one after the other" in found.expected
