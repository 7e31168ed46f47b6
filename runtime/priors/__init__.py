"""Autoregressive priors over codes: what they are to the runtime, how they are trained and sampled."""

from hvdsl.runtime.priors.protocol import CodeMap

__all__ = ["CodeMap"]
