"""Shapes and parameters follow from arguments as the language says."""

from __future__ import annotations

import pytest

from hvdsl.compiler.catalogue.table import OperationError
from hvdsl.compiler.graph import Term
from tests.compiler.catalogue.calls import parameters, shape


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kernel": (3, 3)}, (8, 32, 32)),
        ({"kernel": (1, 1), "stride": (2, 2)}, (8, 16, 16)),
        ({"kernel": (4, 4), "stride": (2, 2)}, (8, 16, 16)),
        ({"kernel": (5, 5), "stride": (2, 2)}, (8, 16, 16)),
        ({"kernel": (4, 4), "stride": (4, 4)}, (8, 8, 8)),
        ({"kernel": (3, 3), "dilation": (2, 2)}, (8, 32, 32)),
        ({"kernel": (4, 4), "pad": Term("tf")}, (8, 32, 32)),
        ({"kernel": (3, 3), "stride": (2, 2), "pad": Term("tf")}, (8, 16, 16)),
        ({"kernel": (4, 4), "pad": None}, (8, 29, 29)),
        ({"kernel": (2, 5), "pad": (1, 0, 2, 2)}, (8, 32, 32)),
        ({"kernel": (3, 3), "pad": Term("reflect")}, (8, 32, 32)),
    ],
)
def test_convolution_sizes(given: dict[str, object], expected: tuple[int, int, int]) -> None:
    assert shape("conv", (3, 32, 32), out=8, **given) == expected


def test_even_kernel_needs_a_word_about_padding() -> None:
    with pytest.raises(OperationError) as caught:
        shape("conv", (3, 32, 32), kernel=(4, 4), out=8)
    assert "symmetric padding" in caught.value.message
    assert "tf" in caught.value.help


def test_stride_that_has_no_symmetric_padding_is_an_error() -> None:
    with pytest.raises(OperationError, match="symmetric padding"):
        shape("avg_pool", (3, 7, 7), kernel=(2, 2))
    assert shape("avg_pool", (3, 7, 7), kernel=(2, 2), pad=Term("tf")) == (3, 4, 4)
    assert shape("avg_pool", (3, 7, 7), kernel=(2, 2), pad=None) == (3, 3, 3)


def test_transposed_convolution_grows_by_its_stride() -> None:
    for kernel in (2, 3, 4, 5):
        assert shape("upconv", (8, 4, 6), kernel=(kernel, kernel), out=3) == (3, 8, 12)
    assert shape("upconv", (8, 4, 4), kernel=(3, 3), out=3, stride=(3, 3)) == (3, 12, 12)
    with pytest.raises(OperationError, match="an even kernel at stride 1"):
        shape("upconv", (8, 4, 4), kernel=(3, 2), out=3, stride=(2, 1))
    assert shape("upconv", (8, 4, 4), kernel=(3, 2), out=3, stride=(2, 1), pad=Term("tf")) == (3, 8, 4)


def test_only_small_maps_and_single_channels_broadcast() -> None:
    assert shape("mul", (64, 8, 8), (64, 1, 1)) == (64, 8, 8)
    assert shape("add", (1, 8, 8), (64, 8, 8)) == (64, 8, 8)
    with pytest.raises(OperationError, match="different maps"):
        shape("add", (64, 8, 8), (64, 4, 4))
    with pytest.raises(OperationError, match="different channels"):
        shape("add", (64, 8, 8), (32, 8, 8))


def test_distribution_has_the_shape_of_a_draw() -> None:
    assert shape("normal", (32, 4, 4)) == (16, 4, 4)
    assert shape("normal", params=Term("standard", (16,)), grid=(4, 4)) == (16, 4, 4)
    with pytest.raises(OperationError, match="mean and a scale"):
        shape("normal", (33, 4, 4))


def test_maps_of_a_distribution_take_numbers() -> None:
    maps = {"mean": Term("soft_clamp", (5,)), "scale": Term("exp", (), (("soft_clamp", 5), ("add", 0.01)))}
    assert shape("normal", (4, 1, 1), **maps) == (2, 1, 1)


def test_prior_and_posterior_must_agree() -> None:
    with pytest.raises(OperationError) as caught:
        shape("latent", (16, 4, 4), (32, 4, 4), name="z", family="normal")
    assert caught.value.found == "16x4x4 by the prior, 32x4x4 by the posterior"


def test_learned_map_needs_channels_and_a_place() -> None:
    assert shape("learned", init=Term("zeros"), channels=8, grid=(4, 4)) == (8, 4, 4)
    with pytest.raises(OperationError, match="channels"):
        shape("learned", init=Term("zeros"), grid=(4, 4))
    with pytest.raises(OperationError, match="resolution"):
        shape("learned", init=Term("zeros"), channels=8)


def test_split_takes_all_channels() -> None:
    with pytest.raises(OperationError) as caught:
        shape("split", (10, 2, 2), sizes=(4, 5))
    assert caught.value.found == "4 + 5 = 9 of 10x2x2"


def test_weight_norm_adds_a_gain_per_output_channel() -> None:
    norm = Term("weight", (), (("gain", "log"), ("eps", 1e-5)))
    found = parameters("conv", (64, 8, 8), kernel=(3, 3), out=128, norm=norm, gain=0.1)
    assert {role: p.shape for role, p in found.items()} == {
        "weight": (128, 64, 3, 3),
        "gain": (128, 1, 1, 1),
        "bias": (128,),
    }
    assert parameters("upconv", (64, 8, 8), kernel=(4, 4), out=3, norm=norm)["gain"].shape == (1, 3, 1, 1)


def test_depthwise_has_one_kernel_per_channel() -> None:
    found = parameters("depthwise", (96, 8, 8), kernel=(5, 5), bias=False)
    assert {role: p.shape for role, p in found.items()} == {"weight": (96, 1, 5, 5)}


def test_buffers_are_not_trained() -> None:
    norm = parameters("batch_norm", (64, 8, 8), shift=1.0)
    assert [role for role, p in norm.items() if p.trainable] == ["weight", "bias"]
    assert norm["bias"].init == Term("ones")
    book = parameters("codebook", codes=512, dim=64, grid=(32, 32))
    assert sum(p.size for p in book.values()) == 66_048
    assert not any(p.trainable for p in book.values())


def test_initialisers_take_their_arguments_by_position_or_name() -> None:
    weight = parameters("conv", (8, 4, 4), kernel=(1, 1), out=8, init=Term("uniform", (), (("a", 0), ("b", 1))))[
        "weight"
    ]
    assert weight.init == Term("uniform", (0.0, 1.0))


def test_a_masked_convolution_has_stride_one() -> None:
    with pytest.raises(OperationError, match="stride 1"):
        shape("conv", (8, 4, 4), kernel=(3, 3), out=8, stride=(2, 2), mask=Term("causal", ("upto",)))


def test_causal_masks_need_channels_that_divide() -> None:
    mask = Term("causal", ("before",), (("mirror", True),))
    assert shape("conv", (20, 8, 8), kernel=(3, 3), out=120, mask=mask) == (120, 8, 8)
    with pytest.raises(OperationError, match="divide"):
        shape("conv", (20, 8, 8), kernel=(3, 3), out=30, mask=mask)
