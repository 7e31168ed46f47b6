"""Discretised logistics as likelihoods of pixel values: one per value, or the mixture of PixelCNN++.

The probability of a value is the mass of its bin, which is written in two forms. With s = exp(-log scale),
d = x - mean and half a bin h, the bin's edges are a = s (d + h) and b = s (d - h), and its mass is
sigmoid(a) - sigmoid(b). The lowest bin also holds what is below it, sigmoid(a); the highest what is above, sigmoid(-b).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvdsl.runtime.distributions import ScaleMap, exp
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.ground.tensors import at_least_float32
from hvdsl.runtime.layers.init import Fill, Layer, zeros
from hvdsl.runtime.likelihoods.base import Summed

LOGISTIC_STREAM = "likelihood.logistic"
MIXTURE_STREAM = "likelihood.mixture"
NORMAL_STREAM = "likelihood.normal"
_NARROW = 1e-2  # of a bin, in standard deviations
_MARGIN = 1e-5  # keeps log u and log(1 - u) finite, as in the published samplers
_PUBLISHED_EDGES = (-0.999, 0.999)  # targets beyond them take the tails
_SMALLEST = 1e-30  # of a bin's width in scales: finite logarithm and gradient where exp(-log scale) underflows


def exact_log_mass(x: Tensor, distance: Tensor, log_scale: Tensor, half_bin: float) -> Tensor:
    """log mass = log sigmoid(a) + log sigmoid(-b) + log(1 - exp(-(a - b))), without cancellation.

    a - b = 2 h s holds exactly, so no difference of nearly equal numbers is ever formed, and the masses of a grid sum
    to 1.
    """
    inverse = torch.exp(-log_scale)
    width = (2 * half_bin * inverse).clamp_min(_SMALLEST)
    below_a = F.logsigmoid(inverse * (distance + half_bin))
    above_b = F.logsigmoid(-inverse * (distance - half_bin))
    between = torch.log(-torch.expm1(-width))
    # A grid ends at -1 and 1, or half a bin inside, where its bins fill the interval: 1.5 tells both from the next.
    lowest, highest = x < -1 + 1.5 * half_bin, x > 1 - 1.5 * half_bin
    return torch.where(lowest, below_a, torch.where(highest, above_b, below_a + above_b + between))


def published_log_mass(
    x: Tensor, distance: Tensor, log_scale: Tensor, half_bin: float, lower_edge: float, upper_edge: float
) -> Tensor:
    """The form of the released PixelCNN++ code and its descendants: the numbers that papers report are in it.

    Where sigmoid(a) - sigmoid(b) is not above 1e-5, the density at the centre times the bin's width stands in:
    s d - log scale - 2 softplus(s d) + log(2 h). Targets below `lower_edge` or above `upper_edge` take the tails.
    """
    inverse = torch.exp(-log_scale)
    a = inverse * (distance + half_bin)
    b = inverse * (distance - half_bin)
    centre = inverse * distance
    mass = torch.sigmoid(a) - torch.sigmoid(b)
    density = centre - log_scale - 2 * F.softplus(centre) - math.log(0.5 / half_bin)
    inner = torch.where(mass > 1e-5, torch.log(mass.clamp_min(1e-12)), density)
    lowest, highest = a - F.softplus(a), -F.softplus(b)
    return torch.where(x < lower_edge, lowest, torch.where(x > upper_edge, highest, inner))


class DiscretizedLogistic(Summed, Layer):
    """The mass of the bin of width `bin` around the target, under a logistic of its own in each pixel and channel.

    Args:
        bits: Of the target's grid.
        scale: Raw scale to scale; `params` is then `(N, 2C, H, W)`, means and raw scales. None: one learned log-scale
            for all, and `params` is the means.
        bin: In the target's units.
        bins: `exact`: the outermost, at -1 and 1 or half a bin inside, take the tails, too. `open`: every bin is only
            as wide as it is. `published`: the form of the released mixtures with a single component, a density below a
            bin mass of 1e-5, and tails beyond -0.999 and 0.999.
        lower: The least log-scale.
        at_least: Added to a bin's probability before the logarithm.

    Raises:
        ValueError: The distribution has no such form of bins.
    """

    density = True
    forms: tuple[str, ...] = ("exact", "open", "published")

    def __init__(
        self,
        *,
        bits: int,
        bin: float,
        scale: ScaleMap | None = None,
        bins: Literal["exact", "open", "published"] = "exact",
        lower: float = -7.0,
        at_least: float = 0.0,
    ) -> None:
        if bins not in self.forms:
            raise ValueError(f"`bins` is {' or '.join(f'`{form}`' for form in self.forms)}, not `{bins}`")
        super().__init__()
        self.bits, self.bin, self.bins, self.lower, self.at_least = bits, bin, bins, lower, at_least
        self.scale = scale
        if scale is None:
            self.log_scale = nn.Parameter(torch.empty(1))

    def initial(self, fill: Fill) -> None:
        if self.scale is None:
            fill("log_scale", zeros(), 1)

    def log_prob(self, params: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        mean, log_scale = self._unpack(params)
        x = target.to(mean)
        if self.bins == "published":
            log_mass = published_log_mass(x, x - mean, log_scale, self.bin / 2, *_PUBLISHED_EDGES)
        else:
            ends = x if self.bins == "exact" else torch.zeros_like(x)  # 0 is at neither end: no bin takes a tail
            log_mass = self.log_mass(ends, x - mean, log_scale, self.bin / 2)
        if self.at_least > 0:
            log_mass = torch.logaddexp(log_mass, log_mass.new_full((), math.log(self.at_least)))
        return self.total(log_mass, weight)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """A value clamped to [-1, 1]; the temperature multiplies the scale."""
        mean, log_scale = self._unpack(params)
        if temperature == 0:
            return mean.clamp(-1, 1)
        drawn = self.standard_draw(noise, mean)
        return (mean + temperature * log_scale.exp() * drawn).clamp(-1, 1)

    @staticmethod
    def log_mass(x: Tensor, distance: Tensor, log_scale: Tensor, half_bin: float) -> Tensor:
        """The logarithm of the mass of the bin around `distance` from the centre."""
        return exact_log_mass(x, distance, log_scale, half_bin)

    @staticmethod
    def standard_draw(noise: Noise, like: Tensor) -> Tensor:
        """Draws of location 0 and scale 1, in the form of `like`."""
        u = noise.uniform(LOGISTIC_STREAM, like.shape[1:], _MARGIN, 1 - _MARGIN).to(like)
        return torch.log(u) - torch.log1p(-u)

    def mean(self, params: Tensor) -> Tensor:
        return self._unpack(params)[0].clamp(-1, 1)

    def dims(self, shape: tuple[int, int, int]) -> int:
        return math.prod(shape)

    def location_scale(self, params: Tensor) -> tuple[Tensor, Tensor] | None:
        mean, log_scale = self._unpack(params)
        return mean, log_scale.exp().expand_as(mean)

    def _unpack(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Means `(N, C, H, W)`, and log-scales that go with them."""
        params = at_least_float32(params)
        if self.scale is None:
            return params, self.log_scale.to(params).clamp_min(self.lower)
        mean, raw = params.chunk(2, dim=1)
        scale, log_scale = self.scale(raw)
        if log_scale is None:
            if scale is None:
                raise ValueError("the scale map gave neither a scale nor its logarithm")
            log_scale = scale.log()
        return mean, log_scale.clamp_min(self.lower)


