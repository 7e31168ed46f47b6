"""HV032x: flows after a posterior."""

from __future__ import annotations

from hvdsl.compiler.diagnostics.examples import spec
from hvdsl.grammar.diagnostics import Code

_LEVEL = """
cell flow { iaf(shift) { %s } }
group level {
  z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8)) -> %s
  z -> conv(1x1, logits)
}"""
_CAUSAL = "conv(3x3, 8, mask = causal(before)) -> elu -> conv(1x1, 4, mask = causal(upto))"
_CODES = """
cell flow { iaf(shift) { %s } }
group level {
  z ~ codebook(16, 4) posterior nearest_code(skip -> conv(1x1, 4))%s
  z -> conv(1x1, logits)
}"""

NOT_AUTOREGRESSIVE = Code(
    "HV0320",
    "a flow that is not autoregressive",
    "What `iaf` subtracts from an element of z, or scales it by, may depend on earlier elements only: on positions "
    "before its own in raster order (after it, if every mask is mirrored), and at its own on earlier channels. Only "
    "then is the Jacobian triangular and the log-determinant what the rate counts. The masks of the convolutions "
    "prove it.",
    bad=spec(top=_LEVEL % (_CAUSAL.replace("before", "upto"), "flow")),
    good=spec(top=_LEVEL % (_CAUSAL, "flow")),
)
NO_LOG_DETERMINANT = Code(
    "HV0321",
    "a step after a posterior that is no flow",
    "The steps after a posterior transform its sample, and the rate needs the log-determinant of each. `iaf` has one; "
    "any other operation belongs inside its block.",
    bad=spec(top=_LEVEL % (_CAUSAL, "flow -> relu")),
    good=spec(top=_LEVEL % (_CAUSAL, "flow")),
)
FLOW_OF_CODES = Code(
    "HV0322",
    "a flow on a discrete latent",
    "A flow moves a density continuously. The value of a discrete latent is one of a few codes: there is nothing to "
    "move.",
    bad=spec(top=_CODES % (_CAUSAL, " -> flow")),
    good=spec(top=_CODES % (_CAUSAL, "")),
)

CODES = (NOT_AUTOREGRESSIVE, NO_LOG_DETERMINANT, FLOW_OF_CODES)
