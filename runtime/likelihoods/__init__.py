"""What a model's output says of an image.

Each likelihood has `log_prob(params, target)`, `(N,)` nats per image; `sample(params, noise, temperature)` and
`mean(params)`, images in the units of the target; and `dims(shape)`, over how many values the density is. All compute
in float32 or wider.
"""

from hvdsl.runtime.likelihoods.base import Likelihood
from hvdsl.runtime.likelihoods.continuous import LaplaceDensity, Mae, Mse, NormalDensity
from hvdsl.runtime.likelihoods.discrete import Bernoulli, Categorical
from hvdsl.runtime.likelihoods.discretized_logistic import (
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    DiscretizedNormal,
)

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "DiscretizedNormal",
    "LaplaceDensity",
    "Likelihood",
    "Mae",
    "Mse",
    "NormalDensity",
]