def normal_log_mass(x: Tensor, distance: Tensor, log_scale: Tensor, half_bin: float) -> Tensor:
    """log mass of a bin under a normal distribution, log(Φ(a) - Φ(b)), without cancellation.

    By symmetry both edges are brought to the side where Φ is small: log Φ(a) + log(1 - exp(log Φ(b) - log Φ(a))). Bins
    much narrower than σ take the density at the centre, with its second-order correction (c² - 1) w² / 24.
    """
    inverse = torch.exp(-log_scale)
    a, b = inverse * (distance + half_bin), inverse * (distance - half_bin)
    width, centre = (2 * half_bin * inverse).clamp_min(_SMALLEST), inverse * distance
    upper, lower = torch.where(centre > 0, -b, a), torch.where(centre > 0, -a, b)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    narrow = width < _NARROW
    gap = torch.where(narrow, torch.full_like(width, -1.0), (log_lower - log_upper).clamp_max(-_SMALLEST))
    exact = log_upper + torch.log(-torch.expm1(gap))
    near = torch.where(narrow, centre, torch.zeros_like(centre))
    bend = ((near.square() - 1) * width.clamp_max(_NARROW).square() / 24).clamp(-0.5, 1.0)
    density = -0.5 * near.square() - 0.5 * math.log(2 * math.pi) + torch.log(width) + torch.log1p(bend)
    lowest, highest = x < -1 + 1.5 * half_bin, x > 1 - 1.5 * half_bin
    tails = torch.where(lowest, torch.special.log_ndtr(a), torch.special.log_ndtr(-b))
    return torch.where(lowest | highest, tails, torch.where(narrow, density, exact))


