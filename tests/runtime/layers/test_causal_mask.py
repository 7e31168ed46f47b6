"""Masked, weight-normalised convolutions as recorded; blocks of channels; masks are no state."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hvdsl.runtime.layers import Causal, Conv2d, WeightNorm, initialize

GOLDEN = Path(__file__).parents[2] / "golden" / "nvae_cells"
NORM = WeightNorm("log", eps=1e-5)
BIASLESS = {"bias": False, "norm": NORM}


@pytest.mark.parametrize("mirror", [False, True], ids=["normal", "mirror"])
@pytest.mark.parametrize(
    ("name", "layer", "at"),
    [
        ("3x3_square", lambda mask: Conv2d(4, 4, (3, 3), mask=mask, **BIASLESS), "upto"),
        ("3x3_zerodiag_reduce", lambda mask: Conv2d(24, 4, (3, 3), mask=mask, **BIASLESS), "before"),
        ("3x3_zerodiag_expand", lambda mask: Conv2d(4, 24, (3, 3), mask=mask, **BIASLESS), "before"),
        ("5x5_depthwise", lambda mask: Conv2d(24, 24, (5, 5), groups=24, mask=mask, **BIASLESS), "upto"),
        ("1x1_project", lambda mask: Conv2d(24, 4, (1, 1), norm=NORM, mask=mask), "upto"),
    ],
)
def test_masked_weight_normalised_convolutions(name, layer, at, mirror):
    g = load_file(GOLDEN / f"arconv_{name}_{'mirror' if mirror else 'normal'}.safetensors")
    conv = layer(Causal(at, mirror))
    conv.load_state_dict(
        {k.removeprefix("w.").replace("log_weight_norm", "gain"): v for k, v in g.items() if k.startswith("w.")}
    )
    assert conv.mask.equal(g["mask"].expand_as(conv.mask))
    torch.testing.assert_close(conv.effective_weight().detach(), g["weight_normalized"], rtol=1e-5, atol=1e-6)
    x = g["x"].requires_grad_()
    y = conv(x)
    torch.testing.assert_close(y.detach(), g["y"], rtol=1e-5, atol=1e-5)
    y.backward(g["gy"])
    torch.testing.assert_close(x.grad, g["gx"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(conv.weight.grad, g["gw.weight"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("at", "seen"),
    [
        ("exclude", [[0, 0], [0, 0], [0, 0], [0, 0]]),
        ("before", [[0, 0], [0, 0], [1, 0], [1, 0]]),
        ("upto", [[1, 0], [1, 0], [1, 1], [1, 1]]),
        ("all", [[1, 1], [1, 1], [1, 1], [1, 1]]),
    ],
)
def test_channels_of_the_own_position(at, seen):
    kept = Conv2d(2, 4, (1, 1), mask=Causal(at)).mask.expand(4, 2, 1, 1)
    assert kept[..., 0, 0].tolist() == seen


@pytest.mark.parametrize("recorded", ["ar", "armu"])
def test_the_first_gain_of_a_masked_layer_is_the_recorded_one(recorded):
    """`armu` is the last convolution of a flow, whose gain starts at a tenth."""
    g = load_file(GOLDEN / "wnconv_init.safetensors")
    masked = g[f"{recorded}.weight"] * g[f"{recorded}.mask"]
    norm = WeightNorm("log", eps=1e-5, scale=0.1 if recorded == "armu" else 1.0)
    gain = norm.first_gain(masked, 0)
    torch.testing.assert_close(gain, g[f"{recorded}.log_weight_norm"])
    if recorded == "ar":
        torch.testing.assert_close(norm.weight(masked, gain, 0), g["ar.weight_normalized"])


def test_the_first_gain_is_that_of_the_masked_weight_and_the_mask_is_no_state():
    with torch.device("meta"):
        conv = Conv2d(2, 2, (3, 3), norm=WeightNorm(), mask=Causal("all"))
    conv.to_empty(device="cpu")
    initialize(conv, 0)
    torch.testing.assert_close(conv.effective_weight(), conv.weight * conv.mask)
    assert conv.mask.expand(2, 2, 3, 3).sum() == 4 * 5
    assert "mask" not in conv.state_dict()
