"""Nodes of sources, joins, distributions and steps: arguments in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hvdsl.compiler.catalogue.joins import CONCAT, EXPAND, MEAN
from hvdsl.compiler.catalogue.rules import shape_text
from hvdsl.compiler.catalogue.sources import LEARNED
from hvdsl.compiler.catalogue.table import Operation, OperationError, OperationKind
from hvdsl.compiler.diagnostics import shapes as shape_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import Bound, bind
from hvdsl.compiler.elaboration.builder import GraphBuilder
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.interpreter import Interpreter, call_parts
from hvdsl.compiler.elaboration.values import DistributionValue, OperationStep, Tensor, Unshaped, Value
from hvdsl.compiler.evaluate.arithmetic import INVALID
from hvdsl.compiler.graph import Literal, Shape
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault
from hvdsl.grammar.source import Span


def operation_value(interpreter: Interpreter, operation: Operation, call: tree.Expr, environment: Environment) -> Value:
    """Return what an operation's name or call is: a step, or what a source, join or distribution makes."""
    if operation.kind is OperationKind.STEP:
        return OperationStep(operation, call, environment)
    if operation is LEARNED and len(call_parts(call)[1]) < 2:
        return Unshaped(operation, call, environment)
    bound = bind(interpreter, operation, call, environment)
    if bound.invalid:
        return INVALID
    return _place(interpreter, operation, bound, call.span, environment)


def materialise(interpreter: Interpreter, waiting: Unshaped, shape: Shape | None, span: Span) -> Tensor:
    """Make the learned map of `learned(init)`, in the shape of what it is added to."""
    bound = bind(interpreter, waiting.operation, waiting.call, waiting.environment)
    if shape is not None:
        bound.args["channels"], bound.args["grid"] = shape[0], shape[1:]
    result = _place(interpreter, waiting.operation, bound, span, waiting.environment)
    if not isinstance(result, Tensor):
        raise TypeError("a learned map is a tensor")
    return result


def _place(interpreter: Interpreter, operation: Operation, bound: Bound, span: Span, environment: Environment) -> Value:
    """Add the node of a source, join or distribution."""
    if operation.kind is OperationKind.JOIN and not bound.operands:
        return None  # all operands are absent
    if operation in (CONCAT, MEAN) and len(bound.operands) == 1:
        only = bound.operands[0]
        return materialise(interpreter, only, None, span) if isinstance(only, Unshaped) else only
    if "grid" in bound.args and bound.args["grid"] is None and not bound.operands:
        bound.args["grid"] = environment.frame.label
    families = [o.family for o in bound.operands if isinstance(o, DistributionValue)]
    _check_coupling(operation, families, span)
    operands = [settled(interpreter, o, None, span) for o in bound.operands]
    if operation is CONCAT:
        operands = expanded(interpreter, operands, span)
    outputs = place_node(interpreter, operation, bound.args, operands, span)
    entry, draw = operation.distribution, outputs[0]
    if entry is None:
        return draw
    depth = bound.args.get("depth", 1)
    return DistributionValue(
        draw.value,
        draw.shape,
        entry.family.name if entry.family else families[0],
        entry.classes(draw.shape, bound.args) if entry.classes else None,
        depth if isinstance(depth, int) else 1,
    )


def _check_coupling(operation: Operation, families: Sequence[str], span: Span) -> None:
    """Refuse a coupling of distributions that it is not defined for."""
    allowed = [family.name for family in operation.distribution.couples] if operation.distribution else []
    if not allowed or (len(set(families)) == 1 and families[0] in allowed):
        return
    raise Fault(
        codes.WRONG_KIND,
        f"`{operation.name}` cannot couple these distributions",
        span,
        " and ".join(f"`{family}`" for family in families),
        f"two of one family, of {', '.join(f'`{family}`' for family in allowed)}",
    )


def settled(
    interpreter: Interpreter, operand: Tensor | DistributionValue | Unshaped, shape: Shape | None, span: Span
) -> Tensor:
    if isinstance(operand, Unshaped):
        return materialise(interpreter, operand, shape, operand.call.span)
    return Tensor(operand.value, operand.shape)


def expanded(interpreter: Interpreter, tensors: Sequence[Tensor], span: Span) -> list[Tensor]:
    """Bring 1x1 maps to the size of the others, as they are broadcast in sums."""
    sizes = {tensor.shape[1:] for tensor in tensors} - {(1, 1)}
    if len(sizes) != 1:
        return list(tensors)
    (size,) = sizes
    return [t if t.shape[1:] == size else add_node(interpreter, EXPAND, {"size": size}, (t,), span) for t in tensors]


def add_node(
    interpreter: Interpreter, operation: Operation, args: Mapping[str, Literal], inputs: Sequence[Tensor], span: Span
) -> Tensor:
    """Add a node of an operation that has one output."""
    return place_node(interpreter, operation, args, inputs, span)[0]


def place_node(
    interpreter: Interpreter,
    operation: Operation,
    args: Mapping[str, Literal],
    inputs: Sequence[Tensor],
    span: Span,
) -> tuple[Tensor, ...]:
    try:
        return interpreter.builder.operation(operation, args, inputs, span)
    except OperationError as error:
        if _halved_unevenly(interpreter, inputs):
            raise _odd_size(interpreter, operation, inputs, span) from None
        raise Fault(
            shape_codes.DOES_NOT_FIT,
            error.message,
            span,
            error.found,
            error.expected,
            error.help or _origins(interpreter.builder, inputs),
        ) from None


def _halved_unevenly(interpreter: Interpreter, inputs: Sequence[Tensor]) -> bool:
    """Whether maps are the two halves of an odd size: that at which the encoder row, which halves once, begins."""
    section, label = interpreter.place
    sizes = [{t.shape[axis] for t in inputs} for axis in (1, 2)]
    return (
        section == "encoder"
        and label is not None
        and any(side % 2 == 1 and found == {side // 2, side // 2 + 1} for side, found in zip(label, sizes, strict=True))
    )


def _odd_size(interpreter: Interpreter, operation: Operation, inputs: Sequence[Tensor], span: Span) -> Fault:
    """Point at the step of the row; what meets may be deep inside it."""
    _, label = interpreter.place
    size = "x".join(map(str, label or ()))
    scope, step = interpreter.builder.scope, span
    while scope.kind != "row" and scope.parent is not None:
        scope, step = scope.parent, scope.span
    maps = ", ".join(shape_text(tensor.shape) for tensor in inputs)
    return Fault(
        shape_codes.ODD_SIZE,
        f"a map of {size} cannot be halved in this way",
        step,
        f"`{operation.name}` at {span.source.name}:{span.line} gets {maps}",
        "an even height and width where a row begins that halves them",
        "choose a size that stays even through every halving: `resize` or `pad` in `data`, or one halving less",
    )


def _origins(builder: GraphBuilder, inputs: Sequence[Tensor]) -> str:
    """Say where each operand came from."""
    parts = []
    for tensor in inputs:
        node = builder.nodes[tensor.value.node]
        parts.append(
            f"{shape_text(tensor.shape)} comes from `{node.operation.name}` at {node.span.source.name}:{node.span.line}"
        )
    return "; ".join(parts)
