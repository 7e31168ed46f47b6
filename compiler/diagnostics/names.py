"""HV03xx: names, taps and latents."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
from hvdsl.grammar.diagnostics import Code, Severity

Z = "z ~ normal(standard(4)) posterior normal(skip -> conv(1x1, 8))"
OUT = "z -> conv(1x1, logits)"
DRAW = f"group draw {{ {Z}; x + (z -> conv(1x1, channels)) }}"
GOOD_GROUP = f"group level {{ {Z}; {OUT} }}"

UNKNOWN_NAME = Code(
    "HV0301",
    "unknown name",
    "A name is a binding or parameter of the recipe that it stands in, something of the top level, a "
    "context name or an operation. A cell or group does not see the names of the place that uses it: hand "
    "them over as parameters.",
    bad=spec(encoder="8: convv(3x3, 8) -> tap"),
    good=spec(encoder="8: conv(3x3, 8) -> tap"),
)
RESERVED_NAME = Code(
    "HV0302",
    "a name of the language",
    "Operations, context names (`channels`, `res`, `count`, …) and keywords mean the same everywhere, so no "
    "spec can redefine them.",
    bad=spec(top="let conv = 3"),
    good=spec(top="let kernel_size = 3"),
)
RECURSION = Code(
    "HV0303",
    "a recipe that uses itself",
    "Recipes are expanded where they are used, so a recipe cannot, even by way of others, use itself.",
    bad=spec(top="cell a { b }\ncell b { relu -> a }", encoder="8: conv(3x3, 8) -> a -> tap"),
    good=spec(top="cell a { b }\ncell b { relu }", encoder="8: conv(3x3, 8) -> a -> tap"),
)
NO_SECTION = Code(
    "HV0304",
    "a section without rows",
    "A model has an encoder and a decoder, each with at least one row.",
    bad=spec(top="cell level { relu }", encoder="let a = 3", decoder="let b = 3"),
    good=spec(),
)
NOTHING_FLOWS = Code(
    "HV0305",
    "nothing to start from",
    "A flow that begins with a step starts from `x`, what flowed in. Nothing flows into the first row of a "
    "decoder, nor into its braces: start there with a source, such as `learned(zeros, 8)`, or with a latent.",
    bad=spec(decoder="8: relu -> level"),
    good=spec(decoder="8: learned(zeros, 8) -> relu -> level"),
)
NO_CONTEXT = Code(
    "HV0306",
    "a context name that says nothing here",
    "`channels` and `res` describe the incoming tensor, `index` and `count` a recipe, `label` the data's classes.",
    bad=spec(decoder="8: learned(zeros, channels) -> level"),
    good=spec(decoder="8: learned(zeros, 8) -> level"),
)
NOTHING_TO_READ = Code(
    "HV0307",
    "no encoder feature to read",
    "`skip` reads what the encoder taps at the resolution of the decoder's row, `skip(name)` what it taps "
    "by that name.",
    bad=spec(encoder="8: conv(3x3, 8) -> tap(up)"),
    good=spec(encoder="8: conv(3x3, 8) -> tap"),
)
TAPS_AND_READERS = Code(
    "HV0308",
    "taps and readers do not match",
    "One tap is shared by all its readers; as many taps as readers are read in reverse order, the last one "
    "first. Any other number is an error. An instance of a recipe reads once, however often it says `skip`.",
    bad=spec(
        top=DRAW,
        encoder="8: conv(3x3, 8) -> (relu -> tap) * 2",
        decoder="8: learned(zeros, 8) -> draw * 3 -> level",
    ),
    good=spec(
        top=DRAW,
        encoder="8: conv(3x3, 8) -> relu * 2 -> tap",
        decoder="8: learned(zeros, 8) -> draw * 3 -> level",
    ),
)
UNREAD_TAP = Code(
    "HV0309",
    "a tap that nothing reads",
    "What the encoder publishes and the decoder does not read has no effect.",
    bad=spec(encoder="8: conv(3x3, 8) -> tap -> tap(more)"),
    good=spec(encoder="8: conv(3x3, 8) -> tap"),
    severity=Severity.WARNING,
)
LEAK = Code(
    "HV0310",
    "an encoder feature bypasses the latents",
    "Generation has no encoder. What `skip` reads may therefore reach the output, or a prior, only through a latent.",
    bad=spec(
        top="group level { s = skip; z ~ normal(standard(4)) posterior normal(s -> conv(1x1, 8)); "
        "concat(z, s) -> conv(1x1, logits) }"
    ),
    good=spec(top=GOOD_GROUP),
)
NO_POSTERIOR = Code(
    "HV0311",
    "a latent without a posterior",
    "Training draws every latent from its posterior; without one it could not be trained.",
    bad=spec(top="group level { z ~ normal(standard(4)); z -> conv(1x1, logits) }"),
    good=spec(top=GOOD_GROUP),
)
MISPLACED = Code(
    "HV0312",
    "not in this place",
    "`~` stands in groups and rows, `skip` in groups and rows of the decoder, `tap` in the encoder. A cell "
    "only computes: write `group` for a recipe that draws or reads.",
    bad=spec(top=GOOD_GROUP.replace("group", "cell")),
    good=spec(top=GOOD_GROUP),
)
FLOW_OF_PRIOR = Code(
    "HV0313",
    "a distribution that flows",
    "Only a posterior may be followed by steps, `posterior D -> step`: they transform its sample. A prior "
    "stands by itself.",
    bad=spec(top=GOOD_GROUP.replace("standard(4))", "standard(4)) -> relu")),
    good=spec(top=GOOD_GROUP),
)
NOT_A_DISCRETE_LATENT = Code(
    "HV0314",
    "no codes to model",
    "`prior z` is the second-stage model of a discrete latent (`codebook`, `categorical`, `finite_scalar`) "
    "that the decoder draws in exactly one place.",
    bad=spec(tail="prior z { conv(1x1, 4) }"),
    good=spec(),
)
NAMED_TWICE = Code(
    "HV0315",
    "a binding named as a recipe beside it",
    "Parameters are called after the bindings and recipes that hold them. A binding "
    "with the name of a recipe used in the same place would give two things one name.",
    bad=spec(top="cell f { conv(1x1, 8) }", encoder="8: { conv(3x3, 8) -> f\n f = conv(1x1, 8)\n f -> tap }"),
    good=spec(top="cell f { conv(1x1, 8) }", encoder="8: { conv(3x3, 8) -> f\n h = conv(1x1, 8)\n h -> tap }"),
)
PRIORS_IN_A_CIRCLE = Code(
    "HV0316",
    "priors given each other",
    "Priors are sampled one after the other, each after those it is given. If priors are given each other, none can "
    "be the first.",
    bad=spec(tail="prior a given b { conv(1x1, 4) }\nprior b given a { conv(1x1, 4) }"),
    good=spec(),
)
BLIND_HIERARCHY = Code(
    "HV0317",
    "no posterior sees the image",
    "Only posteriors carry an image into its latents. If none of them depends on what the encoder taps, the "
    "model learns one distribution for all images.",
    bad=spec(top="group level { z ~ normal(standard(4)) posterior normal(learned(zeros, 8)); z -> conv(1x1, logits) }"),
    good=spec(top=GOOD_GROUP),
)
NO_LATENT_REACHES = Code(
    "HV0318",
    "an output that no latent reaches",
    "The decoder draws its latents and computes the output without them: every image would come out the same.",
    bad=spec(top=f"group level {{ {Z}; learned(zeros, 8) -> conv(1x1, logits) }}"),
    good=spec(top=GOOD_GROUP),
)


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

CODES = (
    UNKNOWN_NAME,
    RESERVED_NAME,
    RECURSION,
    NO_SECTION,
    NOTHING_FLOWS,
    NO_CONTEXT,
    NOTHING_TO_READ,
    TAPS_AND_READERS,
    UNREAD_TAP,
    LEAK,
    NO_POSTERIOR,
    MISPLACED,
    FLOW_OF_PRIOR,
    NOT_A_DISCRETE_LATENT,
    NAMED_TWICE,
    PRIORS_IN_A_CIRCLE,
    BLIND_HIERARCHY,
    NO_LATENT_REACHES,
    NOT_AUTOREGRESSIVE,
    NO_LOG_DETERMINANT,
    FLOW_OF_CODES,
)
