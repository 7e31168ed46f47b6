"""Bodies: what each kind of statement does. A statement that fails is reported and given up; the others go on."""

from __future__ import annotations

from hvdsl.compiler.application import add_node, tap
from hvdsl.compiler.arguments import check_default, kind_of, static
from hvdsl.compiler.codes import names as name_codes
from hvdsl.compiler.codes import shapes as shape_codes
from hvdsl.compiler.codes import values as codes
from hvdsl.compiler.environment import CONTEXT_NAMES, Environment
from hvdsl.compiler.expressions import flowing, tap_name
from hvdsl.compiler.faults import Fault
from hvdsl.compiler.graph import LatentGroup
from hvdsl.compiler.graph import Value as Output
from hvdsl.compiler.interpreter import Interpreter
from hvdsl.compiler.operations import OPERATIONS
from hvdsl.compiler.program import KEYWORDS, PUBLIC_OPERATIONS
from hvdsl.compiler.taps import grid
from hvdsl.compiler.values import (
    INVALID,
    Distribution,
    Drawn,
    Invalid,
    SharedInstance,
    SharedStep,
    Tensor,
    Unshaped,
    Value,
    show,
)
from hvdsl.grammar import tree


def run(interpreter: Interpreter, body: tree.Block, environment: Environment) -> None:
    """Execute statements in order."""
    for statement in body.statements:
        execute(interpreter, statement, environment)


def execute(interpreter: Interpreter, statement: tree.Statement, environment: Environment) -> None:
    """Execute one statement. If it fails, what it would have bound becomes invalid."""
    try:
        _execute(interpreter, statement, environment)
    except Fault as fault:
        interpreter.found.add(fault.diagnostic)
        interpreter.failed = True
        for name in _bound(statement):
            environment.names[name] = INVALID


def _bound(statement: tree.Statement) -> list[str]:
    match statement:
        case tree.Bare():
            return ["x"]
        case tree.Bind():
            return [t.id for t in statement.targets if isinstance(t, tree.Name)]
        case tree.Latent():
            return [n.id for n in statement.names]
        case tree.Let():
            return [statement.name.id]
        case _:
            return []


def _execute(interpreter: Interpreter, statement: tree.Statement, environment: Environment) -> None:
    match statement:
        case tree.Bare():
            value = interpreter.tensor(statement.value, environment)
            if isinstance(value, Unshaped):
                raise _unshaped(statement.value)
            environment.names["x"] = flowing(value, statement.value.span)
        case tree.Bind():
            _bind(interpreter, statement, environment)
        case tree.Latent():
            _latent(interpreter, statement, environment)
        case tree.Let():
            _let(interpreter, statement, environment)
        case tree.Shared():
            declare(interpreter, statement, environment)
        case tree.Default():
            for fault in check_default(OPERATIONS, statement):
                raise fault
            known = environment.defaults.setdefault(statement.operation.id, [])
            known += [(setting, environment) for setting in statement.settings]


def _unshaped(expr: tree.Expr) -> Fault:
    return Fault(
        codes.WRONG_ARGUMENTS,
        "`learned` does not know its channels here",
        expr.span,
        expected="`learned(init, channels)`; only what is added to a tensor takes that tensor's shape",
    )


def check_name(name: tree.Name) -> None:
    """Refuse to define what the language has already defined.

    Raises:
        Fault: for keywords, operations and context names.
    """
    kind = (
        "a keyword"
        if name.id in KEYWORDS and name.id != "x"
        else "an operation"
        if name.id in PUBLIC_OPERATIONS
        else "a context name"
        if name.id in CONTEXT_NAMES
        else ""
    )
    if kind:
        raise Fault(
            name_codes.RESERVED_NAME,
            f"`{name.id}` is {kind}, and cannot be redefined",
            name.span,
            expected="a name of your own",
        )


def _let(interpreter: Interpreter, statement: tree.Let, environment: Environment) -> None:
    check_name(statement.name)
    value = interpreter.evaluate(statement.value, environment)
    environment.names[statement.name.id] = value
    scope = environment.frame.scope
    plain = static(value)
    if scope is not None and not isinstance(plain, Invalid):
        scope.constants[statement.name.id] = plain


def declare(interpreter: Interpreter, statement: tree.Shared, environment: Environment) -> None:
    """`shared f = …`: one instance in this scope."""
    check_name(statement.name)
    builder = interpreter.builder
    name = statement.name.id
    instance = SharedInstance(name, statement.value, environment, builder.scope, builder.path)
    environment.names[name] = SharedStep(name, instance)


# -- bindings ---------------------------------------------------------------------------------------------


