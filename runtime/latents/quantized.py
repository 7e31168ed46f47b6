"""How a group of codes gets its value: from a quantizer, which has no density but a code's length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvdsl.runtime.distributions import Distribution, Flowed
from hvdsl.runtime.latents.group import Given, Source
from hvdsl.runtime.latents.outcome import Outcome, summed

if TYPE_CHECKING:  # a model without discrete latents needs none of it; and `draw` draws with this
    from hvdsl.runtime.latents.draw import Draw
    from hvdsl.runtime.quantizers import NearestCode, Quantized, UniformCodes


def drawn_code(draw: Draw, prior: UniformCodes, posterior: Distribution | Flowed | NearestCode | None) -> Tensor:
    """Code vectors `(N, D, H, W)`. The quantizer learns of a batch when this pass first draws from it."""
    source, walk = draw.source, draw.walk
    if draw.inferred:
        if posterior is None or isinstance(posterior, Distribution | Flowed):
            raise ValueError(f"group `{draw.group.path}` takes its nearest code, but the model computed no posterior")
        draw.check(posterior, "posterior")
        quantized = prior.quantizer.quantize(posterior)
        if draw.record(_outcome(draw, quantized.value, prior, quantized.codes, quantized)):
            prior.quantizer.note(quantized)
        return quantized.value
    codes = None
    if isinstance(source, Given) and not source.z.is_floating_point():
        codes = source.z.to(walk.device)
    elif source is Source.PRIOR:
        codes = prior.sample(draw.uniform(prior.code_shape[1:]))
    if codes is not None:
        z = prior.quantizer.look_up(codes)
    elif isinstance(source, Given):
        z = source.z.to(walk.device)
    else:
        z = prior.mean.to(walk.device)  # a quantizer without tensors knows no device
    draw.record(_outcome(draw, z, prior, codes, None))
    return z


def _outcome(draw: Draw, z: Tensor, prior: UniformCodes, codes: Tensor | None, found: Quantized | None) -> Outcome:
    """A discrete posterior is certain: log q = 0, and its rate is the code's length under the prior."""
    walk, length = draw.walk, prior.rate(z.detach())
    known = not isinstance(draw.source, Given)
    rate = length if draw.inferred else torch.zeros_like(length) if known else None
    log_q = torch.zeros_like(length) if draw.inferred else -length if known else None
    return Outcome(
        z=z,
        rate=summed(rate, "latent"),
        rate_detail=summed(rate, walk.detail),
        log_q=summed(log_q, "latent") if walk.densities else None,
        log_p=summed(-length, "latent") if walk.densities else None,
        codes=codes,
        commitment=None if found is None else found.commitment,
        codebook=None if found is None else found.codebook,
    )
