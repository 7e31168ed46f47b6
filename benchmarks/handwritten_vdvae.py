"""A VDVAE (Child 2021, arXiv:2011.10650) written by hand in plain PyTorch: the yardstick for the speed of emitted code.

It needs torch only and is what an engineer would write for this one model. Tensors are NCHW; rates and distortions
come back in nats per dimension of the image. Parameter names are those of the published state dicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """A model. Blocks are written as in the paper's code: `32x11` eleven blocks at 32, `32d2` one that then halves the
    map, `4m1` one that first takes in the stream of resolution 1. `widths` overrides `width` at some resolutions."""

    image_size: int
    width: int
    zdim: int
    encoder: str
    decoder: str
    mixtures: int
    bits: int = 8
    bottleneck: float = 0.25
    no_bias_above: int = 64
    widths: dict[int, int] = field(default_factory=dict)

    def width_at(self, resolution: int) -> int:
        return self.widths.get(resolution, self.width)


def parse_blocks(text: str) -> list[tuple[int, int | None]]:
    """`(resolution, pooling rate or source resolution)` of each block."""
    blocks: list[tuple[int, int | None]] = []
    for entry in text.split(","):
        if "x" in entry:
            resolution, count = map(int, entry.split("x"))
            blocks += [(resolution, None)] * count
        elif "m" in entry or "d" in entry:
            resolution, other = map(int, entry.replace("m", "d").split("d"))
            blocks.append((resolution, other))
        else:
            blocks.append((int(entry), None))
    return blocks


class Bottleneck(nn.Module):
    """Four convolutions, 1x1, 3x3, 3x3, 1x1, each after a GELU; all 1x1 where the map is too small."""

    def __init__(self, inputs: int, middle: int, outputs: int, resolution: int, scale: float = 1.0) -> None:
        super().__init__()
        k = 3 if resolution > 2 else 1
        self.c1 = nn.Conv2d(inputs, middle, 1)
        self.c2 = nn.Conv2d(middle, middle, k, padding=k // 2)
        self.c3 = nn.Conv2d(middle, middle, k, padding=k // 2)
        self.c4 = nn.Conv2d(middle, outputs, 1)
        for conv in (self.c1, self.c2, self.c3, self.c4):
            nn.init.zeros_(conv.bias)
        with torch.no_grad():
            self.c4.weight *= scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.c1(F.gelu(x))
        x = self.c2(F.gelu(x))
        x = self.c3(F.gelu(x))
        return self.c4(F.gelu(x))


class Encoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.blocks = parse_blocks(config.encoder)
        self.in_conv = nn.Conv2d(3, config.width, 3, padding=1)
        nn.init.zeros_(self.in_conv.bias)
        self.enc_blocks = nn.ModuleList()
        for resolution, _ in self.blocks:
            w = config.width_at(resolution)
            scale = math.sqrt(1 / len(self.blocks))
            self.enc_blocks.append(Bottleneck(w, int(w * config.bottleneck), w, resolution, scale))

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """The last activation at each resolution."""
        x = self.in_conv(x)
        features = {x.shape[2]: x}
        for block, (_, pool) in zip(self.enc_blocks, self.blocks, strict=True):
            x = x + block(x)
            if pool is not None:
                x = F.avg_pool2d(x, pool)
            missing = self.config.width_at(x.shape[2]) - x.shape[1]
            if missing:
                x = F.pad(x, (0, 0, 0, 0, 0, missing))
            features[x.shape[2]] = x
        return features


class Group(nn.Module):
    """One stochastic layer of the top-down path."""

    def __init__(self, config: Config, resolution: int, count: int) -> None:
        super().__init__()
        w, z = config.width_at(resolution), config.zdim
        middle, scale = int(w * config.bottleneck), math.sqrt(1 / count)
        self.zdim = z
        self.enc = Bottleneck(2 * w, middle, 2 * z, resolution)
        self.prior = Bottleneck(w, middle, 2 * z + w, resolution, scale=0.0)
        self.z_proj = nn.Conv2d(z, w, 1)
        nn.init.zeros_(self.z_proj.bias)
        with torch.no_grad():
            self.z_proj.weight *= scale
        self.resnet = Bottleneck(w, middle, w, resolution, scale)

    def infer(self, x: Tensor, skip: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """The stream after this group, and the rate of each image in nats."""
        pm, pv, feature = self.prior(x).split((self.zdim, self.zdim, x.shape[1]), 1)
        qm, qv = self.enc(torch.cat((x, skip), 1)).chunk(2, 1)
        z = qm + qv.exp() * eps
        rate = -0.5 + pv - qv + 0.5 * (torch.exp(2 * (qv - pv)) + ((qm - pm) * torch.exp(-pv)).square())
        return self.merge(x, feature, z), rate.flatten(1).sum(1)

    def generate(self, x: Tensor, eps: Tensor, temperature: float) -> Tensor:
        pm, pv, feature = self.prior(x).split((self.zdim, self.zdim, x.shape[1]), 1)
        return self.merge(x, feature, pm + temperature * pv.exp() * eps)

    def merge(self, x: Tensor, feature: Tensor, z: Tensor) -> Tensor:
        x = x + feature + self.z_proj(z)
        return x + self.resnet(x)


class Decoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.blocks = parse_blocks(config.decoder)
        self.resolutions = sorted({resolution for resolution, _ in self.blocks})
        self.dec_blocks = nn.ModuleList(Group(config, r, len(self.blocks)) for r, _ in self.blocks)
        self.bias_xs = nn.ParameterList(
            torch.zeros(1, config.width_at(r), r, r) for r in self.resolutions if r <= config.no_bias_above
        )
        self.gain = nn.Parameter(torch.ones(1, config.width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, config.width, 1, 1))
        self.out_net = nn.Module()
        self.out_net.out_conv = nn.Conv2d(config.width, 10 * config.mixtures, 1)
        nn.init.zeros_(self.out_net.out_conv.bias)

    def streams(self, batch: int, like: Tensor) -> dict[int, Tensor]:
        """The learned start of each resolution, zeros above the largest that has one."""
        starts = list(self.bias_xs)
        return {
            r: (
                starts[i].expand(batch, -1, -1, -1)
                if i < len(starts)
                else like.new_zeros(batch, self.config.width_at(r), r, r)
            )
            for i, r in enumerate(self.resolutions)
        }

    def mixed(self, streams: dict[int, Tensor], resolution: int, source: int | None) -> Tensor:
        x = streams[resolution]
        if source is None:
            return x
        coarse = streams[source][:, : x.shape[1]]
        return x + F.interpolate(coarse, scale_factor=resolution // source, mode="nearest")

    def infer(self, features: dict[int, Tensor], noise: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The likelihood's parameters, and the rates `(groups, N)` in nats."""
        streams = self.streams(noise[0].shape[0], noise[0])
        rates = []
        for group, (r, source), eps in zip(self.dec_blocks, self.blocks, noise, strict=True):
            streams[r], rate = group.infer(self.mixed(streams, r, source), features[r], eps)
            rates.append(rate)
        return self.head(streams), torch.stack(rates)

    def generate(self, noise: Sequence[Tensor], temperatures: Sequence[float]) -> Tensor:
        streams = self.streams(noise[0].shape[0], noise[0])
        for group, (r, source), eps, t in zip(self.dec_blocks, self.blocks, noise, temperatures, strict=True):
            streams[r] = group.generate(self.mixed(streams, r, source), eps, t)
        return self.head(streams)

    def head(self, streams: dict[int, Tensor]) -> Tensor:
        return self.out_net.out_conv(streams[self.config.image_size] * self.gain + self.bias)


