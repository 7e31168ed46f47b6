"""What `+ - * /` and unary minus on tensors become.

Two tensors: `add`, `sub`, `mul`, `div`, inputs (left, right). A tensor and a number: `add_number` (x + n),
`sub_number` (x - n), `number_sub` (n - x), `mul_number` (n x), `div_number` (x / n), `number_div` (n / x),
input x, argument `number`. `add` is also a step (`joins.py`).
"""

from __future__ import annotations

from hvdsl.compiler.catalogue.expressions import template
from hvdsl.compiler.catalogue.shapes import broadcast, same
from hvdsl.compiler.catalogue.table import Argument, ArgumentType, Kind, Operation, Saves

NUMBER = (Argument("number", ArgumentType.NUMBER),)


def _pair(name: str, summary: str, operator: str, saves: Saves = Saves.NOTHING) -> Operation:
    expression = template(f"({{0}}) {operator} ({{1}})")
    return Operation(name, Kind.INTERNAL, summary, (), broadcast, saves=saves, expression=expression)


def _with_number(name: str, summary: str, text: str, saves: Saves = Saves.NOTHING) -> Operation:
    return Operation(name, Kind.INTERNAL, summary, NUMBER, same, saves=saves, expression=template(text))


OPERATIONS = (
    _pair("sub", "Difference of two tensors.", "-"),
    _pair("mul", "Product of two tensors.", "*", Saves.INPUTS),
    _pair("div", "Quotient of two tensors.", "/", Saves.INPUTS),
    Operation("neg", Kind.INTERNAL, "Minus a tensor.", (), same, expression=template("-({0})")),
    _with_number("add_number", "A tensor plus a number.", "({0}) + {number}"),
    _with_number("sub_number", "A tensor minus a number.", "({0}) - {number}"),
    _with_number("number_sub", "A number minus a tensor.", "{number} - ({0})"),
    _with_number("mul_number", "A number times a tensor.", "{number} * ({0})"),
    _with_number("div_number", "A tensor by a number.", "({0}) / {number}"),
    _with_number("number_div", "A number by a tensor.", "{number} / ({0})", Saves.OUTPUT),
)
