"""Small specs for the tests of emission, each with a feature that decides how code is written."""

from __future__ import annotations

import hvdsl
from hvdsl import Compiled
from hvdsl.grammar.source import Source

HEAD = """hv 1
model {name}
let width = 8
default conv {{ bias_init = zeros }}
data digits {{ shape = 1x8x8, bits = 4, input = v, binarize = threshold }}
likelihood bernoulli
objective {{ unit = nats_per_image }}
"""

VDVAE = (
    HEAD.format(name="small_vdvae")
    + """
title "A small VDVAE"
let zdim = 2
cell bottleneck(out, mid = width // 2, last = fan_in) {
  let k = 3x3 if res > 2 else 1x1
  gelu -> conv(1x1, mid)
  gelu -> conv(k, mid)
  gelu -> conv(1x1, out, init = last)
}
cell block { residual { bottleneck(width, last = scaled(1 / sqrt(count))) } }
group layer {
  q          = concat(x, skip) -> bottleneck(2 * zdim)
  p, feature = x -> bottleneck(2 * zdim + width, last = zeros) -> split(2 * zdim, width)
  z ~ normal(p) posterior normal(q)
  x + feature + (z -> conv(1x1, width, init = scaled(1 / sqrt(count)))) -> block
}
encoder {
  8: conv(3x3, width) -> block * 3 -> tap -> block -> avg_pool(2)
  4: block * 2 -> tap -> block -> avg_pool(4)
  1: block * 3 -> tap
}
decoder {
  1: learned(zeros, width) -> layer * 1
  4: nearest(4) -> add(learned(zeros)) -> layer * 3
  8: nearest(2) -> add(learned(zeros)) -> layer * 4 -> affine -> conv(1x1, logits)
}
"""
)

# As many taps as readers, read in reverse; an encoder feature shared by two latents; turns of two instances.
MIRRORED = (
    HEAD.format(name="mirrored")
    + """
cell block { residual { swish -> conv(3x3, width, init = scaled(0.3)) } }
group draw(s) {
  z ~ normal(conv(1x1, 4, init = scaled(0.3))) posterior normal(concat(x, s) -> conv(1x1, 4, init = scaled(0.3)))
  x + (z -> conv(1x1, width))
}
group row(n = 1) {
  s = skip -> conv(1x1, width)
  draw(s) * n
}
encoder {
  8: conv(3x3, width) -> (block * 2 -> tap) * 3 -> avg_pool(2)
  4: (block -> tap) * 4
}
decoder {
  4: learned(zeros, width) -> (block -> row) * 3 -> row(2)
  8: nearest(2) -> row(2) -> (row -> block * 2) * 2 -> conv(1x1, logits)
}
"""
)

# A distribution used twice, a tap inside a recipe, latents drawn in a row, no learned start.
LADDER = (
    HEAD.format(name="ladder")
    + """
cell mlp(n) { dense(n) -> batch_norm -> leaky_relu(0.01) }
cell rise(hidden, n) {
  mlp(hidden)
  tap(up) = dense(2 * n)
}
group level(hidden, n) {
  t = normal(mlp(hidden) -> dense(2 * n))
  z ~ t posterior product(normal(skip(up)), t)
  z
}
encoder {
  8: flatten
  1: rise(16, 4) -> rise(8, 3) -> rise(8, 2)
}
decoder {
  1: {
    z ~ normal(standard(2)) posterior normal(skip(up))
    z -> level(8, 3) -> level(16, 4) -> dropout(0.25) -> mlp(16)
  }
  8: dense(64) -> reshape(1x8x8)
}
"""
)

# Instances shared by the whole model, by a section and by a recipe; one used in another; one that draws latents.
SHARING = (
    HEAD.format(name="sharing")
    + """
shared mix = conv(1x1, width) -> leaky_relu(0.1)
cell both { mix -> conv(1x1, width) }
group level {
  shared f = conv(3x3, width) -> gelu -> dropout(0.1)
  h = x -> f * 3
  z ~ normal(h -> conv(1x1, 4)) posterior normal(concat(h -> f, skip) -> conv(1x1, 4))
  x + (z -> conv(1x1, width) -> mix)
}
encoder {
  shared again = both
  8: conv(3x3, width) -> again -> mix * 2 -> both -> again -> tap -> avg_pool(2)
  4: again -> tap
}
decoder {
  shared step = level
  4: learned(zeros, width) -> step * 2
  8: nearest(2) -> step * 3 -> parallel(3, join = mean) { conv(1x1, width) } -> conv(1x1, logits)
}
"""
)

# Latents drawn on the way up, whose priors the decoder states; inference and generation are ordered differently.
UPWARDS = (
    HEAD.format(name="upwards")
    + """
group rise(stride = 1) {
  f = x -> gelu -> conv(3x3, width, stride = stride)
  u ~ posterior normal(f -> conv(1x1, 4, init = scaled(0.3)))
  tap(d) = f
  concat(f, u) -> conv(1x1, width)
}
group level {
  q = concat(x, skip(d)) -> conv(1x1, 4, init = scaled(0.3))
  t ~ normal(conv(1x1, 4, init = scaled(0.3))) posterior normal(q)
  u ~ normal(conv(1x1, 4, init = scaled(0.3))) posterior skip(u)
  x + (concat(t, u) -> conv(1x1, width))
}
encoder {
  8: conv(3x3, width) -> rise * 3 -> rise(2)
  4: rise -> tap
}
decoder {
  4: {
    z ~ normal(standard(2)) posterior normal(skip -> conv(1x1, 4))
    z -> conv(1x1, width) -> level * 2
  }
  8: nearest(2) -> level * 3 -> conv(1x1, logits)
}
"""
)

