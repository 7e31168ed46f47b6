"""What generated specs are put together from: lines of the language, with placeholders in capitals."""

from __future__ import annotations

W, Z = 4, 2  # channels of the stream, of a latent

STEPS = (  # that keep the shape of the stream, at every size
    "conv(3x3, w)",
    "conv(1x1, w, init = gaussian(0.1), bias_init = uniform(0, 1))",
    "conv(1x1, w, init = orthogonal)",
    "conv(3x3, w, norm = weight)",
    "conv(3x3, w, norm = weight(gain = log), bias = no)",
    "conv(3x3, w, norm = weight(start = from_batch(0.1)))",
    "conv(3x3, w, groups = 2)",
    "conv(3x3, w, dilation = 2, gain = 0.5)",
    "conv((1, 3), w, pad = (0, 0, 1, 1))",
    "conv(3x3, w, mask = causal(exclude))",
    "conv(3x3, w, mask = causal(upto, mirror = yes))",
    "conv(1x1, 2 * w) -> glu",
    "depthwise(3x3)",
    "depthwise(3x3, mask = causal(all))",
    "upconv(3x3, w, stride = 1)",
    "upconv(3x3, w, stride = 1, norm = weight)",
    "upconv(2x2, w) -> conv(2x2, w, stride = 2)",
    "upconv(4x4, w, groups = 2) -> depthwise(4x4, stride = 2)",
    "upconv(3x3, w, pad = tf) -> conv(3x3, w, stride = 2, pad = tf)",
    "conv(1x1, 4 * w) -> pixel_shuffle(2) -> avg_pool(2)",
    "nearest(2) -> max_pool(2)",
    "bilinear(2, align_corners = yes) -> conv(2x2, w, stride = 2)",
    "avg_pool(3x3, stride = 1)",
    "avg_pool(3x3, stride = 1, count_padding = yes)",
    "max_pool(3x3, stride = 1)",
    "affine",
    "gelu",
    "silu",
    "swish",
    "elu(0.5)",
    "leaky_relu(0.2)",
    "relu -> conv(1x1, w)",
    "sigmoid",
    "tanh",
    "softplus(2)",
    "clip(-3, 3)",
    "identity",
    "dropout(0.1)",
    "batch_norm -> swish",
    "pad(top = 1, left = 1) -> crop(top = 1, left = 1)",
    "pad_channels(w + 2) -> first_channels(w)",
    "add(learned(gaussian(1)))",
    "add(constant(0.5, w))",
    "both",
    "common",
    "sharing",
    "normed(own = gain)",
    "normed(own = (bias, gain))",
    "twice(gelu -> conv(1x1, w))",
    "{ pair(x -> conv(1x1, w), x) }",
    "{ (x, x -> tanh) -> swapped -> swapped -> { a, b = x; a + b } }",
    "{ (x, none) -> { a, b = x; concat(a, b) } }",
    "{ mean(x, none, x -> conv(1x1, w)) }",
    "parallel(3) { conv(1x1, w, init = scaled(1 / (1 + index))) }",
)
BY_SIZE = (  # the same, in terms of the resolution, which a rectangular map does not have
    "wide(k = 3x3 if res > 2 else 1x1)",
    "conv(1x1, mid[res]) -> gelu -> conv(1x1, w)",
    "(gelu if res > 2 else tanh) -> affine",
)
LARGE = (  # where a map has several positions
    "conv(3x3, w, pad = reflect)",
    "conv(3x3, w, stride = 2) -> nearest(2)",
    "conv(4x4, w, stride = 2) -> upconv(4x4, w)",
    "depthwise(3x3, stride = 2) -> bilinear(2)",
    "max_pool(3, stride = 2) -> upconv(2x2, w)",
    "group_norm(2)",
    "layer_norm",
    "shift(down = 1)",
    "{ attention(x -> conv(1x1, w), x -> conv(1x1, w), x, heads = 2) }",
    "{ attention(x, x -> affine, x, causal = inclusive, dropout = 0.1) }",
    "{ x + attention(x -> conv(1x1, w), x, x, causal = strict) }",
    "{ x * (coordinates(x) -> conv(1x1, w)) }",
    "global_pool -> conv(1x1, w) -> nearest((height, width_px))",
    "{ x * (global_pool -> dense(w) -> relu -> dense(w) -> sigmoid) }",
)
LARGE_BY_SIZE = (
    "global_pool -> dense(w) -> nearest(res)",
    "flatten -> dense(w * res * res) -> reshape((w, res, res))",
    "conv(2x2, w, pad = none) -> pad(bottom = 1, right = 1)",
)
STATEMENTS = (
    "x + 0.5 * (x -> conv(1x1, w))",
    "1 - x / 2",
    "2 / (3 + (x -> sigmoid))",
    "h = -x; h + 1",
    "mean(x, x -> gelu -> conv(1x1, w))",
    "concat(x, x -> tanh) -> conv(1x1, w)",
    "a, b = conv(1x1, 2 * w) -> chunk(2); a * (b -> sigmoid)",
    "a, _ = conv(1x1, w + 1) -> split(w, 1); a - x",
    "let n = channels // 2; conv(1x1, n) -> gelu -> conv(1x1, 2 * n)",
    "shared s = gelu -> conv(1x1, w); x -> s -> s",
    "shared s = conv(1x1, w, norm = weight); x -> s -> gelu -> s(own = gain)",
    "shared s = gelu -> conv(1x1, w, bias = yes); x -> s -> s(own = (weight, bias))",
    "default conv { bias = no }; conv(1x1, w)",
    "default depthwise { norm = weight, init = uniform(-1, 1) }; depthwise(3x3)",
    "(gelu if index == 0 else elu) -> conv(1x1, w)",
    "(conv(1x1, w) -> (gelu if index == 0 else silu)) * 2",
    "(gelu -> conv(1x1, w, bias = index == 1)) * 2",
)
FLOWS = (
    "iaf(shift) { conv(3x3, channels, mask = causal(before)) }",
    "iaf(affine) { h = conv(3x3, 2 * channels, mask = causal(before)) -> elu; "
    "h -> conv(1x1, channels, mask = causal(upto)), 0.1 * (h -> conv(1x1, channels, mask = causal(upto))) }",
    "iaf(gated) { conv(3x3, channels, mask = causal(before)), conv(3x3, channels, mask = causal(before)) }",
    "iaf(shift) { conv(3x3, channels, mask = causal(before, mirror = yes)) -> depthwise(3x3, mask = causal(upto, "
    "mirror = yes)) }",
    "(iaf(shift) { residual { identity } -> conv(3x3, 2 * channels, mask = causal(before)) -> tanh -> "
    "conv(1x1, channels, mask = causal(upto)) }) * 2",
)
PRIORS = (
    "conv(3, 8, mask = causal(exclude)) -> elu -> conv(1x1, K)",
    "conv((1, 2), 8, pad = (0, 0, 1, 0)) -> shift(right = 1) -> gelu -> conv(1x1, K)",
    "conv(3, 8, mask = causal(exclude)) -> (residual { elu -> conv(3, 8, mask = causal(all)) }) * 2 -> conv(1x1, K)",
    "h = conv(3, 8, mask = causal(exclude)); attention(h -> conv(1x1, 8), h, h, causal = strict) "
    "-> layer_norm -> conv(1x1, K)",
    "h = conv(3, 8, mask = causal(exclude)); h + attention(h, h -> elu, h, heads = 2, causal = inclusive, "
    "dropout = 0.1) -> conv(1x1, K)",
    "h = conv(3, 8, mask = causal(exclude)) -> batch_norm; h * (coordinates(x) -> conv(1x1, 8)) -> conv(1x1, K)",
    "concat(x -> conv(3, 8, mask = causal(exclude)), coordinates(x)) -> conv(1x1, 16) -> glu -> conv(1x1, K)",
    "a, b = conv(3, 16, mask = causal(exclude)) -> chunk(2); a * (b -> sigmoid) -> affine -> conv(1x1, K)",
    "conv(3, 8, mask = causal(exclude)) -> parallel(2, join = mean) { conv(1x1, 8) -> gelu } -> conv(1x1, K)",
    "conv(3, 8, mask = causal(exclude), norm = weight) -> depthwise(3, mask = causal(all)) -> dropout(0.2) -> "
    "conv(3, 8, dilation = 2, mask = causal(all)) -> softplus -> conv(1x1, K)",
    "shared s = elu -> conv(3, 8, mask = causal(all)); conv(3, 8, mask = causal(exclude)) -> s -> s -> conv(1x1, K)",
    "default conv { norm = weight }; snail.stem(8, 3) -> snail.plain(1, inner = 4, k = 3) -> elu -> conv(1x1, K)",
    "snail.stem(16, 3) -> snail.attentive(1, inner = 4, k = 3, heads = 2) -> elu -> conv(1x1, K)",
    "a = conv((1, 3), 8) -> shift(down = 1); b = shift(right = 1) -> conv(1x1, 8); a - b -> tanh -> conv(1x1, K)",
)
CONDITIONED_PRIORS = (  # FIELD: a map of one position, or of all that the prior has
    "h = conv(3, 8, mask = causal(exclude)); h + (FIELD -> conv(1x1, 8)) -> elu -> conv(1x1, K)",
    "concat(x -> conv(3, 8, mask = causal(exclude)), FIELD) -> conv(1x1, 8) -> gelu -> conv(1x1, K)",
    "cond = FIELD -> conv(1x1, 16); (conv(3, 16, mask = causal(exclude)) + cond -> glu) * (FIELD -> dense(8)) "
    "-> conv(1x1, K)",
    "snail.stem(8, 3) -> snail.causal_gated(4, 3, cond = FIELD) -> elu -> conv(1x1, K)",
)
SHARED_OF_DEPTHS = (  # 8 channels of earlier positions, from the one-hot maps of two depths
    "conv(3, 8, mask = causal(exclude))",
    "conv(3, 8, mask = causal(exclude), bias = no) -> (residual { elu -> conv(3, 8, mask = causal(all)) }) * 2",
    "conv(3, 16, mask = causal(exclude)) -> glu -> batch_norm",
    "shift(right = 1) -> conv(1x1, 8) -> elu -> shift(down = 1) -> silu",
    "snail.stem(8, 3) -> snail.plain(1, inner = 4, k = 3)",
    "{ h = conv(3, 8, mask = causal(exclude)); h + attention(h, h -> elu, h, causal = inclusive) }",
    "{ concat(x -> conv(3, 6, mask = causal(exclude)), coordinates(x)) }",
)
HEADS = (  # of two depths, from the shared `h` and `first`, the codes of depth 0
    "concat(h -> conv(1x1, K), h + (first -> conv(1x1, 8)) -> elu -> conv(1x1, K))",
    "a = h -> gelu -> conv(1x1, K); b = concat(h, first) -> conv(1x1, 16) -> glu -> dropout(0.1) -> conv(1x1, K); "
    "concat(a, b)",
    "a = h -> conv(1x1, K); b = (first -> conv(1x1, 8, bias = no)) + h -> layer_norm -> tanh -> conv(1x1, K); "
    "concat(a, b)",
    "a, s = h -> conv(1x1, K + 8) -> split(K, 8); concat(a, s * (first -> conv(1x1, 8)) -> conv(1x1, K))",
)
LIKELIHOODS = {  # how pixels enter, and what more the data say
    "discretized_logistic_mixture(2)": ("v / 7.5 - 1", ""),
    "discretized_logistic_mixture(2, bins = published)": ("v / 7.5 - 1", ""),
    "discretized_logistic_mixture(1, scale = softplus(0.5), lower = -5)": ("v / 7.5 - 1", ""),
    "discretized_logistic(scale = learned)": ("v / 7.5 - 1", ""),
    "discretized_logistic(scale = softplus(0.7))": ("v / 7.5 - 1", ""),
    "discretized_logistic(bins = open, at_least = 0.01)": ("v / 7.5 - 1", ""),
    "discretized_normal": ("v / 7.5 - 1", ""),
    "discretized_normal(scale = exp)": ("v / 7.5 - 1", ""),
    "normal(scale = softplus)": ("v / 7.5 - 1", ""),
    "normal(mean = soft_clamp(3), scale = bounded(0.1, 2))": ("v / 7.5 - 1", ""),
    "laplace": ("v / 7.5 - 1", ""),
    "laplace(scale = logvar)": ("v / 7.5 - 1", ""),
    "categorical": ("v / 7.5 - 1", ""),
    "bernoulli": ("v", ", binarize = threshold"),
    "bernoulli(crop = 1)": ("v", ", binarize = threshold"),
}
BETAS = (
    "ramp(from = 0.1, length = fraction(0.5))",
    "linear(from = 0, to = 2, length = 20)",
    "cosine(from = 0.5, to = 1, length = 20)",
    "cyclic(length = 10)",
    "logistic(middle = 10, width = 3)",
    "0.5",
)
OBJECTIVES = (  # of models with rates
    "kl = sample",
    "samples = 2",
    "samples = 3, chunk = 2",
    "samples = 2, bound = iwae",
    "samples = 4, bound = iwae, chunk = 2",
    "free = at_least(0.01)",
    "free = at_least(0.01, per = channel, take_max = after_batch_mean)",
    "free = at_least(0.001, per = element, when = always)",
    "balance = by_size(square)",
    "balance = by_rate(10)",
    "spectral = 0.1",
    "spectral = with_beta(0.1, 0.2), beta = ramp(length = 10)",
)
LATENT_SETTINGS = (
    "weight = 1 / (1 + index)",
    "free = at_least(0.1)",
    "free = at_least(0.01, per = channel)",
    "free = none",
    "temperature = 0.9",
    "weight = 0",
    "weight = 0.5, temperature = 0.8",
)
SCALES = (
    "",
    ", scale = softplus",
    ", scale = softplus(0.7)",
    ", scale = exp(soft_clamp = 5, add = 0.01)",
    ", scale = logvar",
    ", scale = softplus_variance",
    ", scale = softplus_logvar",
    ", scale = bounded(0.01, 5)",
    ", mean = soft_clamp(3)",
)
QUANTIZERS = {  # the prior of three channels, or two: its posterior's word, codes at a position, depth
    "codebook(6, 3)": ("nearest_code", 6, 1),
    "codebook(6, 3, start = kmeans, expire = 0.5, decay = 0.9)": ("nearest_code", 6, 1),
    "codebook(6, 3, update = gradient, distance = cosine)": ("nearest_code", 6, 1),
    "codebook(6, 3, update = gradient, orthogonal = 0.1)": ("nearest_code", 6, 1),
    "codebook(6, 3, update = linear)": ("nearest_code", 6, 1),
    "codebook(5, 3, depth = 2)": ("nearest_code", 5, 2),
    "codebook(5, 3, depth = 2, shared = yes, update = gradient)": ("nearest_code", 5, 2),
    "finite_scalar(3, 4)": ("round_code", 12, 1),
    "finite_scalar(2, 4, symmetric = yes)": ("round_code", 8, 1),
    "lookup_free(3)": ("sign_code", 8, 1),
    "lookup_free(3, spherical = yes, entropy = 0.2)": ("sign_code", 8, 1),
}
VARIANTS = (  # that can be laid over each other, in any order
    "let w = 6",
    "let zdim = 3",
    "train { batch = 3, optimizer = sgd(lr = 1e-3, momentum = 0.9) }",
    "default conv { bias_init = gaussian(0.1) }",
    "evaluate { samples = 2 }",
    "cell c0(n = 1) { gelu -> conv(1x1, channels) -> affine * n }",
)
GROUPS = (  # of parameters
    'groups = ["encoder": frozen, "*.bias": trained(lr = 1e-4)]',
    'groups = ["*.bias": trained(lr = 1e-4, weight_decay = 0)]',
    'groups = ["decoder.*": trained(lr = 1e-2), "encoder": frozen]',
)
