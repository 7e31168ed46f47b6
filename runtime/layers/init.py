"""How parameters start: initialisers, and the one explicit function that applies them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, repr=False)
class Init:
    """A rule that fills a tensor, given the fan-in of its weight; printed as the call that made it."""

    name: str
    arguments: tuple[float, ...]
    fill: Callable[[Tensor, int, torch.Generator], object]

    def __reduce__(self) -> tuple[object, ...]:
        """Copied and pickled as the call that made it."""
        return globals()[self.name], self.arguments

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(str(a) for a in self.arguments)})"


def scaled(factor: float) -> Init:
    """Uniform on ±factor / sqrt(fan in)."""

    def fill(tensor: Tensor, fan: int, generator: torch.Generator) -> None:
        bound = 1 / math.sqrt(fan)
        tensor.uniform_(-bound, bound, generator=generator).mul_(factor)

    return Init("scaled", (factor,), fill)


def fan_in() -> Init:
    """Uniform on ±1 / sqrt(fan in): torch's own default for weights and biases of convolutions and dense layers."""
    return Init("fan_in", (), scaled(1.0).fill)


def constant(value: float) -> Init:
    """The same number everywhere."""
    return Init("constant", (value,), lambda tensor, fan, generator: tensor.fill_(value))


def zeros() -> Init:
    """Zero everywhere."""
    return Init("zeros", (), constant(0.0).fill)


def ones() -> Init:
    """One everywhere."""
    return Init("ones", (), constant(1.0).fill)


def gaussian(std: float) -> Init:
    """Normal with mean 0 and standard deviation `std`."""
    return Init("gaussian", (std,), lambda tensor, fan, generator: tensor.normal_(0, std, generator=generator))


def uniform(low: float, high: float) -> Init:
    """Uniform on [low, high)."""
    return Init("uniform", (low, high), lambda tensor, fan, generator: tensor.uniform_(low, high, generator=generator))


def orthogonal() -> Init:
    """Orthonormal rows or columns of the weight as a (first axis, rest) matrix (Saxe, McClelland & Ganguli 2014)."""
    return Init("orthogonal", (), lambda tensor, fan, generator: nn.init.orthogonal_(tensor, generator=generator))


Fill = Callable[[str, Init, int], None]  # the role of a parameter, its rule, the fan-in


class Layer(nn.Module):
    """A module that owns parameters or buffers and says how each starts."""

    def initial(self, fill: Fill) -> None:
        """Give every own parameter and buffer its first value, the random ones by `fill`."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it starts")


def initialize(module: nn.Module, seed: int | torch.Generator) -> None:
    """Give every parameter and buffer of `module` its first value.

    Each parameter draws from a stream of its own, a function of the seed and of the parameter's name. So the values do
    not depend on the order of construction, on the device, or on what else the model holds; a module built on the
    `meta` device and then moved by `to_empty` starts the same. A generator is asked for one number, which is the seed.

    Raises:
        ValueError: a parameter belongs to a module that does not say how it starts, or is still on the `meta` device.
    """
    if isinstance(seed, torch.Generator):
        seed = int(torch.randint(2**62, (), generator=seed, device=seed.device))
    generator = torch.Generator()
    filled: set[int] = set()
    with torch.no_grad():
        for path, layer in module.named_modules():
            if not isinstance(layer, Layer):
                continue
            layer.initial(_filler(layer, f"{path}." if path else "", seed, generator))
            filled.update(id(p) for p in layer.parameters(recurse=False))
    for name, parameter in module.named_parameters():
        if id(parameter) not in filled:
            raise ValueError(f"`{name}` has no initial value: its module is no `Layer`")


def _filler(layer: Layer, prefix: str, seed: int, generator: torch.Generator) -> Fill:
    def fill(role: str, init: Init, fan: int) -> None:
        parameter: Tensor = getattr(layer, role)  # a parameter, or a buffer that starts at random
        if parameter.is_meta:
            raise ValueError(f"`{prefix}{role}` is on the meta device; call `to_empty(device=…)` first")
        key = hashlib.blake2b(f"{seed}/{prefix}{role}".encode(), digest_size=8).digest()
        generator.manual_seed(int.from_bytes(key, "little"))
        draw = torch.empty(parameter.shape, dtype=torch.float32)  # on the CPU, so that devices agree
        init.fill(draw, fan, generator)
        parameter.copy_(draw)

    return fill
