"""Penalties on the weights themselves, beside what a batch costs: spectral norms and batch-norm gains.

NVAE (Vahdat & Kautz 2020, section 3.2) keeps its Kullback-Leibler terms bounded by penalising the Lipschitz constant of
every convolution, through power iteration (Yoshida & Miyato 2017), and the gains of batch normalisations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvdsl.compiler.setting_words import Duration
from hvdsl.compiler.settings import ObjectiveSettings
from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.layers import BatchNorm2d, Conv2d, ConvTranspose2d
from hvdsl.runtime.layers.own import OwnRoles
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
        return torch.stack([torch.linalg.vector_norm(gain, torch.inf) for gain in self._gains]).sum()


FIRST_ITERATIONS = 40  # from a random vector (NVAE's release)
LATER_ITERATIONS = 4  # from the vector of the step before: weights move little in a step
_FLOOR = 1e-3  # of a norm that is divided by, so that a weight of zeros gives zeros


class SpectralPenalty:
    """Σ σ over the convolutions of a model, with σ = uᵀ W v of each weight W in use as a (C_out, rest) matrix.

    The weight in use is the normalised and masked one; a use of a shared convolution with a weight or gain of its own
    has another weight, and counts as another convolution. Dense layers do not count. Every call moves the vectors, so
    call it once per step. u and v are constants to the gradient, which is u vᵀ for each W. On the CPU the layers are
    taken one by one; elsewhere those of one shape are iterated together.

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
        matrices = [_matrix(layer) for layer in self._layers.values()]
        vectors = [self.vectors[name].to(m) for name, m in zip(self._layers, matrices, strict=True)]
        iterate = _one_by_one if matrices[0].device.type == "cpu" else _by_shape
        with torch.no_grad():
            left, right = iterate(matrices, vectors, LATER_ITERATIONS if self._started else FIRST_ITERATIONS)
        for name, improved in zip(self._layers, left, strict=True):
            if self.vectors[name].dtype == improved.dtype:
                self.vectors[name].copy_(improved)  # in place, where a captured step finds it
            else:
                self.vectors[name] = improved
        self._started = True
        total: Tensor = _BilinearSum.apply(left, right, *matrices)  # type: ignore[no-untyped-call]  # torch's own
        return total

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the vectors, once they were iterated."""
        return {name: vector.clone() for name, vector in self.vectors.items()} if self._started else {}

    def expected(self, stored: Collection[str]) -> dict[str, Tensor]:
        """The vectors that a checkpoint has to have; before version 0.2 none were of uses with roles of their own."""
        own = {name for name, layer in self._layers.items() if isinstance(layer, OwnRoles)}
        early = not own & set(stored)
        return {name: vector for name, vector in self.vectors.items() if not (early and name in own)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `tensors()`, whose names and shapes are those that are `expected`."""
        self.vectors = {name: tensors.get(name, old).to(old, copy=True) for name, old in self.vectors.items()}
        self._started = True


class _BilinearSum(torch.autograd.Function):
    """Σ uᵀ W v; its gradient in each W is u vᵀ, written down instead of recorded."""

    @staticmethod
    def forward(ctx: Any, left: Sequence[Tensor], right: Sequence[Tensor], *matrices: Tensor) -> Tensor:
        ctx.left, ctx.right = left, right
        return torch.stack([u @ (w @ v) for u, w, v in zip(left, matrices, right, strict=True)]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(torch.outer(upstream * u, v) for u, v in zip(ctx.left, ctx.right, strict=True))


Vectors = list[Tensor]


def _one_by_one(matrices: Sequence[Tensor], left: Sequence[Tensor], iterations: int) -> tuple[Vectors, Vectors]:
    """u and v of each matrix after so many iterations v ← Wᵀu / ‖Wᵀu‖, u ← Wv / ‖Wv‖."""
    pairs = [_iterate(w, u, iterations) for w, u in zip(matrices, left, strict=True)]
    return [u for u, _ in pairs], [v for _, v in pairs]


def _iterate(w: Tensor, u: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    transposed, v = w.t(), u
    for _ in range(iterations):
        v = _normalised(transposed @ u)
        u = _normalised(w @ v)
    return u, v


def _by_shape(matrices: Sequence[Tensor], left: Sequence[Tensor], iterations: int) -> tuple[Vectors, Vectors]:
    """The same, all matrices of a shape in one product: few kernels instead of many small ones."""
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for i, w in enumerate(matrices):
        alike[w.shape].append(i)
    pairs: dict[int, tuple[Tensor, Tensor]] = {}
    for places in alike.values():
        w = torch.stack([matrices[i] for i in places])
        u = torch.stack([left[i] for i in places]).unsqueeze(2)
        v = u
        for _ in range(iterations):
            v = _normalised(w.mT @ u)
            u = _normalised(w @ v)
        pairs |= zip(places, zip(u.squeeze(2), v.squeeze(2), strict=True), strict=True)
    return [pairs[i][0] for i in range(len(matrices))], [pairs[i][1] for i in range(len(matrices))]


def _normalised(x: Tensor) -> Tensor:
    """Columns `(…, n, 1)`, or a vector `(n,)`, of length 1."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-2 if x.dim() > 1 else 0, keepdim=True)
    return x / length.clamp_min(_FLOOR)


Weighted: TypeAlias = "Conv2d | ConvTranspose2d | OwnRoles"
"""What has a weight of a convolution: a layer, or the roles that a use of a shared layer has for itself."""


def _convolutions(model: nn.Module) -> Iterator[tuple[str, Weighted]]:
    for name, module in model.named_modules():
        if isinstance(module, Conv2d | ConvTranspose2d) or (
            isinstance(module, OwnRoles)
            and isinstance(module.layer, Conv2d | ConvTranspose2d)
            and {"weight", "gain"} & set(module.roles)
        ):
            yield name, module


def _matrix(layer: Weighted) -> Tensor:
    """The weight in use as (C_out, rest), at least in float32."""
    if isinstance(layer, OwnRoles):
        with layer.in_place() as shared:
            if not isinstance(shared, Conv2d | ConvTranspose2d):
                raise TypeError(f"{type(shared).__name__} is no convolution")
            return _matrix(shared)
    weight = layer.effective_weight()
    weight = weight if weight.dtype == torch.float64 else weight.float()
    return weight.movedim(layer.channel_axis, 0).flatten(1)


def _random_unit(layer: Weighted, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that devices and ranks agree
    with torch.no_grad():
        matrix = _matrix(layer)
    return _normalised(torch.randn(len(matrix), generator=generator)).to(matrix.device)
