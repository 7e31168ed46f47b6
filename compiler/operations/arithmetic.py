"""What `+ - * /` and unary minus on tensors become.

Two tensors: `add`, `sub`, `mul`, `div`, inputs (left, right). A tensor and a number: `add_number` (x + n), `sub_number` (x - n),
`number_sub` (n - x), `mul_number` (n x), `div_number` (x / n), `number_div` (n / x), input x, argument `number`. `add` is also a step
(`joins.py`).
"""

from __future__ import annotations

from hvdsl.compiler.operations.shapes import broadcast, same
from hvdsl.compiler.operations.table import Argument, ArgumentType, Kind, Operation, Saves

NUMBER = (Argument("number", ArgumentType.NUMBER),)

OPERATIONS = (
    Operation("sub", Kind.INTERNAL, "Difference of two tensors.", (), broadcast),
    Operation("mul", Kind.INTERNAL, "Product of two tensors.", (), broadcast, saves=Saves.INPUTS),
    Operation("div", Kind.INTERNAL, "Quotient of two tensors.", (), broadcast, saves=Saves.INPUTS),
    Operation("neg", Kind.INTERNAL, "Minus a tensor.", (), same),
    Operation("add_number", Kind.INTERNAL, "A tensor plus a number.", NUMBER, same),
    Operation("sub_number", Kind.INTERNAL, "A tensor minus a number.", NUMBER, same),
    Operation("number_sub", Kind.INTERNAL, "A number minus a tensor.", NUMBER, same),
    Operation("mul_number", Kind.INTERNAL, "A number times a tensor.", NUMBER, same),
    Operation("div_number", Kind.INTERNAL, "A tensor by a number.", NUMBER, same),
    Operation("number_div", Kind.INTERNAL, "A number by a tensor.", NUMBER, same, saves=Saves.OUTPUT),
)
