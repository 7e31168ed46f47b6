"""Masks of convolutions and causal attention."""

from __future__ import annotations

import pytest
import torch

from hvdsl.runtime.layers import Attention, Causal, Conv2d, WeightNorm, initialize


def layer(mask: Causal, channels: int = 2, out: int = 4, norm: WeightNorm | None = None) -> Conv2d:
    made = Conv2d(channels, out, (3, 3), mask=mask, norm=norm)
    initialize(made, 0)
    return made


@pytest.mark.parametrize(("at", "own"), [("exclude", 0), ("before", 2), ("upto", 6), ("all", 8)])
def test_a_mask_keeps_what_precedes_and_channels_at_the_own_position(at: str, own: int) -> None:
    weight = layer(Causal(at)).effective_weight()  # type: ignore[arg-type]  # the cases are the type's words
    kept = (weight != 0).sum((0, 1))
    assert kept.tolist() == [[8, 8, 8], [8, own, 0], [0, 0, 0]]


def test_channels_at_the_own_position_are_block_triangular() -> None:
    kept = layer(Causal("upto")).effective_weight()[:, :, 1, 1] != 0
    assert kept.tolist() == [[True, False], [True, False], [True, True], [True, True]]
    kept = layer(Causal("before"), channels=4, out=2).effective_weight()[:, :, 1, 1] != 0
    assert kept.tolist() == [[False] * 4, [True, True, False, False]]


def test_a_mirrored_mask_turns_space_and_not_channels() -> None:
    kept = layer(Causal("upto", mirror=True)).effective_weight() != 0
    assert kept.sum((0, 1)).tolist() == [[0, 0, 0], [0, 6, 8], [8, 8, 8]]


def test_the_own_position_is_found_from_the_padding() -> None:
    made = Conv2d(1, 1, (3, 3), padding=(2, 0, 1, 1), mask=Causal("exclude"))
    initialize(made, 0)
    assert (made.effective_weight()[0, 0] != 0).int().tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0]]


def test_weight_norm_is_that_of_the_masked_weight() -> None:
    made = layer(Causal("exclude"), norm=WeightNorm())
    lengths = torch.linalg.vector_norm(made.effective_weight(), dim=(1, 2, 3))
    assert made.gain is not None and torch.allclose(lengths, made.gain.flatten())


def test_a_mask_is_no_parameter_and_no_part_of_the_state() -> None:
    made = layer(Causal("exclude"))
    assert set(made.state_dict()) == {"weight", "bias"}


def test_a_layer_from_the_meta_device_masks_once_initialised() -> None:
    with torch.device("meta"):
        made = Conv2d(2, 4, (3, 3), mask=Causal("exclude"))
    made.to_empty(device="cpu")
    initialize(made, 0)
    assert torch.equal(made.effective_weight(), layer(Causal("exclude")).effective_weight())


@pytest.mark.parametrize("causal", ["strict", "inclusive", None])
def test_attention_is_softmax_of_scaled_products(causal: str | None) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, c, 3, 4, generator=generator) for c in (8, 8, 6))
    made = Attention(2, causal=causal)  # type: ignore[arg-type]  # the cases are the type's words
    q, k, v = (t.reshape(2, 2, -1, 12).transpose(2, 3) for t in (query, key, value))
    scores = q @ k.transpose(2, 3) / 2
    if causal is not None:
        seen = torch.ones(12, 12).tril(-1 if causal == "strict" else 0).bool()
        scores = scores.masked_fill(~seen, -torch.inf)
    expected = (scores.softmax(-1).nan_to_num() @ v).transpose(2, 3).reshape(2, 6, 3, 4)
    assert torch.allclose(made(query, key, value), expected, atol=1e-6)
