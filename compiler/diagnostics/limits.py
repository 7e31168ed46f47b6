"""HV071x: limits on what a spec expands to; those on its text are HV070x."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
from hvdsl.grammar.diagnostics import Code

TOO_MANY_NODES = Code(
    "HV0711",
    "too many operations",
    "A spec may expand to at most 20,000 operations, or as many as the environment variable "
    "`HVDSL_MOST_OPERATIONS` says. Published models have some thousands.",
    bad=spec(top="cell many { relu * 9_999 }", encoder="8: conv(3x3, 8) -> many * 100 -> tap"),
    good=spec(top="cell many { relu * 10 }", encoder="8: conv(3x3, 8) -> many * 10 -> tap"),
)
REPEATED_TOO_OFTEN = Code(
    "HV0712",
    "repeated too often",
    "A step may be repeated at most 10,000 times in one place.",
    bad=spec(encoder="8: conv(3x3, 8) -> relu * 1_000_000 -> tap"),
    good=spec(encoder="8: conv(3x3, 8) -> relu * 10 -> tap"),
)
NESTED_TOO_DEEP = Code(
    "HV0713",
    "nested too deep",
    "Recipes that use recipes, blocks within blocks and `let`s made of `let`s may be nested up to a depth of 100.",
    bad=spec(
        top="cell twice(f) { f }\n"
        + "let a0 = relu\n"
        + "\n".join(f"let a{i + 1} = a{i} -> identity" for i in range(100)),
        encoder="8: conv(3x3, 8) -> a100 -> tap",
    ),
    good=spec(top="let a0 = relu\nlet a1 = a0 -> identity", encoder="8: conv(3x3, 8) -> a1 -> tap"),
)
TENSOR_TOO_LARGE = Code(
    "HV0714",
    "a tensor of unreasonable size",
    "One tensor, or one parameter, may hold at most 2^48 numbers.",
    bad=spec(encoder="8: conv(3x3, 1_000_000_000_000_000) -> tap"),
    good=spec(encoder="8: conv(3x3, 16) -> tap"),
)
TOO_MUCH_WORK = Code(
    "HV0715",
    "the spec takes too long to expand",
    "Expanding a spec may take at most 20 evaluations for each operation it may have "
    "(HV0711), 400,000 by default; recipes that call each other many times "
    "over, without placing anything, reach that.",
    bad=spec(
        top="cell a0 { x }\n" + "\n".join(f"cell a{i + 1} {{ a{i} * 60 }}" for i in range(6)),
        encoder="8: conv(3x3, 8) -> a6 -> tap",
    ),
    good=spec(top="cell a0 { x }\ncell a1 { a0 * 8 }", encoder="8: conv(3x3, 8) -> a1 -> tap"),
)
LIST_TOO_LARGE = Code(
    "HV0716",
    "a list of unreasonable size",
    "A list or tuple may hold 10,000 values, those of the lists within it counted: lists of lists double quickly.",
    bad=spec(
        top="let a0 = [1, 2]\n" + "\n".join(f"let a{i + 1} = [a{i}, a{i}]" for i in range(20)),
        encoder="8: conv(3x3, 8 if a20 == a19 else 4) -> tap",
    ),
    good=spec(top="let a0 = [1, 2]\nlet a1 = [a0, a0]", encoder="8: conv(3x3, 8 if a1 == a0 else 4) -> tap"),
)

CODES = (
    TOO_MANY_NODES,
    REPEATED_TOO_OFTEN,
    NESTED_TOO_DEEP,
    TENSOR_TOO_LARGE,
    TOO_MUCH_WORK,
    LIST_TOO_LARGE,
)
