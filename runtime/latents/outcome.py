"""What became of a latent group in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hvdsl.runtime.latents.group import LatentGroup

Detail = Literal["latent", "channel", "element"]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a group. Sums over the group are `(N,)`, in nats.

    `rate` is the information that z carries about the image: KL(q ‖ p), or log q - log p of the one sample. It is 0
    where z came from the prior, and unknown (None) where it was given. `log_q` and `log_p` are kept where the
    traversal was asked for `densities`. `rate_detail` is `(N,)`, `(N, Z)` or `(N, Z, H, W)`, as the traversal's
    `detail` says. A discrete group has `codes`, `(N, depth, H, W)` int64, unless z is no code (the prior's mean, a
    given vector), and where it was inferred also the losses of its quantizer, `commitment` and `codebook`, `(N,)`.
    """

    z: Tensor
    rate: Tensor | None
    rate_detail: Tensor | None
    log_q: Tensor | None
    log_p: Tensor | None
    codes: Tensor | None = None
    commitment: Tensor | None = None
    codebook: Tensor | None = None


def summed(values: Tensor | None, detail: Detail) -> Tensor | None:
    if values is None or detail == "element":
        return values
    return values.flatten(2).sum(2) if detail == "channel" else values.flatten(1).sum(1)


def known(value: Tensor | None, group: LatentGroup, what: str) -> Tensor:
    if value is None:
        raise RuntimeError(
            f"the {what} of group `{group.path}` is unknown: its value was given, or no densities were asked for"
        )
    return value