def _bind(interpreter: Interpreter, statement: tree.Bind, environment: Environment) -> None:
    targets = statement.targets
    if len(targets) == 1 and isinstance(targets[0], tree.Call):
        _tap(interpreter, statement, targets[0], environment)
        return
    names: list[tree.Name] = []
    for target in targets:
        if not isinstance(target, tree.Name):
            raise Fault(codes.WRONG_KIND, "only a name can be bound", target.span, expected="a name")
        if target.id != "_":
            check_name(target)
        names.append(target)
    start = len(interpreter.builder.nodes)
    named = next((n.id for n in names if n.id != "_"), "x")
    if named == "x":  # `x = f` is what a bare flow means: it adds nothing to the names inside
        value = interpreter.tensor(statement.value, environment)
    else:
        with interpreter.builder.enter("binding", named, statement.span):
            value = interpreter.tensor(statement.value, environment)
    if isinstance(value, Unshaped):
        raise _unshaped(statement.value)
    if len(names) == 1:
        _set(interpreter, names[0], value, environment, start)
        return
    if isinstance(value, Invalid):
        values: tuple[Value, ...] = (INVALID,) * len(names)
    elif isinstance(value, tuple):
        values = value
    else:
        values = (value,)
    if len(values) != len(names):
        raise Fault(
            shape_codes.WRONG_NUMBER,
            f"{len(names)} names for {len(values)} tensor{'s' if len(values) != 1 else ''}",
            statement.span,
            kind_of(value),
            f"{len(names)} tensors",
            "write as many names as there are tensors, `_` for those that are not needed",
        )
    for name, one in zip(names, values, strict=True):
        _set(interpreter, name, one, environment, start)


def _set(
    interpreter: Interpreter, name: tree.Name, value: Value, environment: Environment, start: int
) -> None:
    if name.id == "_":
        return
    if isinstance(value, Drawn):
        value = value.tensor
    if not isinstance(value, Distribution):
        value = flowing(value, name.span)
    environment.names[name.id] = value
    if isinstance(value, Tensor | Distribution) and value.value.node >= start and name.id != "x":
        _remember(interpreter, value.value.node, value.value.port, name.id)


def _remember(interpreter: Interpreter, index: int, port: int, name: str) -> None:
    """Note the spec's name of a node's output."""
    node = interpreter.builder.nodes[index]
    names = list(node.names or (None,) * len(node.shapes))
    names[port] = names[port] or name
    node.names = tuple(names)


def _tap(interpreter: Interpreter, statement: tree.Bind, target: tree.Call, environment: Environment) -> None:
    if not (isinstance(target.function, tree.Name) and target.function.id == "tap"):
        raise Fault(codes.WRONG_KIND, "only a name or `tap(name)` can stand here", target.span)
    name = tap_name(target.arguments, target)
    with interpreter.builder.enter("binding", name, statement.span):
        value = interpreter.tensor(statement.value, environment)
        stream = flowing(value, statement.value.span)
        if isinstance(stream, tuple):
            raise Fault(
                codes.WRONG_KIND, "a tap is one tensor", statement.value.span, kind_of(value), "one tensor"
            )
    tap(interpreter, name, stream, statement.span)


# -- latents ----------------------------------------------------------------------------------------------


def _latent(interpreter: Interpreter, statement: tree.Latent, environment: Environment) -> None:
    owner = environment.owner
    section = environment.frame.section
    if owner.kind not in ("group", "row") or section not in ("encoder", "decoder"):
        raise Fault(
            name_codes.MISPLACED,
            "a latent cannot be drawn here",
            statement.span,
            f"in {f'`{owner.name}`, a {owner.kind}' if owner.kind == 'cell' else f'a {owner.kind}'}",
            "a group, or a row of the decoder",
            f"write `group {owner.name}`" if owner.kind == "cell" else "",
        )
    if len(statement.names) != 1:
        raise Fault(codes.WRONG_ARGUMENTS, "a latent has one name", statement.span)
    name = statement.names[0]
    check_name(name)
    if section == "encoder":
        _draw_upwards(interpreter, statement, name, environment)
        return
    if statement.prior is None:
        raise Fault(
            name_codes.MISPLACED,
            "only the encoder draws without a prior",
            statement.span,
            "`~ posterior` in the decoder",
            "`z ~ PRIOR posterior POSTERIOR`",
        )
    if statement.posterior is None:
        raise Fault(
            name_codes.NO_POSTERIOR,
            f"latent `{name.id}` has no posterior",
            statement.span,
            expected="`z ~ PRIOR posterior POSTERIOR`",
            help="without a posterior it could not be trained",
        )
    builder = interpreter.builder
    with builder.enter("binding", name.id, statement.span):
        with builder.enter("part", "prior", statement.prior.span):
            prior = _distribution(interpreter, statement.prior, environment)
        with builder.enter("part", "posterior", statement.posterior.span):
            posterior, sample = _posterior(interpreter, statement.posterior, environment)
        if isinstance(prior, Invalid) or isinstance(posterior, Invalid) or isinstance(sample, Invalid):
            environment.names[name.id] = INVALID
            interpreter.failed = True
            return
        _check_latent(name, prior, posterior, statement, environment)
        inputs = [Tensor(prior.value, prior.shape), Tensor(posterior.value, posterior.shape)]
        if sample is not None:
            inputs.append(sample)
        z = add_node(interpreter, "latent", {"name": name.id, "family": prior.family}, inputs, name.span)
        _remember(interpreter, z.value.node, 0, name.id)
        group = LatentGroup(name.id, z.value.node, prior.family, z.shape, builder.path)
        builder.latents.append(group)
    interpreter.drawn.setdefault(name.id, []).append(prior)
    environment.names[name.id] = z


