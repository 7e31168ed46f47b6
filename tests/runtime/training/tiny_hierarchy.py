"""A three-group hierarchy on 8x8 images, by hand in the form of emitted code, and what is needed to train it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import Data, ModelSettings, ObjectiveSettings, Optimizer, Train
from hvdsl.runtime.distributions import Normal
from hvdsl.runtime.latents import LatentGroup, Traversal
from hvdsl.runtime.layers import Affine, BatchNorm2d, Conv2d, Dropout, Learned, Recipe, Scope, initialize
from hvdsl.runtime.likelihoods import DiscretizedLogisticMixture

WIDTH, Z = 8, 2


class Bottleneck(Recipe):
    def __init__(self, channels: int, out: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.ModuleList([Conv2d(channels, 4, (3, 3)), Conv2d(4, out, (1, 1))])
        self.dropout = nn.ModuleList([Dropout(dropout)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv[0](F.gelu(x))
        return self.conv[1](F.gelu(self.dropout[0](x)))


class Block(Recipe):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.bottleneck = nn.ModuleList([Bottleneck(WIDTH, WIDTH, dropout)])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bottleneck[0](x)


class Layer(Recipe):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.q = Scope(bottleneck=[Bottleneck(2 * WIDTH, 2 * Z, dropout)])
        self.p = Scope(bottleneck=[Bottleneck(WIDTH, 2 * Z + WIDTH, dropout)])
        self.conv = nn.ModuleList([Conv2d(Z, WIDTH, (1, 1))])
        self.block = nn.ModuleList([Block(dropout)])

    def forward(self, x: Tensor, skip: Tensor | None, latents: Traversal) -> Tensor:
        p, feature = self.p.bottleneck[0](x).split((2 * Z, WIDTH), 1)
        posterior = None
        if latents[0].inferred:
            posterior = Normal(self.q.bottleneck[0](torch.cat((x, skip), 1)))
        z = latents[0].draw(Normal(p), posterior)
        x = x + feature + self.conv[0](z)
        return self.block[0](x)


class Encoder(nn.Module):
    def __init__(self, dropout: float, norm: bool) -> None:
        super().__init__()
        self.r8 = Scope(
            conv=[Conv2d(1, WIDTH, (3, 3))], block=[Block(dropout)], batch_norm=[BatchNorm2d(WIDTH)] if norm else []
        )
        # As in a spec with a tap that nobody reads, `conv` has no part in the output.
        self.r4 = Scope(block=[Block(dropout), Block(dropout)], conv=[Conv2d(WIDTH, 1, (1, 1))])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.r8.block[0](self.r8.conv[0](x))
        for norm in self.r8.batch_norm:
            x = norm(x)
        skip_8, x = x, F.avg_pool2d(x, 2)
        for block in self.r4.block:
            x = block(x)
        return skip_8, x


class Decoder(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.r4 = Scope(learned=[Learned((WIDTH, 4, 4))], layer=[Layer(dropout), Layer(dropout)])
        self.r8 = Scope(layer=[Layer(dropout)], affine=[Affine(WIDTH)], conv=[Conv2d(WIDTH, 6, (1, 1))])

    def forward(self, skip_8: Tensor | None, skip_4: Tensor | None, latents: Traversal) -> Tensor:
        x = self.r4.learned[0](latents.batch)
        for i, layer in enumerate(self.r4.layer):
            x = layer(x, skip_4, latents[i : i + 1])
        x = F.interpolate(x, scale_factor=2)
        x = self.r8.layer[0](x, skip_8, latents[2:3])
        return self.r8.conv[0](self.r8.affine[0](x))


class TinyHierarchy(nn.Module):
    LATENTS = (
        LatentGroup("z", "decoder.r4.layer.0.z", "normal", (Z, 4, 4)),
        LatentGroup("z", "decoder.r4.layer.1.z", "normal", (Z, 4, 4)),
        LatentGroup("z", "decoder.r8.layer.0.z", "normal", (Z, 8, 8)),
    )

    def __init__(self, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.encoder = Encoder(dropout, norm)
        self.decoder = Decoder(dropout)
        self.likelihood = DiscretizedLogisticMixture(2, channels=1, bits=4)

    def input(self, v: Tensor) -> Tensor:
        return (v - 7.5) / 5

    def target(self, v: Tensor) -> Tensor:
        return (v - 7.5) / 7.5

    def forward(self, x: Tensor | None, latents: Traversal) -> Tensor:
        skip_8, skip_4 = (None, None) if x is None or not latents.inferred else self.encoder(x)
        return self.decoder(skip_8, skip_4, latents)


class Blobs:
    """Images of a bright bar on a noisy ground: something to learn, as a function of (epoch, index)."""

    name = "blobs"
    shape = (1, 8, 8)

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def batch(self, indices: Sequence[int], epoch: int = 0, step: int = 0) -> NDArray[Any]:
        return np.stack([self._one(i, epoch) for i in indices])

    def names(self, indices: Sequence[int]) -> list[str]:
        return [f"blob {i}" for i in indices]

    def _one(self, index: int, epoch: int) -> NDArray[Any]:
        rng = np.random.default_rng((index, epoch))
        image = rng.integers(0, 4, (1, 8, 8))
        image[:, index % 8] += 11
        return image.astype(np.uint16)


def tiny(seed: int = 0, dropout: float = 0.0, norm: bool = False) -> TinyHierarchy:
    model = TinyHierarchy(dropout, norm)
    initialize(model, seed)
    return model


def settings(**train: Any) -> ModelSettings:
    chosen: dict[str, Any] = {
        "steps": 6,
        "batch": 8,
        "optimizer": Optimizer(kind="adamw", lr=3e-3),
        "warmup": Duration(n=2),
        "ema": 0.9,
        "log_every": 1,
        "checkpoint_every": Duration(n=2),
        **train,
    }
    return ModelSettings(
        model="tiny",
        data=Data(name="arrays", shape=(1, 8, 8), bits=4),
        objective=ObjectiveSettings(unit="nats_per_dim"),
        train=Train(**chosen),
    )
