"""HV09xx: legal, and probably not what was meant."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
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
UNREAD_DEFINITION = Code(
    "HV0903",
    "a definition that nothing uses",
    "A `let`, cell, group or shared instance of the top level that neither the spec nor one of its variants mentions. "
    "Its names and shapes are checked all the same: what no input could mend is an error. "
    "What a used file brings along need not be used; a `needs default` of it that none of its recipes takes is told.",
    bad=spec(top="cell block { relu }"),
    good=spec(top="cell block { relu }", encoder="8: conv(3x3, 8) -> block -> tap"),
    severity=Severity.WARNING,
)
UNREAD_BINDING = Code(
    "HV0904",
    "a name that nothing reads",
    "What is bound and not read is computed for nobody, and its parameters are never trained. `_` discards on purpose.",
    bad=spec(encoder="8: { h = conv(3x3, 8)\n conv(3x3, 8) -> tap }"),
    good=spec(encoder="8: { h = conv(3x3, 8)\n h -> tap }"),
    severity=Severity.WARNING,
)
UNREAD_VALUE = Code(
    "HV0905",
    "a value that reaches nothing",
    "What reaches neither the output nor a latent, or only as a product with 0, has no effect, and its parameters get "
    "no gradient. Not said of text of which another instance counts, such as the last of an encoder's cells, above "
    "which nothing is tapped.",
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
    "What a posterior is made of but for the image the prior has too, so that it cannot be better than the prior: the "
    "rate goes to 0 and the latent is noise. It may be meant: a generator may want noise.",
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
    "Only its rate trains what a prior alone is made of. Without a weight on the rate the model reconstructs, and "
    "draws samples from a prior that was never trained.",
    bad=spec().replace("nats_per_image", "nats_per_image, beta = 0"),
    good=spec().replace("nats_per_image", "nats_per_image, beta = 0.1"),
    severity=Severity.WARNING,
)
STILL_NORM = Code(
    "HV0912",
    "batch normalisation of what never varies",
    "A learned 1x1 map is alike in every image, so that its mean over the batch is itself: what is left is the bias. "
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
    "`hvdsl check` lays each variant of a spec over it, alone, and tells what is wrong then. It does so with up to 16 "
    "variants; of more, each is checked where it is chosen: `hvdsl check model.hv@NAME`.",
    bad="",  # said by `hvdsl check` alone, of a spec in which nothing need be wrong
    good="",
    severity=Severity.WARNING,
)
VARIANT_OVER_ANOTHER = Code(
    "HV0914",
    "a variant that is wrong alone",
    "`hvdsl check` lays each variant of a spec over it, alone. One that is wrong so, but right when it is laid over "
    "another variant of the spec, is meant to be: `model.hv@wide@deep` is `deep` over `wide`. Chosen alone it is an "
    "error. `# hv: allow HV0914` behind the line that is shown says that it is meant so.",
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