class Vdvae(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, x: Tensor, target: Tensor, noise: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Distortion `(N,)` in nats per dimension and rates `(groups, N)` in nats."""
        params, rates = self.decoder.infer(self.encoder(x), noise)
        return mixture_nll(params, target, self.config.mixtures, self.config.bits), rates

    def loss(self, x: Tensor, target: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """The negative ELBO, nats per dimension, batch mean."""
        distortion, rates = self(x, target, noise)
        return (distortion + rates.sum(0) / target[0].numel()).mean()

    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """One draw of each group."""
        return [(self.config.zdim, r, r) for r, _ in self.decoder.blocks]


def mixture_nll(params: Tensor, target: Tensor, mixtures: int, bits: int) -> Tensor:
    """Mixture of discretised logistics in its published form, `(N,)` nats per dimension."""
    n, _, height, width = params.shape
    logits = params[:, :mixtures]
    means, log_scales, coefficients = params[:, mixtures:].reshape(n, 3, 3, mixtures, height, width).unbind(2)
    log_scales = torch.maximum(log_scales, log_scales.new_full((), -7.0))
    c0, c1, c2 = torch.tanh(coefficients).unbind(1)
    red, green, blue = target[:, :, None].unbind(1)
    m0, m1, m2 = means.unbind(1)
    d = torch.stack((red - m0, green - (m1 + c0 * red), blue - (m2 + c1 * red + c2 * green)), 1)
    s = torch.exp(-log_scales)
    half = 1 / (2**bits - 1)
    a, b, centre = s * (d + half), s * (d - half), s * d
    mass = torch.sigmoid(a) - torch.sigmoid(b)
    density = centre - log_scales - 2 * F.softplus(centre) - math.log(0.5 / half)
    inner = torch.where(mass > 1e-5, torch.log(mass.clamp_min(1e-12)), density)
    x = target[:, :, None]
    log_mass = torch.where(x < -0.999, a - F.softplus(a), torch.where(x > 0.999, -F.softplus(b), inner))
    log_p = torch.logsumexp(log_mass.sum(1) + F.log_softmax(logits, 1), 1)
    return -log_p.flatten(1).sum(1) / target[0].numel()


CIFAR10 = Config(
    image_size=32,
    width=384,
    zdim=16,
    encoder="32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3",
    decoder="1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21",
    mixtures=10,
)
