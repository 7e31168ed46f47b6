"""What the runtime asks of a model: the form that emitted code has, and hand-written code may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.latents import LatentGroup, Traversal
from hvdsl.runtime.likelihoods import Likelihood


class HierarchicalVae(Protocol):
    """An `nn.Module` with latent groups and a likelihood.

    Attributes:
        LATENTS: The groups, in order of generation.
        likelihood: Scores a target under what the model returns.
    """

    LATENTS: Sequence[LatentGroup]

    @property
    def likelihood(self) -> Likelihood: ...

    def input(self, v: Tensor) -> Tensor:
        """Raw pixel values 0 … 2^bits − 1, float `(N, C, H, W)`, as the encoder takes them."""
        ...

    def target(self, v: Tensor, **fields: Tensor) -> Tensor:
        """The same as the likelihood scores them; or fields in their place, or beside them."""
        ...

    def __call__(self, x: Tensor | None, latents: Traversal, **given: Tensor) -> Tensor:
        """The likelihood's parameters; `x = None` generates. `given` is what the model declares in `GIVEN`."""
        ...


def as_vae(model: nn.Module) -> HierarchicalVae:
    """The same object, seen as a hierarchical VAE.

    Raises:
        HvdslError: It is not one.
    """
    missing = [name for name in ("LATENTS", "likelihood", "input", "target") if not hasattr(model, name)]
    if missing and hasattr(model, "WITHOUT_IMAGES"):
        raise HvdslError(str(model.WITHOUT_IMAGES))
    if missing:
        raise HvdslError(f"{type(model).__name__} is not a hierarchical VAE: it has no `{missing[0]}`")
    return cast("HierarchicalVae", model)


def is_quantized(model: nn.Module) -> bool:
    """Whether every latent of a model has its values from a quantizer, and there is one."""
    groups = as_vae(model).LATENTS
    return bool(groups) and all(group.quantized for group in groups)
