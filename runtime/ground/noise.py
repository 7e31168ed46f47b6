"""Where randomness comes from: a stream per purpose, a value per image, or a recording.

Noise is a pure function of (seed, step, image, stream): one rank or two, large batches or small, a draw skipped or
not, an image always meets the same noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor


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
    """Noise that each image draws for itself, in float32 on the CPU.

    `indices` are the images' global numbers: places in the data set, or in the list of samples.
    """

    def __init__(self, seed: int, indices: Sequence[int], step: int = 0) -> None:
        self.seed, self.step, self.indices = seed, step, tuple(indices)
        self._generator = torch.Generator()

    @property
    def batch(self) -> int:
        return len(self.indices)

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        out = torch.empty(self.batch, *shape)
        for row, index in zip(out, self.indices, strict=True):
            row.normal_(generator=self._seeded(stream, index))
        return out

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        out = torch.empty(self.batch, *shape)
        for row, index in zip(out, self.indices, strict=True):
            row.uniform_(low, high, generator=self._seeded(stream, index))
        return out

    def _seeded(self, stream: str, index: int) -> torch.Generator:
        key = hashlib.blake2b(f"{self.seed}/{self.step}/{index}/{stream}".encode(), digest_size=8).digest()
        return self._generator.manual_seed(int.from_bytes(key, "little"))


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


def latent_stream(group: int) -> str:
    """The stream of a latent group, by its place in the order of generation."""
    return f"latent.{group}"
