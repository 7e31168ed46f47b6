"""The whole spec around the few lines that a diagnostic code's example is about."""

from __future__ import annotations


def spec(
    *,
    top: str = "",
    encoder: str = "8: conv(3x3, 8) -> tap",
    decoder: str = "8: learned(zeros, 8) -> level",
    data: str = "1x8x8",
    tail: str = "",
) -> str:
    """Return a small model; `top` may define `group level` anew, the one group that draws a latent."""
    level = "" if " level " in top or "level" not in decoder else LEVEL
    return f"""hv 1
model small
data digits {{ shape = {data}, bits = 4, input = v, binarize = threshold }}
{top}{level}
encoder {{
  {encoder}
}}
decoder {{
  {decoder}
}}
likelihood bernoulli
objective {{ unit = nats_per_image }}
{tail}"""


LEVEL = """
group level {
  z ~ normal(conv(1x1, 8)) posterior normal(skip -> conv(1x1, 8))
  z -> conv(1x1, logits)
}"""
