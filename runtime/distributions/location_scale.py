"""Distributions of a location and a scale in each element."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from hvdsl.runtime.distributions.base import Distribution
from hvdsl.runtime.distributions.maps import MeanMap, ScaleMap, exp, identity
from hvdsl.runtime.ground.tensors import at_least_float32

_IDENTITY = identity()
_EXP = exp()


class LocationScale(Distribution):
    """z = μ + σ ε in each element, from parameters `(N, 2Z, H, W)`: Z means, then Z raw scales."""

    def __init__(self, params: Tensor, mean: MeanMap = _IDENTITY, scale: ScaleMap = _EXP) -> None:
        raw_mean, raw_scale = at_least_float32(params).chunk(2, dim=1)
        self.mean = mean(raw_mean)
        self._scale, self._log_scale = scale(raw_scale)

    @classmethod
    def of(cls, mean: Tensor, scale: Tensor | None = None, log_scale: Tensor | None = None) -> Self:
        """From a mean and a scale, or its logarithm, or both where both are at hand."""
        if scale is None and log_scale is None:
            raise ValueError("a distribution needs a scale or a log-scale")
        self = cls.__new__(cls)
        self.mean, self._scale, self._log_scale = mean, scale, log_scale
        return self

    @classmethod
    def standard(cls, shape: Sequence[int], device: torch.device | str | None = None) -> Self:
        """Mean 0 and scale 1 in every element of `shape`."""
        zeros = torch.zeros(tuple(shape), device=device)
        return cls.of(zeros, log_scale=zeros)

    def joined(self, other: Self, mean: Tensor, log_scale: Tensor) -> Self:
        """A distribution of this mean and scale, made of `self` and `other`."""
        return type(self).of(mean, log_scale=log_scale)

    @property
    def mode(self) -> Tensor:
        return self.mean

    @property
    def scale(self) -> Tensor:
        """σ"""
        if self._scale is None:
            self._scale = self.log_scale.exp()
        return self._scale

    @property
    def log_scale(self) -> Tensor:
        """log σ"""
        if self._log_scale is None:
            self._log_scale = self.scale.log()
        return self._log_scale

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """μ + t σ ε"""
        eps = self.standard_draw(noise)
        if temperature != 1:
            eps = temperature * eps
        return torch.addcmul(self.mean, self.scale, eps)

    @staticmethod
    @abstractmethod
    def standard_draw(noise: Tensor) -> Tensor:
        """ε, a draw of mean 0 and scale 1, from noise."""