# A latent of every family that has densities or masses; some drawn on the way up, one of them through a flow.
FAMILIES = (
    HEAD.format(name="families")
    + """
cell flow { iaf(affine) { conv(3x3, 2 * channels, mask = causal(exclude), init = scaled(0.3)) -> chunk(2) } }
group rise {
  f = x -> gelu -> conv(3x3, width)
  u ~ posterior laplace(f -> conv(1x1, 4, init = scaled(0.3))) -> flow
  k ~ posterior categorical(f -> conv(1x1, 3))
  tap(d) = f
  concat(f, u, k) -> conv(1x1, width)
}
group level {
  b ~ bernoulli(conv(1x1, 3)) posterior bernoulli(concat(x, skip(d)) -> conv(1x1, 3))
  t = logistic(conv(1x1, 4, init = scaled(0.3)))
  s ~ t posterior relative(logistic(skip(d) -> conv(1x1, 4)), t)
  u ~ laplace(conv(1x1, 4, init = scaled(0.3))) posterior skip(u)
  k ~ categorical(conv(1x1, 3)) posterior skip(k)
  x + (concat(b, s, u, k) -> conv(1x1, width))
}
encoder {
  8: conv(3x3, width) -> rise * 2 -> avg_pool(2)
  4: rise
}
decoder {
  4: learned(zeros, width) -> level
  8: nearest(2) -> level * 2 -> conv(1x1, logits)
}
"""
)

# Uses of shared instances with roles of their own: of the model's instance, of a section's, of each recipe's.
OWN_ROLES = (
    HEAD.format(name="own_roles")
    + """
shared mix = conv(1x1, width, norm = weight) -> leaky_relu(0.1) -> affine
group level {
  shared f = conv(3x3, width) -> gelu
  h = x -> f * 2 -> f(own = bias)
  z ~ normal(h -> conv(1x1, 4)) posterior normal(concat(h -> f(own = (weight, bias)), skip) -> conv(1x1, 4))
  x + (z -> conv(1x1, width) -> mix(own = (gain, bias)))
}
encoder {
  shared again = conv(3x3, width) -> swish
  8: conv(3x3, width) -> again -> mix * 2 -> mix(own = bias) * 2 -> tap -> avg_pool(2)
  4: again(own = weight) -> tap
}
decoder {
  4: learned(zeros, width) -> level * 2
  8: nearest(2) -> level * 2 -> conv(1x1, logits)
}
"""
)

# Shared instances that hold what each pass looks for.
SHARED_PASSES = (
    HEAD.format(name="shared_passes")
    + """
cell wide { conv(1x1, 16) -> batch_norm -> silu -> depthwise(3x3) -> batch_norm -> swish -> conv(1x1, width) }
group level {
  shared both = depthwise(3x3) -> batch_norm -> silu
  shared join = { concat(x, x -> both) -> gelu -> conv(1x1, width) }
  h = x -> both * 2 -> gelu -> conv(1x1, width) -> join * 2
  z ~ normal(h -> conv(1x1, 4)) posterior normal(concat(x, skip) -> gelu -> conv(1x1, 4))
  h + (z -> conv(1x1, width))
}
encoder {
  shared again = wide
  8: conv(3x3, width) -> again * 2 -> wide -> tap -> avg_pool(2)
  4: again -> tap
}
decoder {
  4: learned(zeros, width) -> level * 2
  8: nearest(2) -> level -> conv(1x1, logits)
}
"""
)

# Instances that are declared in the turns of a repeat, one for each.
SHARED_IN_TURNS = (
    HEAD.format(name="shared_in_turns")
    + """
cell block { residual { swish -> conv(3x3, width, init = scaled(0.3)) } }
group level {
  h = x -> {
    shared f = block -> conv(1x1, width)
    x -> f -> gelu -> f
  } * 3
  z ~ normal(h -> conv(1x1, 4)) posterior normal(concat(h, skip) -> conv(1x1, 4))
  x + (z -> conv(1x1, width))
}
encoder {
  8: {
    x -> conv(3x3, width) -> {
      shared f = block
      x -> f * 2
    } * 2 -> tap -> avg_pool(2)
  }
  4: block -> tap
}
decoder {
  4: learned(zeros, width) -> level
  8: nearest(2) -> level -> conv(1x1, logits)
}
"""
)

ALL = {
    "vdvae": VDVAE,
    "mirrored": MIRRORED,
    "ladder": LADDER,
    "sharing": SHARING,
    "shared_passes": SHARED_PASSES,
    "shared_in_turns": SHARED_IN_TURNS,
    "upwards": UPWARDS,
    "families": FAMILIES,
    "own_roles": OWN_ROLES,
}


def compiled(name: str, level: int = 0) -> Compiled:
    """One of them, by its name in `ALL`."""
    return hvdsl.compile(Source(f"{name}.hv", ALL[name]), level=level)
