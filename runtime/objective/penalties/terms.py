"""The penalties of an objective with their weights, as one term of the loss that no batch enters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.objective.elbo import Beta, weight_at
from hvdsl.runtime.objective.penalties.batch_norm import BatchNormPenalty
from hvdsl.runtime.objective.penalties.spectral import SpectralPenalty
from hvdsl.runtime.objective.scheduled import Scheduled


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

    def expected(self) -> dict[str, Tensor]:
        """Tensors with the names, shapes and types that `load` takes."""
        return {} if self.spectral is None else dict(self.spectral.vectors)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `tensors()`."""
        if self.spectral is not None:
            self.spectral.load(tensors)
