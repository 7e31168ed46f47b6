"""A small spec whose encoder has a place for what a pass rewrites."""

from __future__ import annotations

from hvdsl.grammar.source import Source

FRAME = """hv 1
model m
data digits {{ shape = 3x8x8, bits = 4, input = v / 7.5 - 1 }}
{cells}
encoder {{ 8: conv(3x3, 4) -> {body} -> tap }}
decoder {{
  8: learned(zeros, 4) -> {{ z ~ normal(conv(1x1, 4)) posterior normal(skip -> conv(1x1, 4)); x + (z -> conv(1x1, 4)) }}
  -> conv(1x1, logits)
}}
likelihood discretized_logistic_mixture(2)
objective {{ unit = nats_per_dim }}
"""


def source(body: str, cells: str = "") -> Source:
    """The spec with `body` in its encoder, and recipes."""
    return Source("m.hv", FRAME.format(body=body, cells=cells))
