"""HV08xx: what cannot be emitted or run."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
from hvdsl.grammar.diagnostics import Code

_PRIOR = """
group level {
  z ~ codebook(16, 4) posterior nearest_code(skip -> conv(1x1, 4))
  z -> conv(1x1, logits)
}
prior z { %s -> conv(1x1, 16) }"""

_SHARED = """
shared part = { %s }
cell down { avg_pool(2) -> conv(1x1, 8) }
group level {
  z ~ normal(standard(4)) posterior normal(skip -> part -> down -> part -> nearest(2) -> conv(1x1, 8))
  z -> conv(1x1, logits)
}"""

NO_STEPWISE_FORM = Code(
    "HV0801",
    "a prior that cannot be sampled position by position",
    "A second-stage prior is sampled code by code: each step computes one position from what it keeps of those before. "
    "That form is derived for convolutions, elementwise steps and causal attention, not for maps of parameters, nor "
    "for steps that look at the whole map or are known only after the code at their own position.",
    bad=spec(top=_PRIOR % "conv(3x3, 8, mask = causal(exclude)) -> add(learned(zeros))"),
    good=spec(top=_PRIOR % "conv(3x3, 8, mask = causal(exclude)) -> affine"),
)
UNKNOWN_PASS = Code(
    "HV0802",
    "an unknown optimisation pass",
    "Passes are switched by name. `hvdsl compile --help` lists them; without names, the optimisation level chooses.",
    bad="",  # no spec is wrong: the command line or the call is
    good="",
)
UNKNOWN_LEVEL = Code(
    "HV0804",
    "an unknown optimisation level",
    "Level 0 computes operation by operation what the spec says. Level 1, the default, applies rewrites that keep the "
    "mathematics and every parameter's name. Level 2 has the source of level 1; where the module is built, the recipes "
    "that it repeats go through `torch.compile`.",
    bad="",  # no spec is wrong: the command line or the call is
    good="",
)

USES_DIFFER = Code(
    "HV0805",
    "a shared instance that differs from use to use",
    "A `shared` instance becomes one module that is called wherever the spec uses it, so that it must compute the same "
    "at each use: no number in it may come from the place of its use.",
    bad=spec(top=_SHARED % "avg_pool(res // 4) -> nearest(res // 4)"),
    good=spec(top=_SHARED % "avg_pool(2) -> nearest(2)"),
)

CODES = (NO_STEPWISE_FORM, UNKNOWN_PASS, UNKNOWN_LEVEL, USES_DIFFER)
