"""What `+ - * /` and unary minus on tensors become.

Two tensors: `add`, `sub`, `mul`, `div`, inputs (left, right). A tensor and a number: `add_number` (x + n),
`sub_number` (x - n), `number_sub` (n - x), `mul_number` (n x), `div_number` (x / n), `number_div` (n / x),
input x, argument `number`. `add` is also a step (`joins.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hvdsl.compiler.catalogue.joins import ADD
from hvdsl.compiler.catalogue.rules import broadcast, same_shape, template
from hvdsl.compiler.catalogue.table import Argument, ArgumentType, Locality, Operation, OperationKind, Saves

NUMBER = (Argument("number", ArgumentType.NUMBER),)


def _pair(name: str, summary: str, operator: str, glyph: str, saves: Saves = Saves.NOTHING) -> Operation:
    return Operation(
        name,
        OperationKind.INTERNAL,
        summary,
        (),
        broadcast,
        saves=saves,
        expression=template(f"({{0}}) {operator} ({{1}})"),
        locality=Locality.ELEMENT,
        linear=operator == "-",
        glyph=glyph,
    )


def _with_number(
    name: str, summary: str, text: str, glyph: str | None, saves: Saves = Saves.NOTHING, *, linear: bool = True
) -> Operation:
    return Operation(
        name,
        OperationKind.INTERNAL,
        summary,
        NUMBER,
        same_shape,
        saves=saves,
        expression=template(text),
        locality=Locality.ELEMENT,
        linear=linear,
        glyph=glyph,
    )


SUB = _pair("sub", "Difference of two tensors.", "-", "−")
MUL = _pair("mul", "Product of two tensors.", "*", "×", Saves.INPUTS)
DIV = _pair("div", "Quotient of two tensors.", "/", "÷", Saves.INPUTS)
NEG = Operation(
    "neg",
    OperationKind.INTERNAL,
    "Minus a tensor.",
    (),
    same_shape,
    expression=template("-({0})"),
    locality=Locality.ELEMENT,
    linear=True,
)
ADD_NUMBER = _with_number("add_number", "A tensor plus a number.", "({0}) + {number}", "shift")
SUB_NUMBER = _with_number("sub_number", "A tensor minus a number.", "({0}) - {number}", "shift")
NUMBER_SUB = _with_number("number_sub", "A number minus a tensor.", "{number} - ({0})", "−")
MUL_NUMBER = _with_number("mul_number", "A number times a tensor.", "{number} * ({0})", "scale")
DIV_NUMBER = _with_number("div_number", "A tensor by a number.", "({0}) / {number}", "scale")
NUMBER_DIV = _with_number("number_div", "A number by a tensor.", "{number} / ({0})", None, Saves.OUTPUT, linear=False)

OPERATIONS = (SUB, MUL, DIV, NEG, ADD_NUMBER, SUB_NUMBER, NUMBER_SUB, MUL_NUMBER, DIV_NUMBER, NUMBER_DIV)


class Operator(NamedTuple):
    """What an operator of the language becomes, by what stands at its sides."""

    tensors: Operation
    number: Operation  # a number on the right
    of_number: Operation  # a number on the left


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "+": Operator(ADD, ADD_NUMBER, ADD_NUMBER),
        "-": Operator(SUB, SUB_NUMBER, NUMBER_SUB),
        "*": Operator(MUL, MUL_NUMBER, MUL_NUMBER),
        "/": Operator(DIV, DIV_NUMBER, NUMBER_DIV),
    }
)
