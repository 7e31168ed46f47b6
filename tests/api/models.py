"""Small models for tests of the library: one file each, in no run."""

from __future__ import annotations

from pathlib import Path

import hvdsl
from hvdsl.grammar import print_text
from hvdsl.runtime.training.folder.weights import save_weights

FAMILIES = """hv 1
model families
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
encoder {
  8: conv(3x3, 8) -> tap -> avg_pool(2)
  4: conv(3x3, 8) -> tap
}
group layer {
  z ~ normal(conv(1x1, 8)) posterior normal(concat(x, skip) -> conv(1x1, 8))
  l ~ laplace(conv(1x1, 4)) posterior laplace(concat(x, skip) -> conv(1x1, 4))
  s ~ logistic(conv(1x1, 4)) posterior logistic(concat(x, skip) -> conv(1x1, 4))
  b ~ bernoulli(conv(1x1, 3)) posterior bernoulli(concat(x, skip) -> conv(1x1, 3))
  k ~ categorical(conv(1x1, 5)) posterior categorical(concat(x, skip) -> conv(1x1, 5))
  x + (concat(z, l, s, b, k) -> conv(1x1, 8))
}
decoder {
  4: learned(zeros, 8) -> layer
  8: nearest(2) -> layer -> conv(1x1, logits)
}
likelihood discretized_logistic_mixture(2)
objective { unit = nats_per_dim }
"""

CODES = """hv 1
model codes
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
encoder { 8: conv(4x4, 8, stride = 2) -> relu
          4: conv(3x3, 8) -> tap }
decoder {
  4: {
    z ~ codebook(8, 4) posterior nearest_code(skip -> conv(1x1, 4))
    x = z
  }
  8: upconv(4x4, logits)
}
likelihood mse
objective { unit = mean_square, commitment = 0.25 }
"""

BLACK_AND_WHITE = """hv 1
model black_and_white
data digits { shape = 1x8x8, bits = 4, input = v, target = v, binarize = threshold }
encoder {
  8: conv(3x3, 4) -> avg_pool(2)
  4: tap
}
decoder {
  4: learned(zeros, 4) -> {
    z ~ normal(conv(1x1, 4)) posterior normal(skip -> conv(1x1, 4))
    z -> conv(1x1, 4)
  }
  8: nearest(2) -> conv(3x3, logits)
}
likelihood bernoulli
objective { unit = nats_per_image }
"""

MODELS: dict[str, tuple[str | hvdsl.Source, dict[str, int]]] = {
    "families": (hvdsl.Source("families.hv", FAMILIES), {}),
    "black and white": (hvdsl.Source("black_and_white.hv", BLACK_AND_WHITE), {}),
    "codes": (hvdsl.Source("codes.hv", CODES), {}),
    "vdvae": ("vdvae_digits", {"width": 4, "zdim": 2}),
    "nvae": ("nvae_digits", {"c": 4, "zdim": 2}),
    "flows": ("iaf_cifar10", {"h": 4, "zdim": 2, "layers": 2}),
    "upwards": ("biva_cifar10", {"c": 4}),
}


def one_file(name: str, folder: Path, step: int = 7) -> Path:
    """Write a model of that name, at its first values, as one file."""
    spec, overrides = MODELS[name]
    compiled = hvdsl.compile(spec, overrides=overrides)
    return save_weights(
        compiled.build(1), folder / f"{name}.safetensors", print_text(compiled.model.resolved), step=step
    )
