"""Help for a name that means nothing: the nearest known one, or ours for what other libraries call otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_HABITS = {
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
    "maxpool": "`max_pool(2)`",
    "maxpool2d": "`max_pool(2)`",
    "avgpool": "`avg_pool(2)`",
    "avgpool2d": "`avg_pool(2)`",
    "adaptiveavgpool2d": "`global_pool`",
    "bn": "`batch_norm`",
    "layernorm": "`layer_norm`",
    "view": "`reshape(CxHxW)` or `flatten`",
    "permute": "`reshape(CxHxW)`; maps are channels, height, width",
    "sequential": "one step behind the other: `a -> b -> c`",
    "modulelist": "a repeat: `step * n`",
    "parameter": "`learned(zeros, n)`",
    "stop_gradient": "nothing: gradients are the objective's and the quantizers'",
    "range": "a repeat: `step * n`, whose turn is `index`",
    "int": "`floor(…)`",
    "codes": "a number: as many as the codebook has, as in `conv(1x1, 512)`",
    "K": "a number: as many as the codebook has, as in `conv(1x1, 512)`",
    "y": "`label`, the class, where the data have `classes`",
    "true": "`yes`",
    "false": "`no`",
    "null": "`none`",
}


_INIT = {
    "xavier": "`fan_in`, PyTorch's own and the default, or `gaussian(s)` with the deviation that you mean",
    "kaiming": "`fan_in`, PyTorch's own, which is the default",
    "normal": "`gaussian(s)` with its standard deviation",
    "constant": "`zeros` or `ones`; another number is `uniform(a, a)`",
}
_OF_ARGUMENT = {
    "init": _INIT | {"he": _INIT["kaiming"], "glorot": _INIT["xavier"]},
    "mask": {
        "a": "`causal(exclude)`, which leaves out the position itself (PixelCNN's mask A)",
        "b": "`causal(upto)`, which takes the position itself as well (PixelCNN's mask B)",
    },
    "steps": {"epochs": "a setting of its own: `epochs = 2` in place of `steps`"},
}


# What other programs call arguments, settings and likelihoods.
_SYNONYMS = {
    "learning_rate": "lr",
    "padding": "pad",
    "kernel_size": "kernel",
    "out_channels": "out",
    "size": "shape",
    "batch_size": "batch",
    "kl_weight": "beta",
    "kld_weight": "beta",
    "free_bits": "free",
    "num_steps": "steps",
    "iterations": "steps",
    "std": "s",
    "sigma": "s",
    "grad_clip": "clip",
    "ema_decay": "ema",
    "ema_rate": "ema",
    "horizontal_flip": "flip",
    "dmol": "discretized_logistic_mixture",
    "gaussian": "normal",
    "bce": "bernoulli",
    "l2": "mse",
    "l1": "mae",
    "gaussian_diag": "normal",
}


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that `word` most likely stands for, or None where none is near."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def synonym(word: str, known: Iterable[str]) -> str | None:
    """Return the known name of what other programs call `word`."""
    ours = _SYNONYMS.get(word.lower())
    return ours if ours is not None and ours in set(known) else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a help text: the nearest known name, or else all of them."""
    names = sorted(known)
    near = synonym(word, names) or nearest_word(word, names)
    if near is not None:
        return f"did you mean `{near}`?"
    return "known here: " + ", ".join(f"`{n}`" for n in names) if names else "none is known here"


def habit(name: str, argument: str = "") -> str:
    """Return a help text for a name of PyTorch or of the papers; empty for any other.

    `argument` is the one whose word it would be.
    """
    own = next((words for a, words in _OF_ARGUMENT.items() if argument == a or argument.endswith(f"_{a}")), {})
    here = own.get(name.lower()) or _HABITS.get(name) or _HABITS.get(name.lower())
    return f"here this is {here}" if here else ""
