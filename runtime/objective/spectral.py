"""The spectral penalty: the largest singular value of each convolution's weight, by power iteration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.layers import Conv2d, ConvTranspose2d
from hvdsl.runtime.layers.own import OwnRoles
from hvdsl.runtime.layers.stacked import of_rows, weight_rows
from hvdsl.runtime.layers.weights import WeightNorm

FIRST_ITERATIONS = 40  # from a random vector (NVAE's release)
LATER_ITERATIONS = 4  # from the vector of the step before: weights move little in a step
_FLOOR = 1e-3  # of a norm that is divided by, so that a weight of zeros gives zeros
_CACHED = 2**17  # elements of the weights that a CPU iterates together: 512 KiB in float32, which stay in its cache


class SpectralPenalty:
    """Σ σ over the convolutions of a model, with σ = uᵀ W v of each weight W in use as a (C_out, rest) matrix.

    The weight in use is the normalised and masked one; a use of a shared convolution with a weight or gain of its own
    has another weight, and counts as another convolution. Dense layers do not count. Every call moves the vectors, so
    call it once per step. u and v are constants to the gradient, which is u vᵀ for each W. Layers of one shape are
    iterated together.

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
        with torch.no_grad():
            groups = [self._iterated(*alike) for alike in self._alike()]
        self._started = True
        parameters = [parameter for group in groups for parameter in group.parameters()]
        total: Tensor = _SpectralSum.apply(groups, *parameters)  # type: ignore[no-untyped-call]  # torch's own
        return total

    def _iterated(self, names: list[str], weights: list[Weight]) -> Iteration:
        vectors = [self.vectors[name] for name in names]
        group = Iteration(weights, vectors)
        group.iterate(LATER_ITERATIONS if self._started else FIRST_ITERATIONS)
        improved = list(group.left.unbind())
        if all(vector.dtype == group.left.dtype for vector in vectors):
            torch._foreach_copy_(vectors, improved)  # in place, where a captured step finds them
        else:
            self.vectors |= {name: vector.clone() for name, vector in zip(names, improved, strict=True)}
        return group

    def _alike(self) -> Iterator[tuple[list[str], list[Weight]]]:
        """Weights that are normalised in one way to matrices of one shape, with the names of their layers."""
        alike: dict[Any, tuple[list[str], list[Weight]]] = defaultdict(lambda: ([], []))
        for name, module in self._layers.items():
            weight = _weight(module)
            names, weights = alike[weight.parameter.shape, weight.axis, weight.norm, weight.parameter.dtype]
            names.append(name)
            weights.append(weight)
        for names, weights in alike.values():
            first = weights[0].parameter
            together = len(names) if _in_one_product(first.device) else max(1, _CACHED // first.numel())
            for at in range(0, len(names), together):
                yield names[at : at + together], weights[at : at + together]

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


Weighted: TypeAlias = Conv2d | ConvTranspose2d | OwnRoles
"""What has a weight of a convolution: a layer, or the roles that a use of a shared layer has for itself."""


class Weight(NamedTuple):
    """What the weight in use of a convolution is made of."""

    parameter: Tensor
    gain: Tensor | None
    mask: Tensor | None
    norm: WeightNorm | None
    axis: int  # of the output channels

    def matrix(self) -> Tensor:
        """The masked parameter, which is the direction where there is a gain, as (C_out, rest), in float32 at least."""
        weight = self.parameter if self.mask is None else self.parameter * self.mask
        weight = weight if weight.dtype == torch.float64 else weight.float()
        return weight_rows(weight, self.parameter, self.axis)

    def gradient(self, of_matrix: Tensor) -> Tensor:
        """The parameter's, from the matrix's."""
        of_weight = of_rows(of_matrix, self.parameter, self.axis)
        return (of_weight if self.mask is None else of_weight * self.mask).to(self.parameter.dtype)


def _weight(module: Weighted) -> Weight:
    layer = module.layer if isinstance(module, OwnRoles) else module
    if not isinstance(layer, Conv2d | ConvTranspose2d):
        raise TypeError(f"{type(layer).__name__} is no convolution")
    parameter, gain = layer.weight, layer.gain
    if isinstance(module, OwnRoles):
        own = dict(module.named_parameters(recurse=False))
        parameter, gain = own.get("weight", parameter), own.get("gain", gain)
    mask = layer.mask if isinstance(layer, Conv2d) else None
    return Weight(parameter, gain, mask, layer.norm, layer.channel_axis)


Product = tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]  # the operation, its operands, and where the result goes


