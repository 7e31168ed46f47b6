"""HV09xx: legal, and probably not what was meant."""

from __future__ import annotations

from hvdsl.compiler.diagnostics.examples import spec
from hvdsl.grammar.diagnostics import Code, Severity

BIAS_BEFORE_BATCH_NORM = Code(
    "HV0901",
    "a bias before batch normalisation",
    "Batch normalisation subtracts the mean, and the bias with it. Its gradient is zero up to rounding, "
    "which adaptive optimisers turn into full steps: runs that should agree drift apart. `bias = yes`, said in so many "
    "words, keeps it without a warning, as a model that is published with it needs.",
    bad=spec(encoder="8: conv(3x3, 8) -> batch_norm -> tap"),
    good=spec(encoder="8: conv(3x3, 8, bias = no) -> batch_norm -> tap"),
    severity=Severity.WARNING,
)
FLOW_IN_CONDITIONAL = Code(
    "HV0902",
    "a flow around a conditional",
    "`->` binds more loosely than `if … else`, so what follows the conditional applies to both branches. "
    "Parentheses say which is meant.",
    bad=spec(encoder="8: conv(3x3, 8) -> relu if res > 4 else elu -> tap"),
    good=spec(encoder="8: conv(3x3, 8) -> (relu if res > 4 else elu) -> tap"),
    severity=Severity.WARNING,
)

CODES = (
    BIAS_BEFORE_BATCH_NORM,
    FLOW_IN_CONDITIONAL,
)
