"""The terms of the objective: what each is, under which names and units it is logged, and its story.

`hvdsl explain` and docs/objective.md both tell what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

_UNITS = ("nats_per_image", "nats_per_dim")
_UNIT = "<unit>"  # in a logged name: the objective's


@dataclass(frozen=True, slots=True)
class Logged:
    """A value in `metrics.jsonl`: its name, its unit (a dash where it has none), what it is."""

    name: str
    unit: str
    meaning: str

    def matches(self, name: str) -> bool:
        """Whether `name` is this value's, `<unit>` being any unit."""
        return name in {self.name, *(self.name.replace(_UNIT, unit) for unit in _UNITS)}


@dataclass(frozen=True, slots=True)
class Term:
    """A term of the objective, by the name that the spec or the formula gives it."""

    name: str
    title: str
    logged: tuple[Logged, ...]
    story: str


TERMS = (
    Term(
        "objective",
        "what training minimises",
        (
            Logged("objective", "the spec's", "D + β Σ γ_l max(λ, R_l) and the penalties"),
            Logged("negative_elbo_nats_per_image", "nats per image", "D + Σ R, without weights and penalties"),
            Logged("negative_elbo_nats_per_dim", "nats per dimension", "the same"),
            Logged("bits_per_dim", "bits per dimension", "the same"),
        ),
        "`objective { unit }` states whether losses are of an image or of one of its dimensions. The bound is logged "
        "beside it as it is, so that runs with different weights can be compared.",
    ),
    Term(
        "distortion",
        "D = -log p(x | z)",
        (
            Logged("distortion_nats_per_dim", "nats per dimension", "D"),
            Logged("error_per_dim", "–", "instead of it, where the likelihood is an error and no density"),
        ),
        "How badly the decoder's distribution, given the latents, describes the image. The likelihood of the spec "
        "says what it is; padding that the likelihood crops counts as no dimension.",
    ),
    Term(
        "rate",
        "R_l, what each latent group costs",
        (
            Logged("rate_nats_per_dim", "nats per dimension", "Σ R"),
            Logged("rate_bits_per_image", "bits per image", "Σ R, where the likelihood is no density"),
            Logged("rate_bits_per_dim", "bits per dimension", "the same"),
            Logged("rate_per_group_nats_per_image", "nats per image", "R_l, in order of generation"),
            Logged("weighted_rate_nats_per_dim", "nats per dimension", "β Σ γ_l max(λ, R_l)"),
        ),
        "The Kullback-Leibler divergence of a group's posterior from its prior: in closed form, or log q - log p at "
        "one sample where a flow follows the posterior. Of a discrete group with a uniform prior it is constant. A "
        "group whose rate stays at zero is not used.",
    ),
    Term(
        "beta",
        "β, the weight of the rate",
        (Logged("beta", "–", "β of this step"),),
        "A constant, or `ramp(start, length, from, floor)`: linear from `from` to 1, never below `floor`. Balancing "
        "and `with_beta` follow it.",
    ),
    Term(
        "free",
        "free bits: max(λ, R_l)",
        (),
        "`free = at_least(…)`: no part of a rate counts for less than λ nats, and below it has no gradient (IAF-VAE, "
        "Kingma et al. 2016). `per` says what a part is (a group, a channel, an element), `take_max` whether the floor "
        "is applied to each image or to the mean of the batch.",
    ),
    Term(
        "balance",
        "γ_l, the weight of each group's rate",
        (Logged("rate_per_group_weight", "–", "γ_l, while groups are balanced"),),
        "`by_size(square | linear | sqrt | equal)` (NVAE): γ_l ∝ (|R_l| + 0.01) / α_l with mean 1, α_l by the size of "
        "the group's map; only in training, only while β < 1. `by_rate` (Efficient-VDVAE): in proportion to the rate "
        "per latent element, until its end. The weights are constants to the gradient and decided over all processes. "
        "A model with one group has nothing to balance and is refused.",
    ),
    Term(
        "spectral",
        "w_s Σ σ, the spectral penalty",
        (
            Logged("spectral_sum", "–", "Σ σ"),
            Logged("weighted_spectral_<unit>", "the objective's", "w_s Σ σ"),
        ),
        "NVAE keeps its rates bounded by penalising the Lipschitz constant of every convolution. σ is the largest "
        "singular value of the weight in use (masked and normalised) of each convolution, as a (C_out, rest) matrix; "
        "dense layers do not count. Power iteration, 40 turns at first and 4 in each later step, keeps a vector per "
        "convolution; the gradient is u vᵀ. The vectors are in the checkpoint (`penalties.safetensors`), so that a "
        "resumed run goes on bit for bit. On the CPU layers are taken one by one, on accelerators those of one shape "
        "together. The penalty is computed once per step, in float32, however the batch is divided.",
    ),
    Term(
        "batch_norm_gamma",
        "w_g Σ max |γ|, the penalty of batch norms' gains",
        (
            Logged("batch_norm_gamma_sum", "–", "Σ max |γ|"),
            Logged("weighted_batch_norm_gamma_<unit>", "the objective's", "w_g Σ max |γ|"),
        ),
        "NVAE: the largest gain, by absolute value, of every batch norm, summed; computed once per step in float32.",
    ),
    Term(
        "with_beta",
        "a weight that follows β",
        (),
        "`with_beta(first, last)`: a weight of exp((1 - β) log first + β log last), from `first` while β is 0 to "
        "`last` once it is 1: of a penalty, or of `commitment`. Refused under an error's unit, which has no β.",
    ),
    Term(
        "commitment",
        "what quantizers add",
        (
            Logged("commitment_per_group_mean_square", "–", "the commitment of each discrete group"),
            Logged("codebook_loss", "–", "what trains codebooks by gradient, summed"),
        ),
        "Only with discrete latents (VQ-VAE, van den Oord et al. 2017, equation 3): the mean square distance of what "
        "is quantized from its code, times `commitment`, and the same towards the code where codebooks learn by "
        "gradient.",
    ),
)


def find_term(name: str) -> Term | None:
    """The term of that name, or that is logged under it."""
    return next((t for t in TERMS if t.name == name or any(v.matches(name) for v in t.logged)), None)
