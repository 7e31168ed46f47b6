"""Drawing code maps from a prior: greedy or random, from the beginning or around codes that are given."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground.noise import Noise
from hvdsl.runtime.inference.inference import inference
from hvdsl.runtime.priors.protocol import Choose, StepBuffers, StepwisePrior, check_codes
from hvdsl.runtime.priors.raster import RasterBuffers
from hvdsl.runtime.priors.wavefront import WavefrontBuffers

Schedule = Literal["raster", "wavefront"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a map is: steps done, of how many, and the seconds spent and left by the pace so far."""

    done: int
    total: int
    elapsed: float
    left: float


def draw_codes(
    prior: StepwisePrior,
    choose: Choose,
    given: Sequence[Tensor] = (),
    *,
    batch: int = 1,
    keep: tuple[Tensor, Tensor] | None = None,
    schedule: Schedule = "raster",
    progress: Callable[[Progress], None] | None = None,
) -> Tensor:
    """Draw a batch of code maps `(N, H, W)`, position by position, in evaluation mode.

    Of several codes at a position they are `(N, depth, H, W)`, each chosen as if it were a column: j · depth + d.

    Args:
        prior: An emitted prior on its device, with its position-by-position form.
        choose: Picks the codes of a position from its logits.
        given: What the prior's CONDITIONS name: codes `(N, H, W)` of other latents, labels `(N,)`.
        keep: Codes as they are returned, and a mask `(N, H, W)`: where the mask is true these codes stand, and what
            comes later is drawn given them (in-painting).
        schedule: `raster` draws position by position; `wavefront` draws together what does not depend on each other,
            which pays where single steps are cheap: batch 1, accelerators. The maps are the same.
        progress: Called after every row, or every front.

    Raises:
        HvdslError: `given` or `keep` do not fit the prior, or it has attention and is asked for a wavefront.
    """
    check_codes(prior.model, given, keep, batch)
    with inference(prior.module):
        buffers = _buffers(prior, batch, schedule)
        steps = prior.steps(prior.module, buffers, *given)
        if keep is not None:
            choose = _around(*_in_columns(*keep, prior.model.CODES.depth), choose)
        buffers.fill(steps, choose, _Timer(progress))
    return buffers.codes_so_far


def _buffers(prior: StepwisePrior, batch: int, schedule: Schedule) -> StepBuffers:
    codes, like = prior.model.CODES, next(prior.module.parameters())
    skew = check_schedule(prior, schedule)
    return RasterBuffers(batch, codes, like) if skew is None else WavefrontBuffers(batch, codes, like, skew)


def check_schedule(prior: StepwisePrior, schedule: Schedule) -> int | None:
    """Return the skew of a wavefront, None in raster order.

    Raises:
        HvdslError: A prior with attention, or over several codes at a position, is asked for a wavefront.
    """
    if schedule == "wavefront" and prior.steps.WAVEFRONT_SKEW is None:
        why = "attention" if prior.model.CODES.depth == 1 else "several codes at each position"
        raise HvdslError(f"the prior of `{prior.model.CODES.name}` has {why}: draw it in raster order")
    return prior.steps.WAVEFRONT_SKEW if schedule == "wavefront" else None


def _in_columns(codes: Tensor, kept: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Codes and what is kept of them with the depths of a position as neighbouring columns, `(N, H, W depth)`."""
    if depth == 1:
        return codes, kept
    return codes.permute(0, 2, 3, 1).flatten(2), kept.repeat_interleave(depth, 2)


def _around(codes: Tensor, kept: Tensor, choose: Choose) -> Choose:
    """Let given codes stand."""

    def chosen(logits: Tensor, i: int, j: int) -> Tensor:
        return torch.where(kept[:, i, j], codes[:, i, j], choose(logits, i, j))

    return chosen


class _Timer:
    """Turns steps into what is told of progress."""

    def __init__(self, tell: Callable[[Progress], None] | None) -> None:
        self._tell, self._start = tell, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if self._tell is not None:
            elapsed = time.monotonic() - self._start
            self._tell(Progress(done, total, elapsed, elapsed / done * (total - done)))


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
        self._rows: dict[int, Tensor] = {}  # noise of the rows that are being drawn

    def __call__(self, logits: Tensor, i: int, j: int) -> Tensor:
        if self._temperature == 0:
            return logits.argmax(1)
        if i not in self._rows:
            uniform = self._noise.uniform(f"codes.{self._name}.{i}", (self._width, self._classes), self._tiny, 1.0)
            self._rows[i] = -torch.log(-torch.log(uniform)).to(logits.device)
        noise = self._rows[i] if j + 1 < self._width else self._rows.pop(i)
        return (self._cut(logits.float() / self._temperature) + noise[:, j]).argmax(1)

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
