"""Where randomness comes from: a stream per purpose, a value per image, or a recording.

Noise is a pure function of (seed, step, image, stream): one rank or two, large batches or small, a draw skipped or
not, an image always meets the same noise. How that function is computed is a numbered scheme, noted in checkpoints.
Scheme 1 draws stream by stream on the CPU; scheme 2 draws all latent groups of an image together, where they are used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

SCHEMES = (1, 2)
SCHEME = SCHEMES[-1]
"""The scheme of new runs. A checkpoint that names none is of scheme 1."""


class Noise(Protocol):
    """Random numbers for a batch of images. Asking twice gives the same numbers."""

    @property
    def batch(self) -> int: ...

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        """Standard normals `(batch, *shape)`."""
        ...

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        """Uniform numbers `(batch, *shape)` in [low, high)."""
        ...


class SampleNoise:
    """Scheme 1: noise that each image draws for itself, stream by stream, in float32.

    `indices` are the images' global numbers: places in the data set, or in the list of samples. The numbers are those
    of the device's generator; scheme 1 proper is that of the CPU.
    """

    def __init__(self, seed: int, indices: Sequence[int], step: int = 0, device: torch.device | str = "cpu") -> None:
        self.seed, self.step, self.indices = seed, step, tuple(indices)
        self.device = torch.device(device)
        self._generator: torch.Generator | None = None

    @property
    def batch(self) -> int:
        return len(self.indices)

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        out = torch.empty(self.batch, *shape, device=self.device)
        for row, index in zip(out, self.indices, strict=True):
            row.normal_(generator=self._seeded(f"{index}/{stream}"))
        return out

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        out = torch.empty(self.batch, *shape, device=self.device)
        for row, index in zip(out, self.indices, strict=True):
            row.uniform_(low, high, generator=self._seeded(f"{index}/{stream}"))
        return out

    def _seeded(self, purpose: str) -> torch.Generator:
        key = hashlib.blake2b(f"{self.seed}/{self.step}/{purpose}".encode(), digest_size=8).digest()
        if self._generator is None:
            self._generator = torch.Generator(self.device)
        return self._generator.manual_seed(int.from_bytes(key, "little"))


Kind = Literal["normal", "uniform"]


@dataclass(frozen=True, slots=True)
class NoiseLayout:
    """Where each stream's numbers stand among all that an image draws at once.

    Attributes:
        places: By stream, whether its numbers are normal or uniform, the first of them, and the one after the last.
        totals: How many numbers of each kind an image draws.
    """

    places: Mapping[str, tuple[Kind, int, int]]
    totals: Mapping[Kind, int]

    @classmethod
    def of(cls, streams: Iterable[tuple[str, Kind, int]]) -> NoiseLayout:
        """One stream after the other, each with its kind and how many numbers it takes of an image's."""
        totals: dict[Kind, int] = {"normal": 0, "uniform": 0}
        places: dict[str, tuple[Kind, int, int]] = {}
        for stream, kind, count in streams:
            places[stream] = (kind, totals[kind], totals[kind] + count)
            totals[kind] += count
        return cls(places, totals)


class JointNoise(SampleNoise):
    """Scheme 2: each image draws the numbers of all streams of `layout` together, by the device's own generator.

    An image's generator is seeded by (seed, step, index); one draw gives all its normal numbers and, where any stream
    is uniform, one more all of those. A stream that the layout does not hold, such as the likelihood's, is drawn by
    itself as in scheme 1. The numbers depend on the model of the device.
    """

    def __init__(
        self,
        seed: int,
        indices: Sequence[int],
        step: int = 0,
        *,
        layout: NoiseLayout,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seed, indices, step, device)
        self.layout = layout
        self._drawn: dict[Kind, Tensor] = {}

    def draw(self) -> Mapping[Kind, Tensor]:
        """All numbers of the layout, `(batch, numbers)` of each kind, drawn once: ahead of the pass that needs them."""
        if not self._drawn:
            drawn: dict[Kind, Tensor] = {
                kind: torch.empty(self.batch, count, device=self.device) for kind, count in self.layout.totals.items()
            }
            normals, uniforms = drawn["normal"], drawn["uniform"]
            for row, other, index in zip(normals, uniforms, self.indices, strict=True):
                generator = self._seeded(str(index))
                row.normal_(generator=generator)
                if other.numel():
                    other.uniform_(generator=generator)
            self._drawn = drawn
        return self._drawn

    def hold(self, drawn: Mapping[Kind, Tensor]) -> None:
        """Take the numbers from these tensors, into which those of `draw` were copied."""
        self._drawn = dict(drawn)

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        numbers = self._slice("normal", stream, shape)
        return super().normal(stream, shape) if numbers is None else numbers

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        numbers = self._slice("uniform", stream, shape)
        if numbers is None:
            return super().uniform(stream, shape, low, high)
        if (low, high) == (0.0, 1.0):
            return numbers
        highest = np.nextafter(np.float32(high), np.float32(low))  # rounding must not reach what is excluded
        return (numbers * (high - low) + low).clamp_max(float(highest))

    def _slice(self, kind: Kind, stream: str, shape: Sequence[int]) -> Tensor | None:
        drawn, first, end = self.layout.places.get(stream, (kind, 0, -1))
        if drawn != kind or end - first != math.prod(shape):
            return None
        return self.draw()[kind][:, first:end].view(self.batch, *shape)


class RecordedNoise:
    """Noise that was written down: tensors `(batch, *shape)` by stream.

    `latents` are the normals of the latent groups in order of generation, None for groups that draw nothing.

    Raises:
        ValueError: when a stream is asked for that was not recorded, or in another shape.
    """

    def __init__(
        self, batch: int, latents: Sequence[Tensor | None] = (), streams: Mapping[str, Tensor] | None = None
    ) -> None:
        self.batch = batch
        self._streams = {latent_stream(i): eps for i, eps in enumerate(latents) if eps is not None}
        self._streams.update(streams or {})

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        return self._recorded(stream, shape)

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        return self._recorded(stream, shape)

    def _recorded(self, stream: str, shape: Sequence[int]) -> Tensor:
        if stream not in self._streams:
            raise ValueError(
                f"no noise was recorded for `{stream}`; recorded are {', '.join(sorted(self._streams)) or 'none'}"
            )
        noise = self._streams[stream]
        if tuple(noise.shape) != (self.batch, *shape):
            raise ValueError(
                f"the noise recorded for `{stream}` is {tuple(noise.shape)}; {(self.batch, *shape)} is needed"
            )
        return noise


class JoinedNoise:
    """The numbers of several noises one after the other, as of one batch: several samples of the same images."""

    def __init__(self, parts: Sequence[Noise]) -> None:
        self._parts = tuple(parts)

    @property
    def batch(self) -> int:
        return sum(part.batch for part in self._parts)

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        return torch.cat([part.normal(stream, shape) for part in self._parts])

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        return torch.cat([part.uniform(stream, shape, low, high) for part in self._parts])


def latent_stream(group: int) -> str:
    """The stream of a latent group, by its place in the order of generation."""
    return f"latent.{group}"


def derive_seed(*parts: int | str) -> int:
    """A seed for one purpose: the same for the same parts, unrelated to all others."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1  # fits an int64