class Iteration:
    """Power iteration of k weights W = diag(s) V of one shape (m, n), without computing W; s is 1 without weight norm.

    Attributes:
        left: u `(k, m)`.
        right: v `(k, n)`, once iterated.
        scaled: W v `(k, m)`, once iterated.
    """

    def __init__(self, weights: Sequence[Weight], starts: Sequence[Tensor]) -> None:
        self._weights, self._norm = weights, weights[0].norm
        self._directions = [weight.matrix() for weight in weights]
        like, (rows, columns) = self._directions[0], self._directions[0].shape
        self._stacked = torch.stack(self._directions) if _in_one_product(like.device) else None
        self.left = torch.stack([start.to(like) for start in starts])
        self.right = like.new_empty(len(weights), columns)
        self._unscaled = like.new_empty(len(weights), rows)
        self.scaled, self._scale = self._unscaled, None
        if self._norm is not None:
            gains = torch.stack([weight.gain.flatten() for weight in weights if weight.gain is not None])
            if self._stacked is None:
                self._lengths = torch.stack([torch.linalg.vector_norm(v, dim=1) for v in self._directions])
            else:
                self._lengths = torch.linalg.vector_norm(self._stacked, dim=2)
            self._scale = self._norm.factor(self._lengths, gains.to(like))
            self.scaled = torch.empty_like(self._unscaled)

    def iterate(self, iterations: int) -> None:
        """v ← Wᵀu / ‖Wᵀu‖, u ← Wv / ‖Wv‖, so many times."""
        left = self.left if self._scale is None else torch.empty_like(self.left)  # s u
        forth, back = self._products(self.right, self._unscaled, False), self._products(left, self.right, True)
        for _ in range(iterations):
            if self._scale is not None:
                torch.mul(self.left, self._scale, out=left)
            for multiply, v, vector, product in back:
                multiply(v, vector, out=product)
            _normalise(self.right, self.right)
            for multiply, v, vector, product in forth:
                multiply(v, vector, out=product)
            if self._scale is not None:
                torch.mul(self._unscaled, self._scale, out=self.scaled)
            _normalise(self.scaled, self.left)

    def _products(self, vectors: Tensor, into: Tensor, transposed: bool) -> list[Product]:
        """V of each with its vector: in one product, but on a CPU one by one, which copies no weight."""
        if self._stacked is not None:
            stacked = self._stacked.mT if transposed else self._stacked
            return [(torch.bmm, stacked, vectors.unsqueeze(2), into.unsqueeze(2))]
        matrices = [v.t() if transposed else v for v in self._directions]
        return [(torch.mv, *of) for of in zip(matrices, vectors.unbind(), into.unbind(), strict=True)]

    def parameters(self) -> Iterator[Tensor]:
        """What `gradients` are of: of each layer its weight, and its gain where it has one."""
        for weight in self._weights:
            yield weight.parameter
            if weight.gain is not None:
                yield weight.gain

    def gradients(self, upstream: Tensor) -> Iterator[Tensor]:
        """Those of Σ uᵀ W v with u and v as constants, times a number: u vᵀ for W, carried on to V and the gain.

        With p = u · V v in each row: ∂V = s u vᵀ - s p V / (‖V‖ (‖V‖ + eps)), and the gain's is that of `WeightNorm`.
        """
        left = self.left * upstream
        if self._norm is not None and self._scale is not None:
            projection, left = left * self._unscaled, left * self._scale
            shrink, of_gain = self._norm.row_gradients(projection, self._lengths, self._scale)
        together = None if self._stacked is None else left.unsqueeze(2) * self.right.unsqueeze(1)
        if self._norm is not None and self._stacked is not None and together is not None:
            together.addcmul_(self._stacked, shrink.unsqueeze(2), value=-1)
        for i, weight in enumerate(self._weights):
            if together is None:
                of_matrix = torch.outer(left[i], self.right[i])
                if self._norm is not None:
                    of_matrix.addcmul_(self._directions[i], shrink[i].unsqueeze(1), value=-1)
            else:
                of_matrix = together[i]
            yield weight.gradient(of_matrix)
            if weight.gain is not None:
                yield of_gain[i].reshape(weight.gain.shape).to(weight.gain.dtype)


class _SpectralSum(torch.autograd.Function):
    """Σ uᵀ W v over all groups; its gradient is written down instead of recorded."""

    @staticmethod
    def forward(ctx: Any, groups: Sequence[Iteration], *parameters: Tensor) -> Tensor:
        ctx.groups = groups
        return torch.stack([torch.sum(group.left * group.scaled) for group in groups]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient for group in ctx.groups for gradient in group.gradients(upstream))


def _in_one_product(device: torch.device) -> bool:
    """Whether few kernels are worth a copy of the weights."""
    return device.type != "cpu"


def _normalise(x: Tensor, into: Tensor) -> None:
    """Rows of length 1."""
    torch.div(x, torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(_FLOOR), out=into)


def _convolutions(model: nn.Module) -> Iterator[tuple[str, Weighted]]:
    for name, module in model.named_modules():
        if isinstance(module, Conv2d | ConvTranspose2d) or (
            isinstance(module, OwnRoles)
            and isinstance(module.layer, Conv2d | ConvTranspose2d)
            and {"weight", "gain"} & set(module.roles)
        ):
            yield name, module


def _random_unit(module: Weighted, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that devices and ranks agree
    weight = _weight(module)
    start = torch.randn(weight.parameter.shape[weight.axis], generator=generator)
    _normalise(start, start)
    return start.to(weight.parameter.device)
