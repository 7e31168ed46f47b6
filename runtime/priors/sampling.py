"""Drawing code maps from a prior: greedy or random, from the beginning or around codes that are given."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.inference import inference
from hvdsl.runtime.noise import Noise
from hvdsl.runtime.priors.protocol import PriorModel, as_prior, check_codes
from hvdsl.runtime.priors.raster import Raster

Choose = Callable[[Tensor, int, int], Tensor]
"""Logits `(N, K)`, row and column -> codes `(N,)`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a map is: positions done, of how many, and the seconds spent and left by the pace so far."""

    done: int
    total: int
    elapsed: float
    left: float


def draw_codes(
    prior: nn.Module,
    choose: Choose,
    given: Sequence[Tensor] = (),
    *,
    batch: int = 1,
    keep: tuple[Tensor, Tensor] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Tensor:
    """Draw a batch of code maps `(N, H, W)`, position by position, in evaluation mode.

    Args:
        prior: An emitted prior on its device.
        choose: Picks the codes of a position from its logits.
        given: What the prior is given, as `prior.GIVEN` says: codes `(N, H, W)` of other latents, labels `(N,)`.
        keep: Codes `(N, H, W)` and a mask `(N, H, W)`: where the mask is true these codes stand, and what comes later
            is drawn given them (in-painting).
        progress: Called after every row.

    Raises:
        HvdslError: `given` or `keep` do not fit the prior.
    """
    model = as_prior(prior)
    check_codes(model, given, keep, batch)
    with inference(prior):
        return _draw(model, choose, given, batch, keep, progress)


def _draw(
    model: PriorModel,
    choose: Choose,
    given: Sequence[Tensor],
    batch: int,
    keep: tuple[Tensor, Tensor] | None,
    progress: Callable[[Progress], None] | None,
) -> Tensor:
    canvas = Raster(batch, model.CODES, next(model.parameters()))
    steps = model.steps(canvas, *given)
    start = time.monotonic()
    for i in range(canvas.height):
        canvas.begin(i)
        for j in range(canvas.width):
            codes = choose(steps(j), i, j)
            if keep is not None:
                codes = torch.where(keep[1][:, i, j], keep[0][:, i, j], codes)
            canvas.put(i, j, codes)
        if progress is not None:
            elapsed, done = time.monotonic() - start, i + 1
            left = elapsed / done * (canvas.height - done)
            progress(Progress(done * canvas.width, canvas.height * canvas.width, elapsed, left))
    return canvas.codes_so_far


def greedy(logits: Tensor, i: int, j: int) -> Tensor:
    """The most probable code."""
    return logits.argmax(1)


class Sampled:
    """Draws codes from softmax(logits / temperature), cut to the `top_k` most probable and to the nucleus `top_p`.

    A draw is argmax(logits / temperature + Gumbel noise), with the noise of each sample its own: a sample is the same
    in any batch. The nucleus holds the most probable codes whose probabilities together reach `top_p` (Holtzman et al.
    2020).

    Args:
        noise: One stream `codes.<name>` of uniform numbers is drawn for the whole map.
        codes: Of the prior.

    Raises:
        HvdslError: The temperature is negative, `top_k` below 1 or `top_p` not in (0, 1].
    """

    def __init__(
        self,
        noise: Noise,
        name: str,
        classes: int,
        grid: tuple[int, int],
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
    ) -> None:
        if temperature < 0:
            raise HvdslError(f"a temperature is at least 0, not {temperature}")
        if top_k is not None and top_k < 1:
            raise HvdslError(f"`top_k` keeps at least 1 code, not {top_k}")
        if not 0 < top_p <= 1:
            raise HvdslError(f"`top_p` is a probability above 0 and at most 1, not {top_p}")
        self._temperature, self._top_p = temperature, top_p
        self._top_k = min(top_k, classes) if top_k is not None else None
        tiny = torch.finfo(torch.float32).tiny
        self._noise, self._name, self._classes, self._width, self._tiny = noise, name, classes, grid[1], tiny
        self._row: Tensor | None = None

    def __call__(self, logits: Tensor, i: int, j: int) -> Tensor:
        if self._temperature == 0:
            return logits.argmax(1)
        if self._row is None or j == 0:
            uniform = self._noise.uniform(f"codes.{self._name}.{i}", (self._width, self._classes), self._tiny, 1.0)
            self._row = -torch.log(-torch.log(uniform)).to(logits.device)
        return (self._cut(logits.float() / self._temperature) + self._row[:, j]).argmax(1)

    def _cut(self, logits: Tensor) -> Tensor:
        if self._top_k is not None:
            least = logits.topk(self._top_k, 1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self._top_p < 1:
            ordered, places = logits.sort(1, descending=True)
            probabilities = ordered.softmax(1)
            outside = probabilities.cumsum(1) - probabilities >= self._top_p
            logits = logits.masked_fill(outside.scatter(1, places, outside), -torch.inf)
        return logits
