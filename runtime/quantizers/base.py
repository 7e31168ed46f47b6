"""What every quantizer offers, and how a latent that it gives is said: a uniform prior, a nearest-code posterior."""

from __future__ import annotations

import math
from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvdsl.runtime.ground.tensors import Agreement, Gradient, at_least_float32, require_codes
from hvdsl.runtime.layers.init import Layer
from hvdsl.runtime.quantizers.clustering import occurrences

LOWER_RATE = "lower `train.optimizer.lr`"


@dataclass(frozen=True, slots=True, eq=False)
class NearestCode:
    """The posterior of a discrete latent: all mass on the code nearest to each vector of `features` `(N, D, H, W)`."""

    features: Tensor
    gradient: Gradient = "straight_through"

    @property
    def shape(self) -> torch.Size:
        return self.features.shape


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """What a quantizer makes of a batch of features.

    Attributes:
        value: The code vectors, `(N, D, H, W)`, with a gradient to the features.
        codes: Their numbers, `(N, depth, H, W)` int64.
        commitment: Mean over positions and channels of (code - feature)², codes held fixed, summed over depth; `(N,)`.
        codebook: What trains the codes themselves by gradient, or keeps them in use; `(N,)`, None where nothing does.
        rows: What was quantized at each depth, `(N·H·W, D)` each, without gradients.
    """

    value: Tensor
    codes: Tensor
    commitment: Tensor
    codebook: Tensor | None
    rows: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedRows:
    """The same for vectors `(M, D)`: value `(M, D)`, codes `(M, depth)`, losses `(M,)`."""

    value: Tensor
    codes: Tensor
    commitment: Tensor
    codebook: Tensor | None = None
    rows: tuple[Tensor, ...] = ()


class UniformCodes:
    """The prior of a discrete latent: each of the quantizer's codes equally likely at every position."""

    def __init__(self, quantizer: Quantizer, batch: int) -> None:
        self.quantizer = quantizer
        self.shape = torch.Size((batch, quantizer.dim, *quantizer.grid))

    @property
    def mean(self) -> Tensor:
        """The mean code vector everywhere, `(N, D, H, W)`: what nothing is known of."""
        return self.quantizer.mean_code()[:, None, None].expand(self.shape)

    @property
    def code_shape(self) -> tuple[int, int, int, int]:
        """Of the code numbers: `(N, depth, H, W)`."""
        return (self.shape[0], self.quantizer.depth, *self.quantizer.grid)

    def sample(self, uniform: Tensor) -> Tensor:
        """Codes `(N, depth, H, W)` from numbers in [0, 1)."""
        count = self.quantizer.codes_per_level
        return (uniform.double() * count).long().clamp_max(count - 1)

    def rate(self, like: Tensor) -> Tensor:
        """depth · log K nats at each position, `(N, 1, H, W)`: what a code costs under this prior."""
        nats = self.quantizer.depth * math.log(self.quantizer.codes_per_level)
        return like.new_full((self.shape[0], 1, *self.quantizer.grid), nats)


