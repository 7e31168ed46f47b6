"""What several kinds of layers need: widening, gradients past a choice that has none, the agreement of processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Gradient = Literal["straight_through", "rotation"]


def at_least_float32(x: Tensor) -> Tensor:
    """Widen anything narrower than float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """`values` in a row, of the type of `like` and filled where it is, so that nothing is copied from the host."""
    return torch.stack([torch.full((), value, dtype=like.dtype, device=like.device) for value in values])


def in_layout_of(values: Tensor, like: Tensor) -> Tensor:
    """`values` with the strides of `like`, which is of their shape and dense; a copy only where they lie otherwise.

    An axis of one element may have any stride: the same layout has several spellings, which operations on lists and
    fused updates take for different ones.
    """
    if values.stride() == like.stride():
        return values
    strides = zip(values.shape, values.stride(), like.stride(), strict=True)
    if all(size == 1 or own == other for size, own, other in strides):
        return values.as_strided(like.shape, like.stride())
    return torch.empty_like(like).copy_(values)


def require_codes(codes: Tensor, count: int, owner: str) -> None:
    """Refuse what is not a number from 0 to `count` - 1; in a program that is exported the lookup itself does.

    Raises:
        ValueError: a code is below 0 or above the last; the message ends in `owner`, with `count` in its braces.
    """
    if torch.compiler.is_exporting() or not codes.numel():  # a traced graph cannot read values
        return
    lowest, highest = int(codes.min()), int(codes.max())
    if not 0 <= lowest <= highest < count:
        raise ValueError(f"codes run from {lowest} to {highest}; {owner.format(count)}")


def passed(z: Tensor, code: Tensor, gradient: Gradient) -> Tensor:
    """The value of `code`, exactly, with a gradient to `z`; both `(M, D)`."""
    return straight_through(z, code) if gradient == "straight_through" else rotated(z, code)


def straight_through(z: Tensor, code: Tensor) -> Tensor:
    """d code / d z = 1 (Bengio, Léonard & Courville 2013). z - z is exactly 0: the value is the code, bit for bit."""
    return code.detach() + (z - z.detach())


def rotated(z: Tensor, code: Tensor) -> Tensor:
    """d code / d z = (|c| / |z|) R, with R the rotation of z's direction to the code's (Fifty et al. 2024, equation 4).

    R = I - 2 r rᵀ + 2 ĉ ẑᵀ with ẑ, ĉ the directions and r that of their sum; all of it constant for the gradient.
    """
    with torch.no_grad():
        start, end = F.normalize(z, dim=1, eps=_TINY), F.normalize(code, dim=1, eps=_TINY)
        middle = F.normalize(start + end, dim=1, eps=_TINY)
        scale = code.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True).clamp_min(_TINY)
    turned = z - 2 * (z * middle).sum(1, keepdim=True) * middle + 2 * (z * start).sum(1, keepdim=True) * end
    return straight_through(scale * turned, code)


_TINY = 1e-6


class Agreement:
    """The agreement of a process with itself: what layers and quantizers hold until training hands them another.

    Training on several processes hands in its `World`, which sums over all of them.
    """

    @property
    def leads(self) -> bool:
        """Whether this process is the one whose own choice counts for all."""
        return True

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes; it may be computed in place."""
        return values
