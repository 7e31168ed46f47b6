"""What a model's output says of an image.

Each likelihood has `log_prob(params, target)`, `(N,)` nats per image; `sample(params, noise, temperature)` and
`mean(params)`, images in the units of the target; and `dims(shape)`, over how many values the density is. All compute
in float32 or wider.
"""

from hvdsl.runtime.likelihoods.base import Likelihood
from hvdsl.runtime.likelihoods.bernoulli import Bernoulli
from hvdsl.runtime.likelihoods.categorical import Categorical
from hvdsl.runtime.likelihoods.densities import LaplaceDensity, NormalDensity
from hvdsl.runtime.likelihoods.discretized_logistic import DiscretizedLogistic
from hvdsl.runtime.likelihoods.discretized_logistic_mixture import DiscretizedLogisticMixture
from hvdsl.runtime.likelihoods.reconstruction import Mae, Mse

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "LaplaceDensity",
    "Likelihood",
    "Mae",
    "Mse",
    "NormalDensity",
]
