"""What flows: tensors, tuples of them, absence."""

from __future__ import annotations

from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.values import Drawn, Flowing, Tensor, Value
from hvdsl.compiler.evaluate.arithmetic import describe
from hvdsl.compiler.evaluate.faults import Fault
from hvdsl.compiler.evaluate.values import Invalid
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span


def flowing(value: Value, span: Span) -> Flowing:
    """Return a value as something that can pass through steps.

    Raises:
        Fault: if it is no tensor, tuple of tensors or `none`.
    """
    if isinstance(value, Drawn):
        return value.tensor
    if value is None or isinstance(value, Tensor | Invalid):
        return value
    if isinstance(value, tuple) and value:
        parts = [v.tensor if isinstance(v, Drawn) else v for v in value]
        if all(p is None or isinstance(p, Tensor | Invalid) for p in parts):
            return tuple(p for p in parts if p is None or isinstance(p, Tensor | Invalid))
    raise Fault(codes.WRONG_KIND, "only tensors flow", span, describe(value), "a tensor or a tuple of tensors")


def current(interpreter: Interpreter, environment: Environment, span: Span) -> Flowing:
    """Return `x`, the tensor that a flow without a start starts from.

    Raises:
        Fault: where nothing has flowed in, as at the start of a decoder.
    """
    where = environment.find("x")
    value = where.names["x"] if where else ()
    if value == ():
        raise Fault(
            name_codes.NOTHING_FLOWS,
            "nothing flows in here yet",
            span,
            "a step",
            "a tensor to start from",
            "start with a source, such as `learned(zeros, 64) -> …`",
        )
    return flowing(value, span)


def one_tensor(flowing: Flowing, what: str, span: Span) -> Tensor:
    if isinstance(flowing, Tensor):
        return flowing
    raise Fault(codes.WRONG_KIND, f"{what} takes one tensor", span, describe(flowing), "one tensor")


def run_block(interpreter: Interpreter, block: tree.Block, flowing: Flowing, environment: Environment) -> Flowing:
    """Run `{ … }`: a recipe without a name, which sees the names around it and keeps its own."""
    inner = Environment(environment.frame.inside(flowing), environment.owner, environment, {"x": flowing})
    interpreter.run(block, inner)
    return result_of(inner, block.span)


def result_of(environment: Environment, span: Span) -> Flowing:
    """Return `x` at the end of a body."""
    value = environment.names["x"]
    if value is None or isinstance(value, Tensor | Invalid):
        return value
    if isinstance(value, tuple):
        return tuple(v for v in value if v is None or isinstance(v, Tensor | Invalid))
    raise Fault(codes.WRONG_KIND, "the result is no tensor", span, describe(value), "a tensor or a tuple of tensors")


def unshaped(expr: tree.Expr) -> Fault:
    return Fault(
        codes.WRONG_ARGUMENTS,
        "`learned` does not know its channels here",
        expr.span,
        expected="`learned(init, channels)`; only what is added to a tensor takes that tensor's shape",
    )
