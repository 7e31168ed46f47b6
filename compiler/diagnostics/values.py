"""HV04xx: values and arguments."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
from hvdsl.grammar.diagnostics import Code

WRONG_KIND = Code(
    "HV0401",
    "a value of the wrong kind",
    "An expression gives one kind of value (a number, a tensor, a step, …) where another is needed. "
    "Arithmetic takes numbers or tensors, a condition takes `yes` or `no`, and what stands after `->` is a "
    "step.",
    bad=spec(top="let width = yes + 1", encoder="8: conv(3x3, width) -> tap"),
    good=spec(top="let width = 7 + 1", encoder="8: conv(3x3, width) -> tap"),
)
NOT_AN_INTEGER = Code(
    "HV0402",
    "not a whole number",
    "Channels, kernels, repeats and their like are whole numbers. A division that leaves a remainder is "
    "never rounded silently: write `//` to round down on purpose.",
    bad=spec(top="let width = 15", encoder="8: conv(3x3, width / 2) -> tap"),
    good=spec(top="let width = 15", encoder="8: conv(3x3, width // 2) -> tap"),
)
NOT_A_NUMBER = Code(
    "HV0403",
    "arithmetic without a result",
    "Division by zero, the root of a negative number and numbers too large to compute with have no value.",
    bad=spec(top="let width = 8 / 0", encoder="8: conv(3x3, width) -> tap"),
    good=spec(top="let width = 8 / 1", encoder="8: conv(3x3, width) -> tap"),
)
NO_SUCH_ITEM = Code(
    "HV0404",
    "no such entry",
    "`w[key]` reads the entry of a map with that key, or of a list, tuple or shape with that position, from "
    "0. A map without an `else` has nothing for other keys.",
    bad=spec(top="let w = [16: 4, 4: 8]", encoder="8: conv(3x3, w[8]) -> tap"),
    good=spec(top="let w = [16: 4, else: 8]", encoder="8: conv(3x3, w[8]) -> tap"),
)
CIRCULAR_LET = Code(
    "HV0405",
    "a value defined by itself",
    "A `let` may use other `let`s, in any order, but never, even by way of others, itself.",
    bad=spec(top="let a = b\nlet b = a", encoder="8: conv(3x3, a) -> tap"),
    good=spec(top="let a = b\nlet b = 8", encoder="8: conv(3x3, a) -> tap"),
)
NOT_CONSTANT = Code(
    "HV0406",
    "not a constant",
    "Settings, row labels and the likelihood are fixed before anything is built: numbers, words, strings, "
    "shapes, tuples and calls of words. Steps, blocks and tensors have no place in them.",
    bad=spec(encoder="{ relu }: conv(3x3, 8) -> tap"),
    good=spec(encoder="8: conv(3x3, 8) -> tap"),
)
WRONG_ARGUMENTS = Code(
    "HV0407",
    "arguments that do not belong",
    "Operations and recipes take the arguments that they declare, by position or by name, each once; what "
    "has no default must be given.",
    bad=spec(encoder="8: conv(3x3) -> tap"),
    good=spec(encoder="8: conv(3x3, 8) -> tap"),
)
NEGATIVE_REPEAT = Code(
    "HV0408",
    "a negative number of repeats",
    "A step is repeated 0 or more times; repeated 0 times it changes nothing.",
    bad=spec(top="let n = 3", encoder="8: conv(3x3, 8) -> relu * (n - 5) -> tap"),
    good=spec(top="let n = 3", encoder="8: conv(3x3, 8) -> relu * (n - 3) -> tap"),
)
COUNT_IN_SHAPE = Code(
    "HV0409",
    "`count` or `latents` where something is decided",
    "`count` and `latents` are known only when everything is placed. They may scale numbers and initial "
    "values; they cannot say how many channels, how often, or which branch.",
    bad=spec(top="cell block { conv(3x3, 8 * count) }", encoder="8: block -> tap"),
    good=spec(top="cell block { conv(3x3, 8, init = scaled(1 / sqrt(count))) }", encoder="8: block -> tap"),
)
OBLONG = Code(
    "HV0410",
    "`res` of an oblong map",
    "`res` is the side of a square map. An oblong map has two sides, so `res` has no value there.",
    bad=spec(encoder="8x4: conv(3x3, res) -> tap", data="1x8x4", decoder="8x4: learned(zeros, 8) -> level"),
    good=spec(encoder="8x4: conv(3x3, width_px) -> tap", data="1x8x4", decoder="8x4: learned(zeros, 8) -> level"),
)

CODES = (
    WRONG_KIND,
    NOT_AN_INTEGER,
    NOT_A_NUMBER,
    NO_SUCH_ITEM,
    CIRCULAR_LET,
    NOT_CONSTANT,
    WRONG_ARGUMENTS,
    NEGATIVE_REPEAT,
    COUNT_IN_SHAPE,
    OBLONG,
)
