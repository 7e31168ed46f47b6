"""Penalties on the weights themselves, beside what a batch costs: spectral norms and batch-norm gains.

NVAE (Vahdat & Kautz 2020, section 3.2) keeps its Kullback-Leibler terms bounded by penalising the Lipschitz constant of
every convolution, through power iteration (Yoshida & Miyato 2017), and the gains of batch normalisations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.ground.tensors import at_least_float32
from hvdsl.runtime.layers import BatchNorm2d, Conv2d, ConvTranspose2d
from hvdsl.runtime.layers.own import OwnRoles
from hvdsl.runtime.layers.stacked import form_of, rows_of, stacked_weights
from hvdsl.runtime.objective.objective import Beta, Scheduled, weight_at


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


class BatchNormPenalty:
    """Σ max |γ|, γ being the gains of a batch normalisation: the largest factor that it puts on any channel."""

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
        """The sum, a scalar without unit. Where several |γ| are the largest they share the gradient."""
        if not self._gains:
            return torch.zeros(())
        alike: dict[int, list[int]] = defaultdict(list)
        for i, gain in enumerate(self._gains):
            alike[len(gain)].append(i)
        largest: dict[int, Tensor] = {}
        for places in alike.values():
            rows = torch.stack([self._gains[i] for i in places])
            largest |= zip(places, torch.linalg.vector_norm(rows, torch.inf, 1).unbind(), strict=True)
        return torch.stack([largest[i] for i in range(len(self._gains))]).sum()


FIRST_ITERATIONS = 40  # from a random vector (NVAE's release)
LATER_ITERATIONS = 4  # from the vector of the step before: weights move little in a step
_FLOOR = 1e-3  # of a norm that is divided by, so that a weight of zeros gives zeros


class SpectralPenalty:
    """Σ σ over the convolutions of a model, with σ = uᵀ W v of each weight W in use as a (C_out, rest) matrix.

    The weight in use is the normalised and masked one; dense layers do not count. Every call moves the vectors, so call
    it once per step. u and v are constants to the gradient, which is u vᵀ for each W. On the CPU the layers are taken
    one by one; elsewhere those of one shape are iterated together.

    Attributes:
        vectors: u `(C_out,)` of each convolution, by its name. v follows from it and needs no place.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self._layers = dict(_convolutions(model))
        self.vectors = {name: _random_unit(layer, derive_seed(seed, name)) for name, layer in self._layers.items()}
        self._started = False

    def __len__(self) -> int:
        return len(self._layers)

    def __call__(self) -> Tensor:
        """Improve the vectors by power iteration and return Σ σ, a scalar without unit."""
        if not self._layers:
            return torch.zeros(())
        together = _together(next(iter(self._layers.values())).weight.device)
        alike: dict[Hashable, list[str]] = defaultdict(list)
        for name, layer in self._layers.items():
            alike[form_of(layer) if together else name].append(name)
        iterations = LATER_ITERATIONS if self._started else FIRST_ITERATIONS
        improved: dict[str, Tensor] = {}
        sums = []
        for names_alike in alike.values():
            matrices = _matrices([self._layers[name] for name in names_alike])
            left = torch.stack([self.vectors[name] for name in names_alike]).to(matrices)
            with torch.no_grad():
                left, right = _iterate(matrices, left, iterations)
            improved |= zip(names_alike, left.unbind(), strict=True)
            sums.append(_Bilinear.apply(left, right, matrices))  # type: ignore[no-untyped-call]  # torch's own
        self._keep(improved)
        self._started = True
        return torch.cat(sums).sum()

    def _keep(self, improved: Mapping[str, Tensor]) -> None:
        """Take over the vectors: in place, where a captured step finds them."""
        same = [name for name, vector in self.vectors.items() if vector.dtype == improved[name].dtype]
        if same:
            torch._foreach_copy_([self.vectors[name] for name in same], [improved[name] for name in same])
        self.vectors |= {name: vector for name, vector in improved.items() if name not in same}

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the vectors, once they were iterated."""
        return {name: vector.clone() for name, vector in self.vectors.items()} if self._started else {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `tensors()`; names and shapes are those of `vectors`."""
        self.vectors = {name: tensors[name].to(vector, copy=True) for name, vector in self.vectors.items()}
        self._started = True


def _together(device: torch.device) -> bool:
    """Whether to iterate layers of one form together: few kernels for many, but on a CPU beyond its cache."""
    return device.type != "cpu"


class _Bilinear(torch.autograd.Function):
    """uᵀ W v of each of some matrices; its gradient in each W is u vᵀ, written down instead of recorded."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, matrices: Tensor) -> Tensor:
        ctx.left, ctx.right = left, right
        products = _times(matrices, right)
        return (left[0] @ products[0])[None] if len(left) == 1 else (left * products).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None, Tensor]:
        return None, None, (upstream[:, None] * ctx.left)[:, :, None] * ctx.right[:, None, :]


def _iterate(w: Tensor, u: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """u and v of each matrix `(n, C, rest)` after so many iterations v ← Wᵀu / ‖Wᵀu‖, u ← Wv / ‖Wv‖."""
    transposed, v = w.mT, u
    for _ in range(iterations):
        v = _normalised(_times(transposed, u))
        u = _normalised(_times(w, v))
    return u, v


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products of `(n, a, b)` with `(n, b)`; of one as of a matrix, which takes a BLAS less time."""
    if len(matrices) == 1:
        return (matrices[0] @ vectors[0])[None]
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _normalised(x: Tensor) -> Tensor:
    """Vectors `(…, n)` of length 1."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp_min(_FLOOR)


def _convolutions(model: nn.Module) -> Iterator[tuple[str, Conv2d | ConvTranspose2d]]:
    for name, module in model.named_modules():
        if isinstance(module, Conv2d | ConvTranspose2d):
            yield name, module


def _matrices(layers: Sequence[Conv2d | ConvTranspose2d]) -> Tensor:
    """The weights in use of layers of one form as `(layers, C_out, rest)`, at least in float32.

    In which order the rest lies is of no consequence for σ.
    """
    if len(layers) == 1:
        rows = rows_of(layers[0].effective_weight(), layers[0].weight, layers[0].channel_axis)
    else:
        rows = stacked_weights(layers)
    return at_least_float32(rows).view(len(layers), -1, rows.shape[1])


def _random_unit(layer: Conv2d | ConvTranspose2d, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that devices and ranks agree
    channels = layer.weight.shape[layer.channel_axis]
    return _normalised(torch.randn(channels, generator=generator)).to(layer.weight.device)
