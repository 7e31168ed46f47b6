"""Penalties on the weights themselves, beside what a batch costs: spectral norms and batch-norm gains.

NVAE (Vahdat & Kautz 2020, section 3.2) keeps its Kullback-Leibler terms bounded by penalising the Lipschitz constant of
every convolution, through power iteration (Yoshida & Miyato 2017), and the gains of batch normalisations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.layers import BatchNorm2d
from hvdsl.runtime.layers.own import OwnRoles
from hvdsl.runtime.objective.objective import Beta, Scheduled, weight_at
from hvdsl.runtime.objective.spectral import SpectralPenalty


class Penalties:
    """λ Σ σ + λ' Σ max |γ|, as the spec's `objective { spectral, batch_norm_gamma }` says.

    The weights multiply numbers without a unit and give the objective's unit. What is penalised are weights, not
    images, so a step asks once, however its batch is divided into parts and among processes.

    Args:
        steps: turns the durations of the annealing into steps.
        seed: of the first vectors of the power iteration.

    Raises:
        HvdslError: a penalty is asked for and the model has nothing that it applies to.
    """

    def __init__(
        self, model: nn.Module, settings: ObjectiveSettings, steps: Callable[[Duration], int], seed: int = 0
    ) -> None:
        self._settings, self._beta = settings, Beta(settings.beta, steps)
        self.scheduled = Scheduled()
        self.spectral = None if settings.spectral == 0 else SpectralPenalty(model, seed)
        self.batch_norm_gamma = None if settings.batch_norm_gamma == 0 else BatchNormPenalty(model)
        for name, penalty, layer in (
            ("spectral", self.spectral, "convolution"),
            ("batch_norm_gamma", self.batch_norm_gamma, "batch normalisation"),
        ):
            if penalty is not None and len(penalty) == 0:
                raise HvdslError(f"`objective.{name}` penalises every {layer}, and the model has none: remove `{name}`")

    def __call__(self, step: int) -> tuple[Tensor | None, Mapping[str, Tensor]]:
        """The weighted sum (None where the spec has no penalty), and each term raw and weighted, by name."""
        beta, total, terms = self._beta(step), None, {}
        for plain, weighed, raw, setting in (
            (names.SPECTRAL_SUM, names.WEIGHTED_SPECTRAL, self.spectral, self._settings.spectral),
            (
                names.BATCH_NORM_GAMMA_SUM,
                names.WEIGHTED_BATCH_NORM_GAMMA,
                self.batch_norm_gamma,
                self._settings.batch_norm_gamma,
            ),
        ):
            if raw is None:
                continue
            value = raw()
            weighted = self.scheduled(plain, weight_at(setting, beta), value) * value
            total = weighted if total is None else total + weighted
            terms[plain] = value.detach()
            terms[names.in_unit(weighed, self._settings.unit)] = weighted.detach()
        return total, terms

    def refill(self, step: int) -> None:
        """Put the weights of that step into the scalars that are held."""
        beta, settings = self._beta(step), self._settings
        self.scheduled.refill(
            {
                names.SPECTRAL_SUM: weight_at(settings.spectral, beta),
                names.BATCH_NORM_GAMMA_SUM: weight_at(settings.batch_norm_gamma, beta),
            }
        )

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {} if self.spectral is None else self.spectral.tensors()

    def moved(self) -> Mapping[str, Tensor]:
        """What each call changes in place."""
        return {} if self.spectral is None else self.spectral.vectors

    def expected(self, stored: Collection[str]) -> dict[str, Tensor]:
        """Tensors with the names, shapes and types that `load` takes from a checkpoint that has the `stored` names."""
        return {} if self.spectral is None else self.spectral.expected(stored)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `tensors()`."""
        if self.spectral is not None:
            self.spectral.load(tensors)


class BatchNormPenalty:
    """Σ max |γ|, γ being the gains of a batch normalisation: the largest factor that it puts on any channel.

    Where several |γ| are the largest they share the gradient.
    """

    def __init__(self, model: nn.Module) -> None:
        self._gains = [module.weight for module in model.modules() if isinstance(module, BatchNorm2d)]
        self._gains += [
            module.get_parameter("weight")
            for module in model.modules()
            if isinstance(module, OwnRoles) and isinstance(module.layer, BatchNorm2d) and "weight" in module.roles
        ]

    def __len__(self) -> int:
        return len(self._gains)

    def __call__(self) -> Tensor:
        """The sum, a scalar without unit: the gains of as many channels in one operation."""
        if not self._gains:
            return torch.zeros(())
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for gain in self._gains:
            alike[gain.shape].append(gain)
        return torch.cat([torch.stack(gains).abs().amax(1) for gains in alike.values()]).sum()
