"""Layers: sizes under every padding, normalisations, maps, dropout, and agreement with torch's own."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from hvdsl.runtime.layers import (
    Affine,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    GroupNorm,
    LayerNorm,
    Learned,
    Scope,
    WeightNorm,
    avg_pool,
    coordinates,
    initialize,
    one_hot,
    shift,
    uniform,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "nvae_cells"


def ready(layer, seed=0):
    initialize(layer, seed)
    return layer


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding"),
    [
        (1, 1, 1, "symmetric"),
        (3, 1, 1, "symmetric"),
        (3, 2, 1, "symmetric"),
        (5, 2, 1, "symmetric"),
        (3, 1, 2, "symmetric"),
        (3, 2, 2, "reflect"),
        (2, 1, 1, "tf"),
        (4, 2, 1, "tf"),
        (4, 1, 1, "reflect"),
    ],
)
def test_padding_gives_size_over_stride_rounded_up(size, kernel, stride, dilation, padding):
    conv = Conv2d(2, 3, (kernel, kernel), stride=stride, dilation=dilation, padding=padding)
    y = ready(conv)(torch.randn(1, 2, size, size))
    assert y.shape == (1, 3, -(-size // stride), -(-size // stride))


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (4, 2), (4, 4)])
def test_even_kernels_pad_symmetrically_where_the_stride_divides(kernel, stride):
    y = ready(Conv2d(2, 3, (kernel, kernel), stride=stride))(torch.randn(1, 2, 8, 8))
    assert y.shape[2:] == (8 // stride, 8 // stride)


def test_even_kernel_at_stride_one_needs_explicit_padding():
    with pytest.raises(ValueError, match="no symmetric padding keeps the size under a 2x2 kernel"):
        Conv2d(2, 3, (2, 2))


def test_tf_padding_puts_the_odd_row_last():
    conv = ready(Conv2d(1, 1, (3, 3), stride=2, padding="tf", bias=False))
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(conv(x), F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, stride=2))


def test_explicit_sides_are_top_bottom_left_right():
    conv = ready(Conv2d(1, 1, (2, 3), padding=(1, 0, 2, 0), bias=False))
    x = torch.randn(1, 1, 5, 6)
    torch.testing.assert_close(conv(x), F.conv2d(F.pad(x, (2, 0, 1, 0)), conv.weight))


def test_reflection_mirrors_the_border():
    conv = ready(Conv2d(1, 1, (3, 3), padding="reflect", bias=False))
    x = torch.randn(1, 1, 5, 6)
    torch.testing.assert_close(conv(x), F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), conv.weight))


def test_stride_and_dilation_by_axis():
    conv = ready(Conv2d(1, 1, (3, 3), stride=(1, 2), dilation=(2, 1)))
    assert conv(torch.randn(1, 1, 8, 8)).shape[2:] == (8, 4)


@pytest.mark.parametrize("bias", [True, False])
def test_a_1x1_convolution_of_channels_last_maps_is_the_same_and_keeps_the_layout(bias):
    layer = Conv2d(6, 5, (1, 1), bias=bias).double()
    initialize(layer, 0)
    x = torch.randn(3, 6, 4, 7, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    y, expected = layer(x), F.conv2d(x, layer.weight, layer.bias)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    wanted, gradient = [x, *layer.parameters()], torch.randn_like(y)
    for ours, theirs in zip(
        torch.autograd.grad(y, wanted, gradient), torch.autograd.grad(expected, wanted, gradient), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_groups_must_divide():
    with pytest.raises(ValueError, match="4 groups do not divide 6 input and 8 output channels"):
        Conv2d(6, 8, (3, 3), groups=4)
    assert ready(Conv2d(6, 6, (3, 3), groups=6)).weight.shape == (6, 1, 3, 3)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (5, 2), (1, 2), (4, 4), (3, 1)])
@pytest.mark.parametrize("padding", ["symmetric", "tf"])
def test_transposed_convolution_is_the_adjoint(kernel, stride, padding):
    """<conv(u), x> = <u, upconv(x)> with the same weight, and the size is multiplied by the stride."""
    up = ready(ConvTranspose2d(2, 3, (kernel, kernel), stride=stride, padding=padding, bias=False)).double()
    down = Conv2d(3, 2, (kernel, kernel), stride=stride, padding=padding, bias=False).double()
    down.weight = up.weight
    x, u = torch.randn(1, 2, 4, 4).double(), torch.randn(1, 3, 4 * stride, 4 * stride).double()
    assert up(x).shape == u.shape
    torch.testing.assert_close((down(u) * x).sum(), (u * up(x)).sum())


def test_dense_sees_the_whole_map():
    layer = ready(Dense(3 * 4 * 4, 7))
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(layer(x)[:, :, 0, 0], x.flatten(1) @ layer.weight.T + layer.bias)


@pytest.mark.parametrize(
    ("name", "kernel", "options"),
    [
        ("wnconv_3x3_bias", 3, {}),
        ("wnconv_3x3_stride2", 3, {"stride": 2}),
        ("wnconv_3x3_dilation2", 3, {"dilation": 2}),
        ("wnconv_1x1_nobias", 1, {"bias": False}),
    ],
)
def test_weight_normalised_convolutions(name, kernel, options):
    g = load_file(GOLDEN / f"{name}.safetensors")
    conv = Conv2d(8, 6, (kernel, kernel), norm=WeightNorm("log", eps=1e-5), **options)
    state = {k.removeprefix("w.").replace("log_weight_norm", "gain"): v for k, v in g.items() if k.startswith("w.")}
    conv.load_state_dict(state)
    x = g["x"].requires_grad_()
    y = conv(x)
    torch.testing.assert_close(y.detach(), g["y"], rtol=1e-5, atol=1e-5)
    y.backward(g["gy"])
    torch.testing.assert_close(x.grad, g["gx"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(conv.weight.grad, g["gw.weight"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(conv.gain.grad, g["gw.log_weight_norm"], rtol=1e-4, atol=1e-4)


def test_first_gain_of_weight_norm():
    g = load_file(GOLDEN / "wnconv_init.safetensors")
    norm = WeightNorm("log", eps=1e-5)
    gain = norm.first_gain(g["weight"], 0)
    torch.testing.assert_close(gain, g["log_weight_norm"])
    torch.testing.assert_close(norm.weight(g["weight"], gain, 0), g["weight_normalized"])


def test_linear_gain_starts_at_the_raw_weight_and_scales():
    for layer in (Conv2d(4, 3, (3, 3), norm=WeightNorm()), Dense(4, 3, norm=WeightNorm())):
        ready(layer)
        torch.testing.assert_close(layer.effective_weight(), layer.weight)
    half = ready(ConvTranspose2d(4, 3, (4, 4), norm=WeightNorm(scale=0.5)))
    assert half.gain.shape == (1, 3, 1, 1)
    torch.testing.assert_close(half.effective_weight(), 0.5 * half.weight)


def test_batch_norm_is_torchs():
    ours, theirs = ready(BatchNorm2d(3, momentum=0.05)), nn.BatchNorm2d(3, momentum=0.05)
    x = 2 + 3 * torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_group_and_layer_norm():
    x = 2 + 3 * torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(ready(GroupNorm(4, 8))(x), F.group_norm(x, 4))
    by_position = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(ready(LayerNorm(8))(x), by_position)


def test_affine_starts_as_the_identity():
    x = torch.randn(2, 3, 4, 4)
    assert ready(Affine(3))(x).equal(x)


def test_learned_map_is_shared_by_the_batch():
    learned = ready(Learned((2, 3, 3), uniform(0, 1)))
    y = learned(5)
    assert y.shape == (5, 2, 3, 3)
    y.sum().backward()
    assert learned.value.grad.eq(5).all()
    assert 0 <= learned.value.min() < learned.value.max() < 1


def test_dropout_acts_in_training_only():
    x = torch.ones(4, 50, 3, 3)
    dropout = Dropout(0.5)
    assert set(dropout(x).unique().tolist()) == {0.0, 2.0}
    assert dropout.eval()(x).equal(x)
    whole = Dropout(0.5, whole_channels=True)(x)
    assert whole.eq(whole[:, :, :1, :1]).all()
    with pytest.raises(ValueError, match="not 1"):
        Dropout(1.0)


def test_scope_names_follow_the_structure():
    scope = Scope(q=Scope(conv=[Conv2d(1, 1, (1, 1))]), gain=Affine(1))
    assert [name for name, _ in scope.named_parameters()] == [
        "q.conv.0.weight",
        "q.conv.0.bias",
        "gain.gain",
        "gain.bias",
    ]


def test_shift_moves_and_fills_with_zeros():
    x = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    assert shift(x, down=1)[0, 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert shift(x, right=-1)[0, 0].tolist() == [[2, 3, 0], [5, 6, 0], [8, 9, 0]]


def test_coordinates_are_centred_and_scaled():
    y = coordinates(torch.zeros(2, 5, 2, 4))
    assert y.shape == (2, 2, 2, 4)
    assert y[1, 0, :, 0].tolist() == [-0.5, 0.0]
    assert y[1, 1, 0].tolist() == [-0.5, -0.25, 0.0, 0.25]


def test_average_pooling_does_not_count_padding():
    x = torch.ones(1, 1, 4, 4)
    assert avg_pool(x, (3, 3), (2, 2), (0, 1, 0, 1)).eq(1).all()
    assert avg_pool(x, (2, 2), (2, 2)).shape == (1, 1, 2, 2)


def test_classes_and_codes_become_maps_of_zeros_and_ones() -> None:
    like = torch.zeros((), dtype=torch.float64)
    of_images = one_hot(torch.tensor([2, -1]), 3, like)  # the second is not given
    assert of_images.dtype == torch.float64
    assert of_images.shape == (2, 3, 1, 1)
    assert of_images.flatten(1).tolist() == [[0, 0, 1], [0, 0, 0]]
    of_positions = one_hot(torch.tensor([[[0, 1]]]), 2, like)
    assert of_positions.tolist() == [[[[1, 0]], [[0, 1]]]]
