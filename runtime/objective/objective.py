"""What training minimises: the evidence lower bound as the spec's `objective` section weighs it.

With distortion D = -log p(x | z) and the rate R_l of latent group l, the negative ELBO of an image is D + Σ R_l.
Training minimises D + β Σ γ_l max(λ, R_l), in the unit that the spec states; what is reported beside it is the plain
bound.

Where the likelihood is an error and no density, training minimises the mean error of a value, and the rates of discrete
groups, which are constant, are reported only. In every unit the losses of quantizers join: `commitment` times the
commitment, which is a mean over a group's elements (VQ-VAE, van den Oord et al. 2017, equation 3), and what trains the
codebooks by gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hvdsl.compiler.setting_words import Anneal, AtLeast, ByRate, BySize, Cyclic, Duration, LogisticRamp, Ramp, WithBeta
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.tensors import constants
from hvdsl.runtime.latents import Detail, FreeBits, LatentGroup, Traversal
from hvdsl.runtime.layers.norms import statistics_held
from hvdsl.runtime.objective.elbo import Elbo, Importance, ModelBatch, latent_groups, measure

_FINEST_FIRST: tuple[Detail, ...] = ("element", "channel", "latent")
_BALANCE_FLOOR = 0.01  # nats: keeps a collapsed group's weight above zero (NVAE, Vahdat & Kautz 2020, appendix A)


class Objective:
    """The loss of a batch and its terms, as the spec's `objective` section says.

    Penalties of the weights are no part of it, since no batch enters them: see `hvdsl.runtime.objective.penalties`.

    Args:
        settings: that section.
        steps: turns the durations in it into steps.
        across_ranks: the mean of a tensor over all processes, without gradients. Balancing, and free bits after the
            batch mean, are decided by the whole batch, so that one process and two train alike.
    """

    def __init__(
        self,
        settings: ObjectiveSettings,
        steps: Callable[[Duration], int],
        across_ranks: Callable[[Tensor], Tensor] = lambda mean: mean,
    ) -> None:
        self.settings, self._across_ranks = settings, across_ranks
        self._beta = Beta(settings.beta, steps)
        self.scheduled = Scheduled()
        self._balance_until = steps(settings.balance.until) if isinstance(settings.balance, ByRate) else None

    def __call__(self, model: nn.Module, batch: ModelBatch, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss in the objective's unit; the terms of `Elbo.terms`, with `beta` and the rate as it was weighted."""
        groups = latent_groups(model)
        latents = Traversal.infer(
            groups,
            len(batch.x),
            batch.noise,
            kl=self.settings.kl,
            densities=batch.importance is not None,
            detail=self._detail(groups),
            device=batch.x.device,
        )
        bound = measure(model, batch, latents)
        dims = self._dims(bound, batch)
        if batch.importance is not None:
            return self._weighted(bound, latents, batch.importance, batch.share, dims)
        beta = self._beta(step)
        losses, learning = self._quantizers(latents, beta)
        if not bound.density:
            loss = bound.distortion.mean() / dims + learning
            return loss, bound.terms(dims) | losses
        rates = self._floored(bound, latents, training=model.training)
        weights = self._weights(bound, groups, step, beta, model.training)
        weight = self.scheduled("beta", beta, bound.rates)
        rate = weight * (rates if weights is None else weights * rates).sum()
        loss = bound.distortion.mean() + rate
        terms = bound.terms(dims)
        terms[names.BETA] = weight
        terms[names.WEIGHTED_RATE_NATS_PER_DIM] = rate.detach() / dims
        if weights is not None:
            terms[names.RATE_PER_GROUP_WEIGHT] = weights
        loss = loss / dims if self.settings.unit == "nats_per_dim" else loss
        return loss + learning, terms | losses

    def passes(self, model: nn.Module, batch: ModelBatch) -> Iterator[ModelBatch]:
        """The passes that a batch takes, `chunk` samples in each; their losses add up by their shares.

        Under the importance-weighted bound a first run without gradients finds the weights, so that the gradient
        Σ w ∇ log w of all samples is had chunk by chunk and memory does not grow with their number.
        """
        noises = (batch.noise, *batch.more)
        if len(noises) == 1:
            yield batch
            return
        chunks = [noises[at : at + self.settings.chunk] for at in range(0, len(noises), self.settings.chunk)]
        pieces = [replace(batch.repeated(chunk), share=len(chunk) / len(noises)) for chunk in chunks]
        if self.settings.bound == "elbo":
            yield from pieces
            return
        with torch.no_grad(), statistics_held(model.modules()):
            runs = [self._log_weights(model, piece).view(-1, len(batch.x)) for piece in pieces]
        log_weights = torch.cat(runs)
        weights = log_weights.softmax(0)
        bound, effective = log_weights.logsumexp(0) - math.log(len(noises)), 1 / weights.square().sum(0)
        for piece, of_chunk in zip(pieces, torch.split(weights, self.settings.chunk), strict=True):
            yield replace(piece, importance=Importance(of_chunk.flatten(), bound, effective))

    def passes_of(self, batch: ModelBatch) -> int:
        """How many passes a batch takes."""
        return math.ceil((1 + len(batch.more)) / self.settings.chunk)

    def _dims(self, bound: Elbo, batch: ModelBatch) -> float | Tensor:
        """What means over the batch are divided by: one number for all pieces and ranks, so that these do not matter.

        Dividing each piece by its own weights would count a pixel more where few others have a weight.
        """
        if not isinstance(bound.dims, Tensor):
            return bound.dims
        return self._across_ranks(bound.dims.mean() if batch.dims is None else batch.dims)

    def _log_weights(self, model: nn.Module, batch: ModelBatch) -> Tensor:
        """log p(x, z) - log q(z) of each sample, `(samples · N,)` nats."""
        groups = latent_groups(model)
        latents = Traversal.infer(groups, len(batch.x), batch.noise, densities=True, device=batch.x.device)
        elbo = measure(model, batch, latents)
        return latents.log_weight - elbo.distortion

    def _weighted(
        self, elbo: Elbo, latents: Traversal, importance: Importance, share: float, dims: float | Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of one importance-weighted pass: its value is the bound's, its gradient Σ w ∇ log w."""
        log_weights = latents.log_weight - elbo.distortion
        gradient = -(importance.weights * log_weights).sum() / (len(importance.bound) * share)
        bound = -importance.bound.mean().to(gradient)
        loss = gradient + (bound - gradient).detach()
        terms = elbo.terms(dims)
        terms[names.NEGATIVE_IMPORTANCE_BOUND_NATS_PER_DIM] = bound / dims
        terms[names.EFFECTIVE_SAMPLE_SIZE] = importance.effective.mean()
        return loss / dims if self.settings.unit == "nats_per_dim" else loss, terms

    def refill(self, step: int) -> None:
        """Put the numbers of that step into the scalars that are held."""
        beta = self._beta(step)
        self.scheduled.refill({"beta": beta, "commitment": weight_at(self.settings.commitment, beta)})

    def phase(self, step: int) -> Hashable:
        """What of the schedule decides which operations a step has; all else are numbers."""
        balance = self.settings.balance
        by_rate = self._balance_until is not None and step < self._balance_until
        return isinstance(balance, BySize) and self._beta(step) < 1, by_rate

    def _quantizers(self, latents: Traversal, beta: float) -> tuple[dict[str, Tensor], Tensor | float]:
        """The losses of the discrete groups by name, and what they add to the objective."""
        outcomes = latents.outcomes
        commitments = [o.commitment.mean() for o in outcomes if o.commitment is not None]
        codebooks = [o.codebook.mean() for o in outcomes if o.codebook is not None]
        if not commitments:
            return {}, 0.0
        total = torch.stack(commitments).sum()
        learning = self.scheduled("commitment", weight_at(self.settings.commitment, beta), total) * total
        terms = {names.COMMITMENT_PER_GROUP_MEAN_SQUARE: torch.stack(commitments).detach()}
        if codebooks:
            learning = learning + torch.stack(codebooks).sum()
            terms[names.CODEBOOK_LOSS] = torch.stack(codebooks).sum().detach()
        return terms, learning

    def _detail(self, groups: Sequence[LatentGroup]) -> Detail:
        """The finest detail in which any group's free bits need its rate."""
        parts = [free.per for free in map(self._free, groups) if free is not None]
        return next((detail for detail in _FINEST_FIRST if detail in parts), "latent")

    def _free(self, group: LatentGroup) -> AtLeast | FreeBits | None:
        """The free bits of a group: its own, or the objective's."""
        own = group.free
        return self.settings.free if own is None else None if own.nats is None else own

    def _floored(self, bound: Elbo, latents: Traversal, training: bool) -> Tensor:
        """What each group contributes before weighting, `(groups,)`: its mean rate, never under the free bits."""
        if all(self._free(group) is None for group in latents.groups):
            return bound.rates.mean(1)
        floored = []
        for group, rate, outcome in zip(latents.groups, bound.rates, latents.outcomes, strict=True):
            free, detail = self._free(group), outcome.rate_detail
            if free is None or detail is None or not (training or free.when == "always"):
                floored.append(rate.mean())
            else:
                floored.append(free_bits(_parts(detail, free.per), free, self._across_ranks))
        return torch.stack(floored)

    def _weights(
        self, bound: Elbo, groups: Sequence[LatentGroup], step: int, beta: float, training: bool
    ) -> Tensor | None:
        """Each group's own weight, times its balance while groups are balanced; None where all are 1."""
        own = [group.weight for group in groups]
        balance = self._balance(bound.rates.detach(), groups, step, beta) if training else None
        if all(weight == 1 for weight in own):
            return balance
        weights = constants(own, bound.rates)
        return weights if balance is None else weights * balance

    def _balance(self, rates: Tensor, groups: Sequence[LatentGroup], step: int, beta: float) -> Tensor | None:
        balance = self.settings.balance
        if isinstance(balance, BySize) and beta < 1:
            return balance_by_size(self._across_ranks(rates.abs().mean(1)), groups, balance)
        if isinstance(balance, ByRate) and self._balance_until is not None and step < self._balance_until:
            return balance_by_rate(self._across_ranks(rates.mean(1)), groups)
        return None


class Beta:
    """The rate's weight: a constant, or as its schedule says at each step.

    `ramp`: linearly from `from` at `start` to 1 after `length`, never below `floor`. `linear` and `cosine`: from one
    weight to another in that time. `cyclic`: linearly in the first part of each cycle (Fu et al. 2019). `logistic`: a
    sigmoid in time (Bowman et al. 2016).
    """

    def __init__(self, beta: float | Ramp | Anneal | Cyclic | LogisticRamp, steps: Callable[[Duration], int]) -> None:
        self._beta = beta
        match beta:
            case Ramp() | Anneal():
                self._start, self._length = steps(beta.start), max(1, steps(beta.length))
            case Cyclic():
                self._start, self._length = 0, max(1, steps(beta.length))
            case LogisticRamp():
                self._start, self._length = steps(beta.middle), max(1, steps(beta.width))

    def __call__(self, step: int) -> float:
        beta = self._beta
        if isinstance(beta, int | float):
            return beta
        part = (step - self._start) / self._length
        if isinstance(beta, Ramp):
            return max(beta.from_ + (1 - beta.from_) * min(max(part, 0.0), 1.0), beta.floor)
        return beta.from_ + (beta.to - beta.from_) * _progress(beta, part)


def _progress(beta: Anneal | Cyclic | LogisticRamp, part: float) -> float:
    """How much of the way a schedule has gone, 0 to 1, when so many of its lengths have passed."""
    if isinstance(beta, LogisticRamp):
        return 0.5 * (1 + math.tanh(part))  # sigmoid(2 part): 27 % of the way at -1/2, 73 % at 1/2
    if isinstance(beta, Cyclic):
        over = beta.cycles is not None and part >= beta.cycles
        return 1.0 if over else min(part % 1 / beta.rising, 1.0)
    part = min(max(part, 0.0), 1.0)
    return part if beta.kind == "linear" else 0.5 * (1 - math.cos(math.pi * part))


def weight_at(weight: float | WithBeta, beta: float) -> float:
    """A term's weight while the rate's is β: a constant, or exp((1 - β) log first + β log last)."""
    if not isinstance(weight, WithBeta):
        return weight
    return math.exp((1 - beta) * math.log(weight.first) + beta * math.log(weight.last))


def _parts(rate: Tensor, per: Detail) -> Tensor:
    """A rate summed up to the parts wanted, from `(N, Z, H, W)`, `(N, Z)` or `(N,)`."""
    if per == "element" or rate.dim() == 1:
        return rate
    by_channel = rate.flatten(2).sum(2) if rate.dim() > 2 else rate
    return by_channel if per == "channel" else by_channel.sum(1)


def free_bits(rate: Tensor, free: AtLeast | FreeBits, across_ranks: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean rate of one group, no part of it under `free.nats` (IAF-VAE, Kingma et al. 2016, section C.8).

    `rate` is `(N,)`, `(N, Z)` or `(N, Z, H, W)`: a value for each part that has a floor of its own. Under its floor a
    part costs the floor and has no gradient. The floor is applied to each image, or to the mean over the whole batch.
    """
    floor = torch.full((), free.nats or 0.0, dtype=rate.dtype, device=rate.device)
    if free.take_max == "per_sample":
        return torch.maximum(rate, floor).sum() / len(rate)
    mean = rate.mean(0)
    above = across_ranks(mean.detach()) > floor
    return torch.where(above, mean, floor).sum()


def balance_by_size(mean_rates: Tensor, groups: Sequence[LatentGroup], balance: BySize) -> Tensor:
    """NVAE's weights γ_l ∝ (|R_l| + 0.01) / α_l with mean 1 (Vahdat & Kautz 2020, appendix A).

    α_l grows with the side s of the group's map: `square` s² / (groups of that map), `linear` s, `sqrt` √s, `equal` 1.
    """
    sides = [math.sqrt(group.shape[1] * group.shape[2]) for group in groups]
    alpha = {
        "square": [side**2 / sides.count(side) for side in sides],
        "linear": sides,
        "sqrt": [math.sqrt(side) for side in sides],
        "equal": [1.0] * len(sides),
    }[balance.weight]
    gamma = (mean_rates + _BALANCE_FLOOR) / constants(alpha, mean_rates)
    return gamma / gamma.mean()


def balance_by_rate(mean_rates: Tensor, groups: Sequence[LatentGroup]) -> Tensor:
    """Efficient-VDVAE's weights γ_l = L a_l / Σ a, with a_l the mean rate per latent element (Hazami et al. 2022)."""
    per_element = mean_rates / constants([float(math.prod(group.shape)) for group in groups], mean_rates)
    return len(groups) * per_element / per_element.sum().clamp_min(torch.finfo(per_element.dtype).tiny)


class Scheduled:
    """Gives a step's numbers to tensors without a copy from the host.

    Usually each is a fresh scalar, filled where it is used. Once they are held, a number keeps its tensor, and only
    `refill` changes what is in it: what was captured with that tensor then sees the numbers of the step at hand.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] | None = None

    def __call__(self, name: str, value: float, like: Tensor) -> Tensor:
        """The number as a scalar of the type of `like`, where it is."""
        if self._held is None:
            return like.new_full((), value)
        if name not in self._held:
            self._held[name] = like.new_full((), value)
        return self._held[name]

    def hold(self) -> None:
        """From now on every number keeps its tensor."""
        self._held = {} if self._held is None else self._held

    def refill(self, values: Mapping[str, float]) -> None:
        """Put the numbers of a step into the tensors that are held."""
        for name, tensor in (self._held or {}).items():
            tensor.fill_(values[name])
