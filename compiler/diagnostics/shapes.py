"""HV05xx: shapes."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
from hvdsl.compiler.diagnostics.names import GOOD_GROUP
from hvdsl.grammar.diagnostics import Code

DOES_NOT_FIT = Code(
    "HV0501",
    "shapes or arguments that do not fit",
    "An operation cannot take tensors of these shapes, or these arguments. On tensors `+ - * /` work "
    "elementwise, and only 1x1 maps, single channels and numbers broadcast; `concat` joins maps of one size.",
    bad=spec(encoder="8: conv(3x3, 8) -> { h = conv(1x1, 4); x + h } -> tap"),
    good=spec(encoder="8: conv(3x3, 8) -> { h = conv(1x1, 8); x + h } -> tap"),
)
WRONG_NUMBER = Code(
    "HV0502",
    "a tuple of another length",
    "`a, b = f` takes a tuple apart into as many names as it has tensors.",
    bad=spec(encoder="8: { a, b, c = conv(3x3, 8) -> split(4, 4); a -> tap }"),
    good=spec(encoder="8: { a, b = conv(3x3, 8) -> split(4, 4); a -> tap }"),
)
PRIOR_AND_POSTERIOR = Code(
    "HV0503",
    "prior and posterior differ in shape",
    "Prior and posterior are distributions of the same latent. `normal(f)` takes half of the channels of `f` as means.",
    bad=spec(top=GOOD_GROUP.replace("conv(1x1, 8)", "conv(1x1, 4)")),
    good=spec(top=GOOD_GROUP),
)
NOT_AT_LABEL = Code(
    "HV0504",
    "a latent off its row's resolution",
    "Latents of a decoder row are at the resolution of its label.",
    bad=spec(
        top="group level { h = avg_pool(2) -> conv(1x1, 8); z ~ normal(h) posterior normal(h); x }",
        decoder="8: learned(zeros, 8) -> level -> conv(1x1, logits)",
    ),
    good=spec(top=GOOD_GROUP),
)
ROW_LABEL = Code(
    "HV0505",
    "a row that is not at its label",
    "An encoder row begins at the resolution that its label says, a decoder row ends at it.",
    bad=spec(encoder="8: conv(3x3, 8) -> tap -> avg_pool(2)\n  2: relu"),
    good=spec(encoder="8: conv(3x3, 8) -> tap -> avg_pool(2)\n  4: relu"),
)
ROW_ORDER = Code(
    "HV0506",
    "rows out of order",
    "Labels are unique in their section; they fall in the encoder and rise in the decoder.",
    bad=spec(encoder="4: conv(3x3, 8)\n  8: conv(3x3, 8) -> tap", data="1x4x4", decoder="4: learned(zeros, 8)"),
    good=spec(encoder="8: conv(3x3, 8) -> tap -> avg_pool(2)\n  4: conv(3x3, 8)"),
)
WRONG_OUTPUT = Code(
    "HV0507",
    "the decoder does not end as the likelihood needs it",
    "The last row ends with `logits` channels, as many as the likelihood's parameters, at the image's size.",
    bad=spec(top=GOOD_GROUP.replace("logits", "3")),
    good=spec(top=GOOD_GROUP),
)
_CODES = "8: { z ~ codebook(16, 4) posterior nearest_code(skip -> conv(1x1, 4)); z -> conv(1x1, logits) }"
WRONG_PRIOR = Code(
    "HV0508",
    "a prior that does not end with logits",
    "A second-stage prior ends with one channel for each code, at the grid of its latent.",
    bad=spec(decoder=_CODES, tail="prior z { shift(right = 1) -> conv(1x1, 8) }"),
    good=spec(decoder=_CODES, tail="prior z { shift(right = 1) -> conv(1x1, 16) }"),
)
NOT_CAUSAL = Code(
    "HV0509",
    "a prior that is not causal",
    "A second-stage prior gives the logits of each code from the codes before it in raster order: rows above, and in "
    "its own row what is to the left. The compiler proves this from the graph and names the step that sees too much. "
    "`hvdsl info` shows how much each prior sees.",
    bad=spec(decoder=_CODES, tail="prior z { conv(3x3, 8, mask = causal(all)) -> elu -> conv(1x1, 16) }"),
    good=spec(decoder=_CODES, tail="prior z { conv(3x3, 8, mask = causal(exclude)) -> elu -> conv(1x1, 16) }"),
)

ODD_SIZE = Code(
    "HV0510",
    "an odd size where it is halved",
    "Two ways of halving an odd size round it differently: a convolution of stride 2 makes 4 of 7, one that skips the "
    "first position makes 3. What joins both ways needs an even size in every row of the encoder that halves.",
    bad=spec(
        data="1x7x7",
        encoder="7: conv(3x3, 8) -> { concat(x -> conv(1x1, 8, stride = 2), x -> crop(left = 1, top = 1) "
        "-> conv(1x1, 8, stride = 2)) } -> tap",
        decoder="4: learned(zeros, 8) -> level\n  7: nearest(2) -> crop(left = 1, top = 1)",
    ),
    good=spec(
        data="1x8x8",
        encoder="8: conv(3x3, 8) -> { concat(x -> conv(1x1, 8, stride = 2), x -> crop(left = 1, top = 1) "
        "-> conv(1x1, 8, stride = 2)) } -> tap",
        decoder="4: learned(zeros, 8) -> level\n  8: nearest(2)",
    ),
)

CODES = (
    DOES_NOT_FIT,
    WRONG_NUMBER,
    PRIOR_AND_POSTERIOR,
    NOT_AT_LABEL,
    ROW_LABEL,
    ROW_ORDER,
    WRONG_OUTPUT,
    WRONG_PRIOR,
    NOT_CAUSAL,
    ODD_SIZE,
)
