"""The families of latents: what is true of a latent whatever its parameters are."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Side(StrEnum):
    """Where a distribution can stand in `z ~ PRIOR posterior POSTERIOR`."""

    PRIOR = "prior"
    POSTERIOR = "posterior"
    BOTH = "both"


class Family(NamedTuple):
    """A family of distributions over a latent's values."""

    name: str
    discrete: bool = False  # bits, classes or codes: no density, and so no flow
    quantized: bool = False  # the posterior is the code nearest to a tensor, which the prior's quantizer holds
    commits: bool = False  # that tensor can be far from all codes


NORMAL = Family("normal")
LAPLACE = Family("laplace")
LOGISTIC = Family("logistic")
BERNOULLI = Family("bernoulli", discrete=True)
CATEGORICAL = Family("categorical", discrete=True)
CODEBOOK = Family("codebook", discrete=True, quantized=True, commits=True)
FINITE_SCALAR = Family("finite_scalar", discrete=True, quantized=True)  # rounded within bounds: nothing can drift
LOOKUP_FREE = Family("lookup_free", discrete=True, quantized=True, commits=True)

LATENT_FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (NORMAL, LAPLACE, LOGISTIC, BERNOULLI, CATEGORICAL, CODEBOOK, FINITE_SCALAR, LOOKUP_FREE)
    }
)