class Quantizer(Layer):
    """Turns vectors into codes of a finite set, and codes back into vectors.

    `forward(batch)` is the prior of the latent, which is how a model hands its quantizer to the traversal. While
    training, the traversal shows each batch to `observe`, once, however often the model is run; the optimisation then
    calls `update`, on all ranks alike, and says whether the step counts. Nothing changes in evaluation.

    Args:
        codes_per_level: K.
        dim: Channels of a code vector, D.
        grid: Height and width of the latent.
        depth: Codes per position.

    Attributes:
        agreement: What the processes of a training agree on; the optimisation hands it in. By default there is one.
    """

    def __init__(self, codes_per_level: int, dim: int, grid: tuple[int, int], depth: int = 1) -> None:
        super().__init__()
        self.codes_per_level, self.dim, self.grid, self.depth = codes_per_level, dim, grid, depth
        self.agreement = Agreement()
        # No buffers: they are no weights, and are not broadcast.
        self._counts: Tensor | None = None
        self._window: Tensor | None = None

    def forward(self, batch: int) -> UniformCodes:
        return UniformCodes(self, batch)

    @property
    def remedy(self) -> str:
        """What a user can do about too few codes in use."""
        return LOWER_RATE

    def quantize(self, posterior: NearestCode) -> Quantized:
        """Quantize every position, in float32 or wider whatever the precision around."""
        features = posterior.features
        batch, dim, height, width = features.shape
        with _exact(features.device.type):
            rows = at_least_float32(features).permute(0, 2, 3, 1).reshape(-1, dim)
            found = self.quantize_rows(rows, posterior.gradient)

        def of_images(rows: Tensor) -> Tensor:
            return rows.view(batch, -1).mean(1)

        value = found.value.view(batch, height, width, dim).permute(0, 3, 1, 2)
        return Quantized(
            value=value.contiguous() if features.is_contiguous() else value,  # channels last, as the features then are
            codes=found.codes.view(batch, height, width, self.depth).permute(0, 3, 1, 2).contiguous(),
            commitment=of_images(found.commitment),
            codebook=None if found.codebook is None else of_images(found.codebook),
            rows=found.rows,
        )

    def look_up(self, codes: Tensor) -> Tensor:
        """Code vectors `(N, D, H, W)` of `codes` `(N, depth, H, W)`.

        Raises:
            ValueError: a code is not one of the K.
        """
        owner = "this quantizer has {}, numbered from 0: were they made by another model?"
        require_codes(codes, self.codes_per_level, owner)
        batch, depth, height, width = codes.shape
        vectors = self.look_up_rows(codes.long().permute(0, 2, 3, 1).reshape(-1, depth))
        return vectors.view(batch, height, width, self.dim).permute(0, 3, 1, 2).contiguous()

    @abstractmethod
    def quantize_rows(self, rows: Tensor, gradient: Gradient) -> QuantizedRows:
        """Quantize vectors `(M, D)`."""

    @abstractmethod
    def look_up_rows(self, codes: Tensor) -> Tensor:
        """Code vectors `(M, D)` of `codes` `(M, depth)`."""

    @abstractmethod
    def mean_code(self) -> Tensor:
        """The mean of the uniform prior, `(D,)`."""

    def note(self, quantized: Quantized) -> None:
        """Observe a batch, if this is training."""
        if self.training:
            self.observe(quantized)

    def observe(self, quantized: Quantized) -> None:
        """Add a batch to what the next update learns from."""
        counts = [
            occurrences(c, self.codes_per_level, quantized.value) for c in quantized.codes.transpose(0, 1).flatten(1)
        ]
        self._counts = _added(self._counts, torch.stack(counts))

    def update(self, applied: Tensor) -> None:
        """Learn from what was observed since the last update; every rank takes part, whatever it has seen.

        Args:
            applied: Whether to; otherwise what was observed is forgotten. A scalar on the model's device, the same on
                every rank, so that nothing waits for it.
        """
        self._summed(applied)

    def take_window(self) -> Tensor:
        """How often each code was chosen since this was last asked, over all ranks, `(depth, K)`."""
        window, self._window = self.window, None
        return window

    @property
    def window(self) -> Tensor:
        """The same, without beginning anew; to go on with the counts of a checkpoint, it may be set."""
        return torch.zeros(self.depth, self.codes_per_level) if self._window is None else self._window

    @window.setter
    def window(self, counts: Tensor | None) -> None:
        self._window = None if counts is None else counts.to(_device(self))

    def _summed(self, applied: Tensor) -> Tensor:
        """How often each code was chosen in this step, over all ranks, `(depth, K)`; for the window if `applied`."""
        counts = self._counts
        if counts is None:
            counts = torch.zeros(self.depth, self.codes_per_level, device=_device(self))
        counts = self.agreement.sum(counts)
        self._window = _added(self._window, torch.where(applied, counts, torch.zeros_like(counts)))
        self._counts = None
        return counts


def _exact(device: str) -> AbstractContextManager[Any]:
    """No mixed precision, on devices that know it."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _added(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more


def _device(module: Layer) -> torch.device:
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
