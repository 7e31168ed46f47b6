"""Which images make up the batch of a step: a function of (seed, step), so that there is nothing to remember."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.world import World


class PixelSource(Protocol):
    """The part of a data set that training and evaluation read."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], epoch: int = 0, step: int = 0) -> NDArray[Any]:
        """Raw pixel values `(N, C, H, W)`; augmentation is a function of (seed, epoch, step, index)."""
        ...


@runtime_checkable
class NamedSource(Protocol):
    """A data set whose images have names."""

    def names(self, indices: Sequence[int]) -> list[str]: ...


class ConditionedSource(PixelSource, Protocol):
    """A data set whose images have fields beside them."""

    def conditioned(
        self, indices: Sequence[int], fields: Sequence[str], epoch: int = 0, step: int = 0
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Pixels as `batch` gives them, and fields by name: classes `(N,)`, numbers `(N, C)` or `(N, C, H, W)`."""
        ...


def read_with_fields(
    images: PixelSource, indices: Sequence[int], fields: Sequence[str], epoch: int = 0, step: int = 0
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """The pixels of some images, and the fields of that name.

    Raises:
        HvdslError: The images have no fields.
    """
    if not fields:
        return images.batch(indices, epoch, step), {}
    if not hasattr(images, "conditioned"):
        wanted = ", ".join(f"`{field}`" for field in fields)
        raise HvdslError(f"the model is conditioned on {wanted}, which {images.name} have not: give them with `given`")
    return cast("ConditionedSource", images).conditioned(indices, fields, epoch, step)


@dataclass(frozen=True, slots=True)
class PixelBatch:
    """One rank's part of the batch of a step.

    Attributes:
        first: The position of the first image within the whole batch: what its noise is drawn by.
        pixels: Raw pixel values `(N, C, H, W)`.
        given: The fields that stand beside the images, by name.
        names: What the images are called, where they have names.
    """

    step: int
    first: int
    pixels: NDArray[Any]
    given: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    names: Sequence[str] = ()


class Order:
    """The order of the images: every epoch a new permutation by (seed, epoch); what does not fill a batch is left out.

    Raises:
        HvdslError: The batch is larger than the data set, or does not divide among ranks and accumulation.
    """

    def __init__(self, images: int, batch: int, seed: int, world: World, accumulate: int = 1) -> None:
        if batch > images:
            raise HvdslError(
                f"`train.batch` is {batch} but there are only {images} training images: lower it to {images} or less"
            )
        if batch % (world.size * accumulate):
            raise HvdslError(
                f"`train.batch` is {batch}, which does not divide by {world.size} process(es) "
                f"times `train.accumulate` {accumulate}: "
                f"take a multiple of {world.size * accumulate}"
            )
        self._images, self._batch, self._seed = images, batch, seed
        self.per_epoch = images // batch
        share = batch // world.size
        self._mine = slice(world.rank * share, (world.rank + 1) * share)
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    @property
    def first(self) -> int:
        """The position of this rank's first image in the whole batch."""
        return int(self._mine.start)

    def at(self, step: int) -> tuple[int, list[int]]:
        """The epoch of a step, and the indices of this rank's images."""
        epoch, turn = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._permutation = np.random.default_rng((self._seed, epoch)).permutation(self._images)
            self._epoch = epoch
        return epoch, self._permutation[turn * self._batch : (turn + 1) * self._batch][self._mine].tolist()


def batches(
    images: PixelSource, order: Order, start: int, workers: int = 0, fields: Sequence[str] = ()
) -> Generator[PixelBatch, None, None]:
    """The batches of steps `start`, `start + 1`, … without end; with `workers`, that many threads read ahead.

    `fields` are what the batches need beside the pixels.

    Threads suffice: decoding releases the interpreter's lock, and nothing has to be copied between processes.
    """

    def read(step: int, epoch: int, indices: list[int]) -> PixelBatch:
        pixels, given = read_with_fields(images, indices, fields, epoch, step)
        names = images.names(indices) if isinstance(images, NamedSource) else ()
        return PixelBatch(step, order.first, pixels, given, names)

    if workers == 0:
        step = start
        while True:
            yield read(step, *order.at(step))
            step += 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[PixelBatch]] = deque()
        step = start
        try:
            while True:
                while len(ahead) <= workers:
                    ahead.append(pool.submit(read, step, *order.at(step)))
                    step += 1
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
