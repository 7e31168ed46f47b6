"""HV09xx: legal, and probably not what was meant."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
from hvdsl.grammar.diagnostics import Code, Severity

BIAS_BEFORE_BATCH_NORM = Code(
    "HV0901",
    "a bias before batch normalisation",
    "Batch normalisation subtracts the mean, and the bias with it. Its gradient is zero up to rounding, "
    "which adaptive optimisers turn into full steps: runs that should agree drift apart. An explicit `bias = yes` "
    "keeps the bias without a warning, for models that were published with it.",
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
UNREAD_DEFINITION = Code(
    "HV0903",
    "a definition that nothing uses",
    "A `let`, cell, group or shared instance of the top level that neither the spec nor one of its variants mentions. "
    "Its names and shapes are checked all the same: a mistake that no input could mend is an error. Definitions that "
    "`use` brings in may stay unused; a `needs default` of that file that none of its recipes takes is reported.",
    bad=spec(top="cell block { relu }"),
    good=spec(top="cell block { relu }", encoder="8: conv(3x3, 8) -> block -> tap"),
    severity=Severity.WARNING,
)
UNREAD_BINDING = Code(
    "HV0904",
    "a name that nothing reads",
    "A binding that is never read has no effect, and its parameters are never trained. `_` discards on purpose.",
    bad=spec(encoder="8: { h = conv(3x3, 8)\n conv(3x3, 8) -> tap }"),
    good=spec(encoder="8: { h = conv(3x3, 8)\n h -> tap }"),
    severity=Severity.WARNING,
)
UNREAD_VALUE = Code(
    "HV0905",
    "a value that reaches nothing",
    "A value that reaches neither the output nor a latent, or only as a product with 0, has no effect, and its "
    "parameters get no gradient. There is no warning if another instance of the same text has an effect, such as with "
    "the last of an encoder's repeated cells, after which nothing is tapped.",
    bad=spec(encoder="8: conv(3x3, 8) -> tap -> conv(3x3, 8)"),
    good=spec(encoder="8: conv(3x3, 8) -> conv(3x3, 8) -> tap"),
    severity=Severity.WARNING,
)
UNREAD_LATENT = Code(
    "HV0906",
    "a latent that nothing reads",
    "A latent that does not reach the output costs its rate and carries nothing: its posterior learns to be the prior. "
    "One that is only `given` to a second-stage prior is read.",
    bad=spec(
        top="group level { u ~ normal(standard(2)) posterior normal(skip -> conv(1x1, 4))\n"
        "z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8))\nz -> conv(1x1, logits) }"
    ),
    good=spec(
        top="group level { u ~ normal(standard(2)) posterior normal(skip -> conv(1x1, 4))\n"
        "z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8))\nconcat(z, u) -> conv(1x1, logits) }"
    ),
    severity=Severity.WARNING,
)
BLIND_POSTERIOR = Code(
    "HV0907",
    "a posterior that does not see the image",
    "A posterior that does not see the image knows no more than the prior, so it cannot be better: the "
    "rate goes to 0 and the latent is noise. This may be intended: a generator may want noise.",
    bad=spec(
        top="group level { z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8))\n"
        "u ~ normal(standard(2)) posterior normal(z -> conv(1x1, 4))\nconcat(z, u) -> conv(1x1, logits) }"
    ),
    good=spec(
        top="group level { z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8))\n"
        "u ~ normal(standard(2)) posterior normal(concat(z, skip) -> conv(1x1, 4))\nconcat(z, u) -> conv(1x1, logits) }"
    ),
    severity=Severity.WARNING,
)
LARGE_INPUT = Code(
    "HV0908",
    "an encoder that gets large numbers",
    "Networks are initialised for inputs of about 1. Raw pixels up to 255 saturate what they meet first, and a deep "
    "hierarchy diverges at its first step. `input` says what the encoder receives.",
    bad=spec().replace("bits = 4, input = v, binarize = threshold", "bits = 8, input = v, target = v / 255"),
    good=spec().replace(
        "bits = 4, input = v, binarize = threshold", "bits = 8, input = v / 127.5 - 1, target = v / 255"
    ),
    severity=Severity.WARNING,
)
UNTRAINED_PRIOR = Code(
    "HV0909",
    "a prior that nothing trains",
    "Parts that only a prior reads are trained by the rate alone. Without a weight on the rate the model reconstructs, "
    "but draws samples from a prior that was never trained.",
    bad=spec().replace("nats_per_image", "nats_per_image, beta = 0"),
    good=spec().replace("nats_per_image", "nats_per_image, beta = 0.1"),
    severity=Severity.WARNING,
)
STILL_NORM = Code(
    "HV0912",
    "batch normalisation of what never varies",
    "A learned 1x1 map is the same for every image, so that its mean over the batch is itself: only the bias is left. "
    "Neither the gain nor anything before it gets a gradient.",
    bad=spec(
        top="group level { z ~ normal(conv(1x1, 8)) posterior normal(skip -> conv(1x1, 8))\nx + (z -> conv(1x1, 8)) }",
        encoder="8: conv(3x3, 8) -> avg_pool(8)\n 1: tap",
        decoder="1: learned(zeros, 8) -> batch_norm -> level\n 8: nearest(8) -> conv(1x1, logits)",
    ),
    good=spec(
        top="group level { z ~ normal(conv(1x1, 8)) posterior normal(skip -> conv(1x1, 8))\nx + (z -> conv(1x1, 8)) }",
        encoder="8: conv(3x3, 8) -> avg_pool(8)\n 1: tap",
        decoder="1: learned(zeros, 8) -> level -> batch_norm\n 8: nearest(8) -> conv(1x1, logits)",
    ),
    severity=Severity.WARNING,
)
UNCHECKED_VARIANTS = Code(
    "HV0913",
    "variants that were not checked",
    "`hvdsl check` checks each variant of a spec alone, for up to 16 variants. If there are more, a variant is "
    "checked where it is chosen: `hvdsl check model.hv@NAME`.",
    bad="",  # said by `hvdsl check` alone, of a spec in which nothing need be wrong
    good="",
    severity=Severity.WARNING,
)
VARIANT_OVER_ANOTHER = Code(
    "HV0914",
    "a variant that is wrong alone",
    "`hvdsl check` checks each variant of a spec alone. One that is invalid alone but valid over another variant of "
    "the spec is probably meant for use over it: `model.hv@wide@deep` is `deep` over `wide`. Chosen alone it is an "
    "error. `# hv: allow HV0914` at the end of the line that is shown says that this is intended.",
    bad="",  # said by `hvdsl check` alone, of a spec in which nothing need be wrong
    good="",
    severity=Severity.WARNING,
)

CODES = (
    BIAS_BEFORE_BATCH_NORM,
    FLOW_IN_CONDITIONAL,
    UNREAD_DEFINITION,
    UNREAD_BINDING,
    UNREAD_VALUE,
    UNREAD_LATENT,
    BLIND_POSTERIOR,
    LARGE_INPUT,
    UNTRAINED_PRIOR,
    STILL_NORM,
    UNCHECKED_VARIANTS,
    VARIANT_OVER_ANOTHER,
)
