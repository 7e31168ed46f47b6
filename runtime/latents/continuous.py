"""How a group with densities gets its value, and what is then known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvdsl.runtime.distributions import Flowed, Normal
from hvdsl.runtime.latents.group import Given, Source
from hvdsl.runtime.latents.outcome import Outcome, summed

if TYPE_CHECKING:  # which draws with this
    from hvdsl.runtime.latents.draw import Draw


def drawn_value(draw: Draw, prior: Normal, posterior: Normal | Flowed | None) -> Tensor:
    """z `(N, Z, H, W)` of a continuous group; its outcome is recorded."""
    source = draw.source
    if isinstance(source, Given):
        z = source.z.to(prior.mean)
    elif source is Source.PRIOR_MEAN:
        z = prior.mean
    elif source is Source.PRIOR:
        z = prior.sample(draw.eps(prior.mean), draw.temperature)
    else:
        z, posterior = _inferred(draw, posterior)
    draw.record(_outcome(draw, z, prior, posterior if draw.inferred else None))
    return z


def _inferred(draw: Draw, posterior: Normal | Flowed | None) -> tuple[Tensor, Normal | Flowed]:
    if posterior is None:
        what = draw.source.value if isinstance(draw.source, Source) else "value"
        raise ValueError(f"group `{draw.group.path}` takes its {what}, but the model computed no posterior")
    if isinstance(posterior, Flowed):
        draw.check(posterior, "posterior")
        return posterior.z, posterior
    return draw.start(posterior), posterior


def _outcome(draw: Draw, z: Tensor, prior: Normal, posterior: Normal | Flowed | None) -> Outcome:
    walk = draw.walk
    log_p = prior.log_prob(z) if walk.densities else None
    if posterior is None:
        known = not isinstance(draw.source, Given)
        rate = torch.zeros_like(z) if known else None
        log_q = log_p if known else None
    elif isinstance(posterior, Flowed):
        log_q = posterior.log_q
        rate = log_q - (prior.log_prob(z) if log_p is None else log_p)
    else:
        log_q = posterior.log_prob(z) if walk.densities else None
        rate = log_q - log_p if walk.kl == "sample" and log_q is not None and log_p is not None else None
        rate = posterior.kl(prior) if rate is None else rate
    return Outcome(
        z=z,
        rate=summed(rate, "latent"),
        rate_detail=summed(rate, walk.detail),
        log_q=summed(log_q, "latent"),
        log_p=summed(log_p, "latent"),
    )
