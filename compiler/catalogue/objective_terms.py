"""The terms of the objective: what each is, under which names it is logged, and its story.

`hvdsl explain` and docs/objective.md both tell what stands here; units and meanings are the runtime's metric names.
"""

from __future__ import annotations

from hvdsl.grammar.record import Record, record
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.metric_names import METRICS, Metric, metric


@record
class ObjectiveTerm(Record):
    """A term of the objective, by the name that the spec or the formula gives it."""

    name: str
    title: str
    logged: tuple[str, ...]
    story: str

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is logged of it, with units and meanings."""
        return tuple(METRICS[name] for name in self.logged)


TERMS = (
    ObjectiveTerm(
        "objective",
        "what training minimises",
        (
            names.OBJECTIVE,
            names.NEGATIVE_ELBO_NATS_PER_IMAGE,
            names.NEGATIVE_ELBO_NATS_PER_DIM,
            names.BITS_PER_DIM,
        ),
        "`objective { unit }` states whether losses are of an image or of one of its dimensions. The bound is logged "
        "beside it as it is, so that runs with different weights can be compared.",
    ),
    ObjectiveTerm(
        "distortion",
        "D = -log p(x | z)",
        (
            names.DISTORTION_NATS_PER_DIM,
            names.ERROR_PER_DIM,
        ),
        "How badly the decoder's distribution, given the latents, describes the image. The likelihood of the spec "
        "defines it; padding that the likelihood crops is not counted among the dimensions.",
    ),
    ObjectiveTerm(
        "rate",
        "R_l, what each latent group costs",
        (
            names.RATE_NATS_PER_DIM,
            names.RATE_BITS_PER_IMAGE,
            names.RATE_BITS_PER_DIM,
            names.RATE_PER_GROUP_NATS_PER_IMAGE,
            names.WEIGHTED_RATE_NATS_PER_DIM,
        ),
        "The Kullback-Leibler divergence of a group's posterior from its prior: in closed form, or log q - log p at "
        "one sample where a flow follows the posterior. For a discrete group with a uniform prior it is constant. A "
        "group whose rate stays at zero is not used.",
    ),
    ObjectiveTerm(
        "beta",
        "β, the weight of the rate",
        (names.BETA,),
        "A constant, or `ramp(from, start, length, floor)`: linear from `from` to 1, never below `floor`; or `linear`, "
        "`cosine`, `cyclic` (Fu et al. 2019) and `logistic` (Bowman et al. 2016) between two weights. Balancing "
        "and `with_beta` follow it.",
    ),
    ObjectiveTerm(
        "free",
        "free bits: max(λ, R_l)",
        (),
        "`free = at_least(…)`: no part of a rate counts for less than λ nats; a part below λ has no gradient (IAF-VAE, "
        "Kingma et al. 2016). `per` says what a part is (a group, a channel, an element), `take_max` whether the floor "
        "is applied to each image or to the mean of the batch.",
    ),
    ObjectiveTerm(
        "balance",
        "γ_l, the weight of each group's rate",
        (names.RATE_PER_GROUP_WEIGHT,),
        "`by_size(square | linear | sqrt | equal)` (NVAE): γ_l ∝ (|R_l| + 0.01) / α_l with mean 1, α_l by the size of "
        "the group's map; only in training, only while β < 1. `by_rate` (Efficient-VDVAE): in proportion to the rate "
        "per latent element, until its end. The weights are constants to the gradient and decided over all processes. "
        "A model with one group has nothing to balance and is refused.",
    ),
    ObjectiveTerm(
        "iwae",
        "-L_K, the importance-weighted bound",
        (names.NEGATIVE_IMPORTANCE_BOUND_NATS_PER_DIM, names.EFFECTIVE_SAMPLE_SIZE),
        "`bound = iwae, samples = K` (Burda, Grosse & Salakhutdinov 2016): L_K = log 1/K Σ w_k, log w = log p(x | z) "
        "+ log p(z) - log q(z | x), in place of D + Σ R. A first pass without gradients computes the weights; then "
        "Σ w ∇ log w, w normalised, is summed in passes of `chunk` samples. With `bound = elbo` the loss is the mean "
        "over `samples`. Batch norms update their statistics once.",
    ),
    ObjectiveTerm(
        "spectral",
        "w_s Σ σ, the spectral penalty",
        (
            names.SPECTRAL_SUM,
            names.WEIGHTED_SPECTRAL,
        ),
        "NVAE keeps its rates bounded by penalising the Lipschitz constant of every convolution. σ is the largest "
        "singular value of the weight in use (masked and normalised) of each convolution, as a (C_out, rest) matrix; "
        "dense layers do not count. Power iteration, 40 iterations at first and 4 in each later step, keeps a vector "
        "per convolution; the gradient is u vᵀ. The vectors are in the checkpoint (`penalties.safetensors`), so that a "
        "resumed run continues bit for bit. On the CPU layers are processed one by one, on accelerators those of one "
        "shape together. The penalty is computed once per step, in float32, however the batch is divided.",
    ),
    ObjectiveTerm(
        "batch_norm_gamma",
        "w_g Σ max |γ|, the penalty of batch norms' gains",
        (
            names.BATCH_NORM_GAMMA_SUM,
            names.WEIGHTED_BATCH_NORM_GAMMA,
        ),
        "NVAE: the largest gain, by absolute value, of every batch norm, summed; computed once per step in float32.",
    ),
    ObjectiveTerm(
        "with_beta",
        "a weight that follows β",
        (),
        "`with_beta(first, last)`: the weight of a penalty or of `commitment` is exp((1 - β) log first + β log last), "
        "from `first` while β is 0 to `last` once it is 1. Refused with `mean_square` and `mean_absolute`, which have "
        "no β.",
    ),
    ObjectiveTerm(
        "commitment",
        "what quantizers add",
        (
            names.COMMITMENT_PER_GROUP_MEAN_SQUARE,
            names.CODEBOOK_LOSS,
        ),
        "Only with discrete latents (VQ-VAE, van den Oord et al. 2017, equation 3): the mean square distance between "
        "each quantized vector and its code, which pulls the vector to the code with weight `commitment`, and, where "
        "codebooks learn by gradient, the code to the vector with weight 1.",
    ),
)


def find_term(name: str) -> ObjectiveTerm | None:
    """The term of that name, or that is logged under it."""
    logged = metric(name)
    return next((t for t in TERMS if t.name == name or (logged is not None and logged.name in t.logged)), None)
