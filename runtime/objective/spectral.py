"""The spectral penalty: the largest singular value of each convolution's weight, by power iteration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvdsl.runtime.ground.noise import derive_seed
from hvdsl.runtime.layers import Conv2d, ConvTranspose2d

FIRST_ITERATIONS = 40  # from a random vector (NVAE's release)
LATER_ITERATIONS = 4  # from the vector of the step before: weights move little in a step
_FLOOR = 1e-3  # of a norm that is divided by, so that a weight of zeros gives zeros
_CACHED = 2**17  # elements of the weights that a CPU iterates together: 512 KiB in float32, which stay in its cache


class SpectralPenalty:
    """Σ σ over the convolutions of a model, with σ = uᵀ W v of each weight W in use as a (C_out, rest) matrix.

    The weight in use is the normalised and masked one; dense layers do not count. Every call moves the vectors, so call
    it once per step. u and v are constants to the gradient, which is u vᵀ for each W. Layers of one shape are iterated
    together.

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
            groups = [self._iterated(names) for names in self._alike()]
        self._started = True
        parameters = [parameter for group in groups for parameter in group.parameters()]
        total: Tensor = _SpectralSum.apply(groups, *parameters)  # type: ignore[no-untyped-call]  # torch's own
        return total

    def _iterated(self, names: list[str]) -> Iteration:
        vectors = [self.vectors[name] for name in names]
        group = Iteration([self._layers[name] for name in names], vectors)
        group.iterate(LATER_ITERATIONS if self._started else FIRST_ITERATIONS)
        for name, vector, improved in zip(names, vectors, group.left.unbind(), strict=True):
            if vector.dtype == improved.dtype:
                vector.copy_(improved)  # in place, where a captured step finds it
            else:
                self.vectors[name] = improved.clone()
        return group

    def _alike(self) -> Iterator[list[str]]:
        """Names of layers whose weights are normalised in one way to matrices of one shape."""
        alike = defaultdict(list)
        for name, layer in self._layers.items():
            alike[layer.weight.shape, layer.channel_axis, layer.norm, layer.weight.dtype].append(name)
        for (shape, *_), names in alike.items():
            on_cpu = self._layers[names[0]].weight.device.type == "cpu"
            together = max(1, _CACHED // shape.numel()) if on_cpu else len(names)
            for first in range(0, len(names), together):
                yield names[first : first + together]

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the vectors, once they were iterated."""
        return {name: vector.clone() for name, vector in self.vectors.items()} if self._started else {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `tensors()`; names and shapes are those of `vectors`."""
        self.vectors = {name: tensors[name].to(vector, copy=True) for name, vector in self.vectors.items()}
        self._started = True


Product = tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]  # the operation, its operands, and where the result goes


class Iteration:
    """Power iteration of k weights W = diag(s) V of one shape (m, n), without computing W; s is 1 without weight norm.

    Attributes:
        left: u `(k, m)`.
        right: v `(k, n)`, once iterated.
        scaled: W v `(k, m)`, once iterated.
    """

    def __init__(self, layers: Sequence[Conv2d | ConvTranspose2d], starts: Sequence[Tensor]) -> None:
        self._layers, self._norm = layers, layers[0].norm
        self._directions = [_matrix(layer) for layer in layers]
        like, (rows, columns) = self._directions[0], self._directions[0].shape
        self.left = torch.stack([start.to(like) for start in starts])
        self.right = like.new_empty(len(layers), columns)
        self._unscaled = like.new_empty(len(layers), rows)
        self.scaled, self._scale = self._unscaled, None
        if self._norm is not None:
            gains = torch.stack([layer.gain.flatten() for layer in layers if layer.gain is not None])
            self._lengths = torch.stack([torch.linalg.vector_norm(v, dim=1) for v in self._directions])
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
        if _in_one_product(vectors.device):
            stacked = torch.stack(self._directions)
            return [(torch.bmm, stacked.mT if transposed else stacked, vectors.unsqueeze(2), into.unsqueeze(2))]
        matrices = [v.t() if transposed else v for v in self._directions]
        return [(torch.mv, *of) for of in zip(matrices, vectors.unbind(), into.unbind(), strict=True)]

    def parameters(self) -> Iterator[nn.Parameter]:
        """What `gradients` are of: of each layer its weight, and its gain where it has one."""
        for layer in self._layers:
            yield layer.weight
            if layer.gain is not None:
                yield layer.gain

    def gradients(self, upstream: Tensor) -> Iterator[Tensor]:
        """Those of Σ uᵀ W v with u and v as constants, times a number: u vᵀ for W, carried on to V and the gain.

        With p = u · V v in each row: ∂V = s u vᵀ - s p V / (‖V‖ (‖V‖ + eps)), and the gain's is that of `WeightNorm`.
        """
        left = self.left * upstream
        if self._norm is not None and self._scale is not None:
            projection, left = left * self._unscaled, left * self._scale
            shrink, of_gain = self._norm.row_gradients(projection, self._lengths, self._scale)
        for i, layer in enumerate(self._layers):
            of_weight = torch.outer(left[i], self.right[i])
            if self._norm is not None:
                of_weight.addcmul_(self._directions[i], shrink[i].unsqueeze(1), value=-1)
            shape = layer.weight.movedim(layer.channel_axis, 0).shape
            of_weight = of_weight.reshape(shape).movedim(0, layer.channel_axis)
            mask = getattr(layer, "mask", None)
            yield (of_weight if mask is None else of_weight * mask).to(layer.weight.dtype)
            if layer.gain is not None:
                yield of_gain[i].reshape(layer.gain.shape).to(layer.gain.dtype)


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


def _convolutions(model: nn.Module) -> Iterator[tuple[str, Conv2d | ConvTranspose2d]]:
    for name, module in model.named_modules():
        if isinstance(module, Conv2d | ConvTranspose2d):
            yield name, module


def _matrix(layer: Conv2d | ConvTranspose2d) -> Tensor:
    """The weight, or its direction where it is normalised, as (C_out, rest), at least in float32."""
    weight = layer.direction()
    weight = weight if weight.dtype == torch.float64 else weight.float()
    return weight.movedim(layer.channel_axis, 0).flatten(1)


def _random_unit(layer: Conv2d | ConvTranspose2d, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that devices and ranks agree
    channels = layer.weight.shape[layer.channel_axis]
    start = torch.randn(channels, generator=generator)
    _normalise(start, start)
    return start.to(layer.weight.device)
