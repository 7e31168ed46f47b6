"""What became of a latent group in one pass: its value, its rate, its densities, its codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from hvdsl.runtime.distributions import Distribution, Flowed
from hvdsl.runtime.latents.group import LatentGroup

if TYPE_CHECKING:  # a model without discrete latents needs none of it
    from hvdsl.runtime.quantizers import Quantized, UniformCodes

Detail = Literal["latent", "channel", "element"]
Origin = Literal["inferred", "generated", "given"]
"""Where a value is from: the posterior, the prior, or elsewhere."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a pass keeps of its draws.

    Attributes:
        kl: `closed`, the divergence itself where it has a closed form; `sample`, log q - log p at the z that was drawn.
        densities: Whether to keep log q and log p.
        detail: How finely rates are kept beside their sums.
    """

    kl: Literal["closed", "sample"] = "closed"
    densities: bool = False
    detail: Detail = "latent"


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


def outcome_of_value(
    z: Tensor, prior: Distribution, posterior: Distribution | Flowed | None, origin: Origin, keeping: Keeping
) -> Outcome:
    """The outcome of a group whose prior is a distribution; `posterior` is the one that z was drawn from, if any.

    The rate of a posterior that went through a flow has no closed form: it is log q - log p at z.
    """
    codes = prior.codes(z)
    log_p = prior.log_prob(z) if keeping.densities else None
    if posterior is None:
        known = origin != "given"
        rate = torch.zeros_like(z if codes is None else z[:, :1]) if known else None  # channels of a class share one
        log_q = log_p if known else None
    elif isinstance(posterior, Flowed):
        log_q = posterior.log_q
        rate = log_q - (prior.log_prob(z) if log_p is None else log_p)
    else:
        rate = posterior.kl(prior) if keeping.kl == "closed" else None
        log_q = posterior.log_prob(z) if keeping.densities or rate is None else None
        if log_q is not None and rate is None:
            rate = log_q - (prior.log_prob(z) if log_p is None else log_p)
    return Outcome(
        z=z,
        rate=_summed(rate, "latent"),
        rate_detail=_summed(rate, keeping.detail),
        log_q=_summed(log_q, "latent"),
        log_p=_summed(log_p, "latent"),
        codes=codes,
    )


def outcome_of_codes(
    z: Tensor, prior: UniformCodes, codes: Tensor | None, quantized: Quantized | None, origin: Origin, keeping: Keeping
) -> Outcome:
    """The outcome of a quantized group; `quantized` is what the quantizer made of its features, where it was inferred.

    A discrete posterior is certain: log q = 0, and its rate is the code's length under the prior.
    """
    length = prior.rate(z.detach())
    rate = {"inferred": length, "generated": torch.zeros_like(length), "given": None}[origin]
    log_q = {"inferred": torch.zeros_like(length), "generated": -length, "given": None}[origin]
    return Outcome(
        z=z,
        rate=_summed(rate, "latent"),
        rate_detail=_summed(rate, keeping.detail),
        log_q=_summed(log_q, "latent") if keeping.densities else None,
        log_p=_summed(-length, "latent") if keeping.densities else None,
        codes=codes,
        commitment=None if quantized is None else quantized.commitment,
        codebook=None if quantized is None else quantized.codebook,
    )


def known(value: Tensor | None, group: LatentGroup, what: str) -> Tensor:
    """A value of a group's outcome. Raises RuntimeError where it was not kept."""
    if value is None:
        raise RuntimeError(
            f"the {what} of group `{group.path}` is unknown: its value was given, or no densities were asked for"
        )
    return value


def _summed(values: Tensor | None, detail: Detail) -> Tensor | None:
    if values is None or detail == "element":
        return values
    if values.requires_grad:
        # The gradient of a sum is one number for all elements. Without this, all that is computed of it would be laid
        # out channel after channel, and so would the gradient of the whole prior.
        values = values * torch.ones_like(values)
    return values.sum(list(range(2 if detail == "channel" else 1, values.dim())))
