"""How a group whose prior is a distribution gets its value, and what is then known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvdsl.runtime.distributions import Distribution, Flowed
from hvdsl.runtime.latents.group import Given, Source
from hvdsl.runtime.latents.outcome import Outcome, summed

if TYPE_CHECKING:  # which draws with this
    from hvdsl.runtime.latents.draw import Draw


def drawn_value(draw: Draw, prior: Distribution, posterior: Distribution | Flowed | None) -> Tensor:
    """z `(N, Z, H, W)`; the group's outcome is recorded."""
    source = draw.source
    if isinstance(source, Given):
        z = prior.value(source.z)
    elif source is Source.PRIOR_MEAN:
        z = prior.mode
    elif source is Source.PRIOR:
        z = prior.sample(draw.noise(prior), draw.temperature)
    else:
        z, posterior = _inferred(draw, posterior)
    draw.record(_outcome(draw, z, prior, posterior if draw.inferred else None))
    return z


def _inferred(draw: Draw, posterior: Distribution | Flowed | None) -> tuple[Tensor, Distribution | Flowed]:
    if posterior is None:
        what = draw.source.value if isinstance(draw.source, Source) else "value"
        raise ValueError(f"group `{draw.group.path}` takes its {what}, but the model computed no posterior")
    if isinstance(posterior, Flowed):
        draw.check(posterior, "posterior")
        return posterior.z, posterior
    return draw.start(posterior), posterior


def _outcome(draw: Draw, z: Tensor, prior: Distribution, posterior: Distribution | Flowed | None) -> Outcome:
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
        rate = posterior.kl(prior) if walk.kl == "closed" else None
        log_q = posterior.log_prob(z) if walk.densities or rate is None else None
        if log_q is not None and rate is None:
            rate = log_q - (prior.log_prob(z) if log_p is None else log_p)
    return Outcome(
        z=z,
        rate=summed(rate, "latent"),
        rate_detail=summed(rate, walk.detail),
        log_q=summed(log_q, "latent"),
        log_p=summed(log_p, "latent"),
        codes=prior.codes(z),
    )