def _check_latent(
    name: tree.Name,
    prior: Distribution,
    posterior: Distribution,
    statement: tree.Latent,
    environment: Environment,
) -> None:
    if prior.shape != posterior.shape:
        raise Fault(
            shape_codes.PRIOR_AND_POSTERIOR,
            f"prior and posterior of `{name.id}` differ in shape",
            statement.span,
            f"{show(prior.shape)} by the prior, {show(posterior.shape)} by the posterior",
            "equal shapes",
        )
    if prior.family != posterior.family:
        raise Fault(
            codes.WRONG_KIND,
            f"prior and posterior of `{name.id}` are of different families",
            statement.span,
            f"`{prior.family}` and `{posterior.family}`",
            "one family; `codebook` goes with `nearest_code`, `finite_scalar` with `round_code`",
        )
    label = environment.frame.label
    if label is not None and prior.shape[1:] != label:
        raise Fault(
            shape_codes.NOT_AT_LABEL,
            f"latent `{name.id}` is not at its row's label",
            statement.span,
            f"{show(prior.shape)} in row {grid(label)}",
            f"a latent at {grid(label)}",
        )


def _distribution(
    interpreter: Interpreter, expr: tree.Expr, environment: Environment
) -> Distribution | Invalid:
    value = interpreter.evaluate(expr, environment)
    if isinstance(value, Drawn):
        return value.distribution
    if isinstance(value, Distribution | Invalid):
        return value
    raise Fault(
        codes.WRONG_KIND,
        "this is not a distribution",
        expr.span,
        kind_of(value),
        "a distribution such as `normal(f)`",
    )


def _posterior(
    interpreter: Interpreter, expr: tree.Expr, environment: Environment
) -> tuple[Distribution | Invalid, Tensor | Invalid | None]:
    """Return a posterior, and its sample where steps follow it (or where it was drawn on the way up)."""
    if not isinstance(expr, tree.Flow):
        value = interpreter.evaluate(expr, environment)
        if isinstance(value, Drawn):
            return value.distribution, value.tensor
        if isinstance(value, Distribution | Invalid):
            return value, None
        raise Fault(
            codes.WRONG_KIND, "this is not a distribution", expr.span, kind_of(value), "a distribution"
        )
    head = _distribution(interpreter, expr.steps[0], environment)
    if isinstance(head, Invalid):
        return INVALID, None
    start = add_node(interpreter, "sample", {}, (Tensor(head.value, head.shape),), expr.steps[0].span)
    result: Value = start
    for step in expr.steps[1:]:
        result = interpreter.send(flowing(result, expr.span), step, environment)
    if result is start and interpreter.builder.withdraw(start):
        return head, None  # a flow of no steps
    if isinstance(result, Tensor | Invalid):
        return head, result
    raise Fault(
        codes.WRONG_KIND, "a flow of a posterior gives one tensor", expr.span, kind_of(result), "one tensor"
    )


def _draw_upwards(
    interpreter: Interpreter, statement: tree.Latent, name: tree.Name, environment: Environment
) -> None:
    """`u ~ posterior D` in the encoder: draw, and publish the draw with its distribution as tap `u`."""
    if statement.prior is not None or statement.posterior is None:
        raise Fault(
            name_codes.MISPLACED,
            "the encoder draws without a prior",
            statement.span,
            expected=f"`{name.id} ~ posterior D` here, and `{name.id} ~ PRIOR posterior skip({name.id})` in the decoder",
        )
    builder = interpreter.builder
    with builder.enter("binding", name.id, statement.span):
        with builder.enter("part", "posterior", statement.posterior.span):
            posterior, sample = _posterior(interpreter, statement.posterior, environment)
        if isinstance(posterior, Invalid) or isinstance(sample, Invalid):
            environment.names[name.id] = INVALID
            return
        inputs = Tensor(posterior.value, posterior.shape)
        if sample is None:
            sample = add_node(interpreter, "sample", {}, (inputs,), name.span)
        _remember(interpreter, sample.value.node, sample.value.port, name.id)
        node = builder.node(
            "tap", {"name": name.id}, (sample, inputs), (sample.shape, posterior.shape), name.span
        )
    drawn = Drawn(
        Tensor(Output(node.index, 0), sample.shape),
        Distribution(Output(node.index, 1), posterior.shape, posterior.family, posterior.classes),
    )
    interpreter.taps.publish(name.id, drawn, name.span)
    environment.names[name.id] = drawn.tensor
