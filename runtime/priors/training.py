"""What training a prior minimises: the cross entropy of codes in nats per code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class CodePart:
    """What one forward pass of a prior takes.

    Attributes:
        x: Codes of the prior's latent, `(N, H, W)`.
        given: Codes of the latents that it is given, labels; as `PriorModel.CONDITIONS` says.
    """

    x: Tensor
    given: tuple[Tensor, ...] = ()


class CodeObjective:
    """The mean over batch and positions of -log p(code | earlier codes, given), for `Optimization` to minimise.

    The terms are `nats_per_code`, `bits_per_map`, and `accuracy`, the share of codes that are the most probable ones.
    """

    def __call__(self, model: nn.Module, part: CodePart, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        logits: Tensor = model(part.x, *part.given)
        loss = F.cross_entropy(logits.float(), part.x)  # softmax in float32 whatever the precision around it
        positions = math.prod(part.x.shape[1:])
        terms = {
            "nats_per_code": loss.detach(),
            "bits_per_map": loss.detach() * (positions / math.log(2)),
            "accuracy": (logits.detach().argmax(1) == part.x).float().mean(),
        }
        return loss, terms


def nats(model: nn.Module, codes: Tensor, *given: Tensor) -> Tensor:
    """-log p(codes) of each map, `(N,)` nats: what the codes of an image cost under the prior."""
    logits: Tensor = model(codes, *given)
    return F.cross_entropy(logits.float(), codes, reduction="none").flatten(1).sum(1)
