"""Names that other libraries and papers have for what the language calls otherwise."""

from __future__ import annotations

_NAMES = {
    "upsample": "`nearest(2)` or `bilinear(2)`",
    "interpolate": "`nearest(2)` or `bilinear(2)`",
    "downsample": "`avg_pool(2)`, `max_pool(2)` or a convolution with `stride = 2`",
    "linear": "`dense(n)`, or `conv(1x1, n)` at each position",
    "fc": "`dense(n)`",
    "swish": "`silu`",
    "softmax": "`categorical(logits)`, which takes logits; attention has its softmax inside",
    "gaussian": "`normal(p)` for a distribution; `gaussian(s)` is an initialiser, as in `init = gaussian(0.02)`",
    "N": "`normal(standard(channels))`, a normal distribution of mean 0 and scale 1",
    "cat": "`concat(a, b)`",
    "conv2d": "`conv(3x3, n)`",
    "conv_transpose": "`upconv(4x4, n)`",
    "convtranspose2d": "`upconv(4x4, n)`",
    "pixelshuffle": "`pixel_shuffle(2)`",
    "batchnorm": "`batch_norm`",
    "batchnorm2d": "`batch_norm`",
    "groupnorm": "`group_norm(groups)`",
    "leakyrelu": "`leaky_relu(0.01)`",
    "true": "`yes`",
    "false": "`no`",
    "null": "`none`",
}


def habit(name: str) -> str:
    """Return a help text for a name of PyTorch or of the papers; empty for any other."""
    here = _NAMES.get(name) or _NAMES.get(name.lower())
    return f"here this is {here}" if here else ""
