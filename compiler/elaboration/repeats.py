"""`step * n`, one after the other, and `parallel(n) { … }`, side by side."""

from __future__ import annotations

from hvdsl.compiler.catalogue.arithmetic import SUB
from hvdsl.compiler.catalogue.joins import ADD, CONCAT, MEAN
from hvdsl.compiler.diagnostics import limits
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import call_parts
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.placing import add_node
from hvdsl.compiler.elaboration.streams import one_tensor, run_block
from hvdsl.compiler.elaboration.values import Flowing, Tensor
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.arithmetic import describe
from hvdsl.compiler.evaluate.faults import Fault
from hvdsl.compiler.evaluate.values import INVALID, Deferred, Invalid
from hvdsl.grammar import tree
from hvdsl.grammar.source import Span

MOST_REPEATS = 10_000


def repeat(interpreter: Interpreter, flowing: Flowing, expr: tree.Binary, environment: Environment) -> Flowing:
    """`flowing -> step * n`: n instances, each evaluated anew with its turn as `index`."""
    n = _times(interpreter, expr.right, environment)
    if isinstance(n, Invalid):
        return INVALID
    builder = interpreter.builder
    with builder.enter("repeat", "", expr.span):
        for i in range(n):
            turn = Environment(environment.frame.turn(i), environment.owner, environment)
            with builder.enter("turn", "", expr.left.span):
                flowing = interpreter.send(flowing, expr.left, turn)
    return flowing


def parallel(interpreter: Interpreter, flowing: Flowing, expr: tree.WithBlock, environment: Environment) -> Flowing:
    """`parallel(n, join = sum | concat | mean | delta) { … }`: n instances on one input."""
    _, arguments, block = call_parts(expr)
    given = {a.name or ("n", "join")[min(i, 1)]: a.value for i, a in enumerate(arguments)}
    join = given.get("join")
    how = join.id if isinstance(join, tree.Name) else "sum" if join is None else ""
    if "n" not in given or len(given) != len(arguments) or given.keys() - {"n", "join"} or block is None:
        raise Fault(codes.WRONG_ARGUMENTS, "`parallel` takes a number and a join", expr.span, expected=_PARALLEL)
    if how not in ("sum", "concat", "mean", "delta"):
        raise Fault(
            codes.WRONG_ARGUMENTS,
            "`parallel` cannot join in this way",
            join.span if join else expr.span,
            expected=_PARALLEL,
        )
    n = _times(interpreter, given["n"], environment)
    if isinstance(n, Invalid) or isinstance(flowing, Invalid):
        return INVALID
    if flowing is None:
        return None
    if n == 0:
        raise Fault(codes.NEGATIVE_REPEAT, "`parallel` of nothing", given["n"].span, "0", "1 or more")
    results: list[Tensor] = []
    builder = interpreter.builder
    with builder.enter("repeat", "parallel", expr.span):
        for i in range(n):
            turn = Environment(environment.frame.turn(i), environment.owner, environment)
            with builder.enter("turn", "", block.span):
                result = run_block(interpreter, block, flowing, turn)
            if isinstance(result, Invalid):
                return INVALID
            results.append(one_tensor(result, "`parallel`", block.span))
    return _join(interpreter, how, results, flowing, expr.span)


_PARALLEL = "`parallel(n, join = sum | concat | mean | delta) { … }`"


_JOINS = {entry.name: entry for entry in (CONCAT, MEAN)}


def _join(interpreter: Interpreter, how: str, results: list[Tensor], flowing: Flowing, span: Span) -> Tensor | Invalid:
    if how in _JOINS:
        return add_node(interpreter, _JOINS[how], {}, results, span)
    total: Tensor | Invalid
    if how == "sum":
        total, rest = results[0], results[1:]
    else:
        start = one_tensor(flowing, "`parallel`", span)
        total, rest = start, []
        for result in results:
            change = add_node(interpreter, SUB, {}, (result, start), span)
            rest.append(change)
    for result in rest:
        total = add_node(interpreter, ADD, {}, (total, result), span)
    return total


def _times(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> int | Invalid:
    value = interpreter.evaluate(expr, environment)
    if isinstance(value, Invalid):
        return INVALID
    if isinstance(value, Deferred):
        raise Fault(
            codes.COUNT_IN_SHAPE,
            "a number of repeats cannot depend on `count` or `latents`",
            expr.span,
            expected="a number that is known before everything is placed",
        )
    if not arithmetic.is_number(value):
        raise Fault(codes.WRONG_KIND, "a step is repeated a whole number of times", expr.span, describe(value))
    n = arithmetic.integer(value, expr.span, "the number of repeats")
    if n < 0:
        raise Fault(codes.NEGATIVE_REPEAT, "a negative number of repeats", expr.span, str(n), "0 or more")
    if n > MOST_REPEATS:
        raise Fault(
            limits.REPEATED_TOO_OFTEN,
            "repeated too often",
            expr.span,
            f"{n:,} times",
            f"at most {MOST_REPEATS:,}",
        )
    return n
