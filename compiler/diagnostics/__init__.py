"""Every diagnostic code, one module per hundred; each exports `CODES`, `spec` writes their examples."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from hvdsl.grammar.diagnostics import Code


@cache
def all_codes() -> Mapping[str, Code]:
    """Return every code by its id, the grammar's too. The modules are imported on the first call."""
    modules = ["hvdsl.grammar.diagnostic_codes", *(f"{__name__}.{m.name}" for m in iter_modules(__path__))]
    codes: dict[str, Code] = {}
    for name in modules:
        for code in getattr(import_module(name), "CODES", ()):
            if codes.setdefault(code.id, code) is not code:
                raise RuntimeError(f"two codes are called {code.id}")
    return MappingProxyType(dict(sorted(codes.items())))


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