class DiscretizedNormal(DiscretizedLogistic):
    """The mass of the bin of width `bin` around the target, under a normal distribution in each pixel and channel.

    The likelihood of causal hierarchical VAEs (de Sousa Ribeiro et al. 2023). Arguments as of `DiscretizedLogistic`,
    without the published form, which is of logistics.
    """

    forms = ("exact", "open")

    @staticmethod
    def log_mass(x: Tensor, distance: Tensor, log_scale: Tensor, half_bin: float) -> Tensor:
        return normal_log_mass(x, distance, log_scale, half_bin)

    @staticmethod
    def standard_draw(noise: Noise, like: Tensor) -> Tensor:
        return noise.normal(NORMAL_STREAM, like.shape[1:]).to(like)


class DiscretizedLogisticMixture(Summed):
    """K logistics per pixel, over C colours of which each also depends linearly on those before it.

    Targets lie on the grid -1 + 2k / (2^bits - 1). For colour c of component i the mean is m_ic + Σ_{b<c} tanh(r_icb)
    x_b, with the true colours x_b; the mass is that of the bin of width 2 / (2^bits - 1) around the target, and the
    bins at the ends hold the tails. log p(x) = log Σ_i π_i Π_c P_ic(x_c).

    `params` has K (1 + 2C + C(C - 1)/2) channels. First come K mixture logits. For three colours, the published
    layout: for each colour K means, K raw scales, K coefficients, where the first colour's coefficients take green
    from red, the second's blue from red, the third's blue from green. For any other C: for each colour K means and K
    raw scales; then K coefficients for each pair, (1, 0), (2, 0), (2, 1), (3, 0) ….

    Args:
        mixtures: K.
        channels: C.
        bits: of the target's grid.
        bins: `exact`, the bin's probability; `published`, the form of the released code, with a density below a bin
            mass of 1e-5.
        lower: the least log-scale.
        lower_edge, upper_edge: `published` only; targets beyond them take the tails.
        scale: raw scale to scale.
    """

    density = True

    def __init__(
        self,
        mixtures: int,
        *,
        channels: int,
        bits: int = 8,
        bins: Literal["exact", "published"] = "exact",
        lower: float = -7.0,
        lower_edge: float = -0.999,
        upper_edge: float = 0.999,
        scale: ScaleMap | None = None,
    ) -> None:
        if bins not in ("exact", "published"):
            raise ValueError(f"`bins` is `exact` or `published`, not `{bins}`")
        if bins == "exact" and (lower_edge, upper_edge) != (-0.999, 0.999):
            raise ValueError(
                "`lower_edge` and `upper_edge` belong to `bins = published`; exact bins end at the grid's ends"
            )
        super().__init__()
        self.mixtures, self.channels, self.bits, self.bins = mixtures, channels, bits, bins
        self.lower, self.lower_edge, self.upper_edge = lower, lower_edge, upper_edge
        self.scale = scale or exp()

    def log_prob(self, params: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """log p of each image, `(N,)` nats.

        Raises:
            ValueError: `params` has another number of channels than C and K need, or `target` than C.
        """
        return self.total(self.log_prob_per_pixel(params, target), weight)

    def log_prob_per_pixel(self, params: Tensor, target: Tensor) -> Tensor:
        """log p of each pixel, `(N, H, W)` nats."""
        logits, means, log_scales, coefficients = self._unpack(params)
        if target.shape[1] != self.channels:
            raise ValueError(f"the target has {target.shape[1]} channels; the likelihood is for {self.channels}")
        x = target.to(means)[:, :, None]  # (N, C, 1, H, W)
        distance = self._distances(means, coefficients, x)
        half_bin = 1 / (2**self.bits - 1)
        if self.bins == "exact":
            log_mass = exact_log_mass(x, distance, log_scales, half_bin)
        else:
            log_mass = published_log_mass(x, distance, log_scales, half_bin, self.lower_edge, self.upper_edge)
        return torch.logsumexp(log_mass.sum(1) + F.log_softmax(logits, 1), 1)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """Draw a component per pixel by Gumbel-max, then the colours in turn, each clamped to [-1, 1].

        Streams: `likelihood.mixture` `(N, K, H, W)` and `likelihood.logistic` `(N, C, H, W)`, uniform between 1e-5 and
        1 - 1e-5. The temperature divides the mixture logits and multiplies the scales; 0 gives the likeliest
        component's centre.
        """
        logits, means, log_scales, coefficients = self._unpack(params)
        chosen = logits
        if temperature > 0:
            u = self._uniform(noise, MIXTURE_STREAM, logits.shape[1:]).to(logits)
            chosen = logits / temperature - torch.log(-torch.log(u))
        index = chosen.argmax(1, keepdim=True)[:, None]  # (N, 1, 1, H, W)
        value = self._pick(means, index)
        if temperature > 0:
            u = self._uniform(noise, LOGISTIC_STREAM, value.shape[1:]).to(value)
            spread = self._pick(log_scales, index).exp() * (torch.log(u) - torch.log1p(-u))
            value = value + temperature * spread
        return self._in_turn(value, self._pick(coefficients, index))

    def mean(self, params: Tensor) -> Tensor:
        """Mixture-weighted means and coefficients, the colours in turn, each clamped to [-1, 1]."""
        logits, means, _, coefficients = self._unpack(params)
        weights = logits.softmax(1)[:, None]
        return self._in_turn((means * weights).sum(2), (coefficients * weights).sum(2))

    def dims(self, shape: tuple[int, int, int]) -> int:
        return math.prod(shape)

    def extra_repr(self) -> str:
        return f"{self.mixtures}, channels={self.channels}, bits={self.bits}, bins={self.bins!r}"

    def _unpack(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits (N, K, H, W); means and log-scales (N, C, K, H, W); coefficients (N, C(C-1)/2, K, H, W)."""
        k, c = self.mixtures, self.channels
        pairs = c * (c - 1) // 2
        expected = k * (1 + 2 * c + pairs)
        if params.shape[1] != expected:
            raise ValueError(
                f"the likelihood's parameters have {params.shape[1]} channels; "
                f"{k} components of {c} colours need {expected}"
            )
        n, _, height, width = params.shape
        params = at_least_float32(params)
        logits, rest = params[:, :k], params[:, k:]
        if c == 3:
            means, raw, coefficients = rest.reshape(n, c, 3, k, height, width).unbind(2)
        else:
            colours, coefficients = rest[:, : 2 * c * k], rest[:, 2 * c * k :]
            means, raw = colours.reshape(n, c, 2, k, height, width).unbind(2)
            coefficients = coefficients.reshape(n, pairs, k, height, width)
        return logits, means, self._log_scales(raw), torch.tanh(coefficients)

    def _log_scales(self, raw: Tensor) -> Tensor:
        scale, log_scale = self.scale(raw)
        if log_scale is None:
            if scale is None:
                raise ValueError("the scale map gave neither a scale nor its logarithm")
            log_scale = scale.log()
        floor = torch.full((), self.lower, dtype=log_scale.dtype, device=log_scale.device)
        return torch.maximum(log_scale, floor)

    def _distances(self, means: Tensor, coefficients: Tensor, x: Tensor) -> Tensor:
        """Each colour less its mean given the true colours before it, (N, C, K, H, W)."""
        if self.channels == 1:
            return x - means
        distances: list[Tensor] = []
        pair = 0
        for c in range(self.channels):
            mean = means[:, c]
            for b in range(c):
                mean = torch.addcmul(mean, coefficients[:, pair], x[:, b])
                pair += 1
            distances.append(x[:, c] - mean)
        return torch.stack(distances, 1)

    def _in_turn(self, values: Tensor, coefficients: Tensor) -> Tensor:
        """Colours (N, C, H, W) from their own parts and what they take of the colours before, already clamped."""
        colours: list[Tensor] = []
        pair = 0
        for c in range(self.channels):
            colour = values[:, c]
            for before in colours:
                colour = colour + coefficients[:, pair] * before
                pair += 1
            colours.append(colour.clamp(-1, 1))
        return torch.stack(colours, 1)

    @staticmethod
    def _pick(values: Tensor, index: Tensor) -> Tensor:
        """The chosen component's values: (N, c, K, H, W) to (N, c, H, W)."""
        return values.gather(2, index.expand(-1, values.shape[1], -1, -1, -1)).squeeze(2)

    @staticmethod
    def _uniform(noise: Noise, stream: str, shape: torch.Size) -> Tensor:
        return noise.uniform(stream, shape, _MARGIN, 1 - _MARGIN)
