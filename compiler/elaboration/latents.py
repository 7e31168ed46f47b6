"""Latents: `z ~ PRIOR posterior POSTERIOR`, and those that are drawn on the way up."""

from __future__ import annotations

from hvdsl.compiler.assembly.declared import arguments, build_settings, fields
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.families import LATENT_FAMILIES
from hvdsl.compiler.catalogue.rules import shape_text
from hvdsl.compiler.catalogue.structure import LATENT, SAMPLE, TAP
from hvdsl.compiler.catalogue.table import OperationKind
from hvdsl.compiler.diagnostics import names as flow_codes
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import settings as setting_codes
from hvdsl.compiler.diagnostics import shapes as shape_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.diagnostics.assembly import DUPLICATE
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.interpreter import Interpreter, call_parts, flowing
from hvdsl.compiler.elaboration.names import check_name
from hvdsl.compiler.elaboration.nodes import add_node
from hvdsl.compiler.elaboration.taps import size_label
from hvdsl.compiler.elaboration.values import STEPS, DistributionValue, Drawn, PosteriorDraw, Tensor, Value
from hvdsl.compiler.evaluate.arithmetic import INVALID, Invalid, describe, is_deferred
from hvdsl.compiler.evaluate.binding import SETTING, Slot
from hvdsl.compiler.graph import Direction, Edge, GraphLatent, NormalizingFlow, Role
from hvdsl.compiler.settings import LatentSettings
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Fault

_A_DISTRIBUTION = "a distribution: " + ", ".join(
    f"`{name}`" for name, operation in OPERATIONS.items() if operation.kind is OperationKind.DISTRIBUTION
)


def latent(interpreter: Interpreter, statement: tree.Latent, environment: Environment) -> None:
    name = _latent_name(statement, environment)
    if environment.frame.section == "encoder":
        _draw_upwards(interpreter, statement, name, environment)
        return
    stated_prior, stated_posterior = _stated(statement, name)
    builder = interpreter.builder
    with builder.enter("binding", name.id, statement.span):
        with builder.enter("part", "prior", stated_prior.span):
            prior = _distribution(interpreter, stated_prior, environment)
        with builder.enter("part", "posterior", stated_posterior.span):
            posterior, draw = _posterior(interpreter, stated_posterior, name.id, environment)
        if isinstance(prior, Invalid) or isinstance(posterior, Invalid) or isinstance(draw, Invalid):
            environment.names[name.id] = INVALID
            interpreter.failed = True
            return
        _check_latent(name, prior, posterior, statement, environment)
        inputs = [Tensor(prior.value, prior.shape), Tensor(posterior.value, posterior.shape)]
        if draw is not None:
            inputs.append(draw.tensor)
        z = add_node(interpreter, LATENT, {"name": name.id, "family": prior.family}, inputs, name.span)
        remember(interpreter, z.value.node, 0, name.id)
        builder.latents.append(
            GraphLatent(
                name.id,
                z.value.node,
                prior.family,
                z.shape,
                builder.place,
                prior.value,
                posterior.value,
                prior.classes,
                prior.depth,
                draw.direction if draw else Direction.DOWN,
                draw.sample if draw else None,
                draw.flow if draw else None,
                _settings(interpreter, statement, prior.family, environment),
            )
        )
    interpreter.drawn.setdefault(name.id, []).append(prior)
    environment.names[name.id] = z


def _latent_name(statement: tree.Latent, environment: Environment) -> tree.Name:
    """The name of a latent, which must be drawn where latents are."""
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
    return name


def _stated(statement: tree.Latent, name: tree.Name) -> tuple[tree.Expr, tree.Expr]:
    """The prior and the posterior of a latent of the decoder, which has both."""
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
    return statement.prior, statement.posterior


def _to_one_shape(prior: DistributionValue, posterior: DistributionValue) -> str:
    """What brings the shapes of prior and posterior together."""
    if prior.shape[1:] != posterior.shape[1:]:
        return "bring what both are made of to one resolution"
    if LATENT_FAMILIES[prior.family].quantized:
        return f"give the posterior a tensor of {prior.shape[0]} channels, as the prior's codes have"
    if prior.family in ("bernoulli", "categorical"):
        return "give both logits of as many channels"
    return f"give both parameters of as many channels: `{prior.family}` takes a mean and a scale for each of a draw"


def _check_latent(
    name: tree.Name,
    prior: DistributionValue,
    posterior: DistributionValue,
    statement: tree.Latent,
    environment: Environment,
) -> None:
    if prior.shape != posterior.shape:
        raise Fault(
            shape_codes.PRIOR_AND_POSTERIOR,
            f"prior and posterior of `{name.id}` differ in shape",
            statement.span,
            f"{shape_text(prior.shape)} by the prior, {shape_text(posterior.shape)} by the posterior",
            "equal shapes",
            _to_one_shape(prior, posterior),
        )
    if prior.family != posterior.family:
        raise Fault(
            codes.WRONG_KIND,
            f"prior and posterior of `{name.id}` are of different families",
            statement.span,
            f"`{prior.family}` and `{posterior.family}`",
            "one family; `codebook` goes with `nearest_code`, `finite_scalar` with `round_code`, "
            "`lookup_free` with `sign_code`",
        )
    label = environment.frame.label
    if label is not None and prior.shape[1:] != label:
        raise Fault(
            shape_codes.NOT_AT_LABEL,
            f"latent `{name.id}` is not at its row's label",
            statement.span,
            f"{shape_text(prior.shape)} in row {size_label(label)}",
            f"a latent at {size_label(label)}",
            "draw it in the row of its size and give it a name there: the rows below may read it",
        )


def _settings(
    interpreter: Interpreter, statement: tree.Latent, family: str, environment: Environment
) -> LatentSettings | None:
    """Read what is said of one latent alone: `{ weight = 0.5, free = at_least(0.1), temperature = 0.9 }`.

    Raises:
        Fault: for what no latent has, is said twice or of the wrong kind, and for a latent of codes, which has none.
    """
    if not statement.settings:
        return None
    first = statement.settings[0]
    if LATENT_FAMILIES[family].quantized:
        raise Fault(
            setting_codes.DOES_NOT_APPLY,
            f"`{first.key.id}` does not apply here",
            first.span,
            f"a latent of `{family}`, whose codes all cost the same and are drawn by its prior",
            "a latent whose rate is learned",
            "remove it; the prior over its codes takes `--temperature` in sampling",
        )
    declared = arguments(LatentSettings)
    values: dict[str, object] = {}
    for setting in statement.settings:
        key, expr = setting.key.id, setting.value
        if key not in declared:
            expected_keys = ", ".join(f"`{name}`" for name in declared)
            raise Fault(
                setting_codes.UNKNOWN_SETTING,
                f"a latent has no setting `{key}`",
                setting.key.span,
                f"`{key}`",
                f"one of {expected_keys}",
                did_you_mean(key, declared),
            )
        if key in values:
            raise Fault(
                DUPLICATE, f"`{key}` is said twice", setting.key.span, "again", "each setting once", "remove one"
            )
        slot = Slot(declared[key], "", expr.span, SETTING, declared[key].doc)
        value = interpreter.argument(slot, expr, environment)
        if is_deferred(value):
            raise Fault(
                codes.COUNT_IN_SHAPE,
                f"`{key}` cannot depend on `count` or `latents`",
                expr.span,
                expected="a number that is known before everything is placed",
            )
        values |= fields(LatentSettings, key, value)
    return build_settings(LatentSettings, values)


def _distribution(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> DistributionValue | Invalid:
    value = _evaluated(interpreter, expr, environment)
    if isinstance(value, Drawn):
        return value.distribution
    if isinstance(value, DistributionValue | Invalid):
        return value
    raise _no_distribution(expr, value)


def _evaluated(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> Value:
    """Evaluate what is to be a distribution; a word that means nothing is told what would."""
    try:
        return interpreter.evaluate(expr, environment)
    except Fault as fault:
        unknown, span = fault.diagnostic, call_parts(expr)[0].span
        if unknown.code is not name_codes.UNKNOWN_NAME or unknown.span != span or "not bound yet" in unknown.message:
            raise
        raise Fault(unknown.code, unknown.message, span, unknown.found, _A_DISTRIBUTION, unknown.help) from None


def _no_distribution(expr: tree.Expr, value: Value) -> Fault:
    """Say that a latent needs a distribution, and how one is made of what stands there."""
    short = isinstance(value, (Tensor, *STEPS)) and "\n" not in expr.span.text
    help = f"write `normal({expr.span.text})`" if short else "as in `normal(conv(1x1, 16))`"
    message = "this is not a distribution"
    return Fault(codes.WRONG_KIND, message, expr.span, describe(value), _A_DISTRIBUTION, help)


def _posterior(
    interpreter: Interpreter, expr: tree.Expr, name: str, environment: Environment
) -> tuple[DistributionValue | Invalid, PosteriorDraw | Invalid | None]:
    """Return a posterior, and its draw where steps follow it (or where it was drawn on the way up)."""
    if not isinstance(expr, tree.Flow):
        value = _evaluated(interpreter, expr, environment)
        if isinstance(value, Drawn):
            return value.distribution, value.draw
        if isinstance(value, DistributionValue | Invalid):
            return value, None
        raise _no_distribution(expr, value)
    head = _distribution(interpreter, expr.steps[0], environment)
    if isinstance(head, Invalid):
        return INVALID, None
    start = add_node(interpreter, SAMPLE, {}, (Tensor(head.value, head.shape),), expr.steps[0].span)
    result: Value = start
    for step in expr.steps[1:]:
        result = interpreter.send(flowing(result, expr.span), step, environment)
    if result is start and interpreter.builder.withdraw(start):
        return head, None  # a flow of no steps
    if LATENT_FAMILIES[head.family].discrete:
        raise Fault(
            flow_codes.FLOW_OF_CODES,
            "a discrete latent has no flow",
            expr.span,
            f"steps after a posterior of family `{head.family}`",
            "a posterior without steps",
            "write the steps before the posterior's parameters, or after the latent",
        )
    if isinstance(result, Invalid):
        return head, INVALID
    if isinstance(result, Tensor):
        return head, PosteriorDraw(result, start.value.node, _flow(interpreter, name, start, result))
    raise Fault(codes.WRONG_KIND, "a flow of a posterior gives one tensor", expr.span, describe(result), "one tensor")


def _flow(interpreter: Interpreter, name: str, start: Tensor, end: Tensor) -> NormalizingFlow:
    """The steps from a posterior's sample to a latent's value.

    Raises:
        Fault: for a step whose log-determinant is not known.
    """
    steps: list[int] = []
    edge = end.value
    while edge != start.value:
        node = interpreter.builder.nodes[edge.node]
        if node.role is not Role.FLOW:
            raise Fault(
                flow_codes.NO_LOG_DETERMINANT,
                f"`{node.operation.name}` is no step of a flow",
                node.span,
                f"`{node.operation.name}` between the posterior of `{name}` and its value",
                "steps whose log-determinant is known: `iaf(…) { … }`",
                "compute inside the block of an `iaf`, or write the posterior so that it needs no flow",
            )
        steps.insert(0, node.index)
        edge = node.inputs[0]
    return NormalizingFlow(tuple(steps))


def _draw_upwards(interpreter: Interpreter, statement: tree.Latent, name: tree.Name, environment: Environment) -> None:
    """`u ~ posterior D` in the encoder: draw, and publish the draw with its distribution as tap `u`."""
    if statement.prior is not None or statement.posterior is None:
        raise Fault(
            name_codes.MISPLACED,
            "the encoder draws without a prior",
            statement.span,
            expected=f"`{name.id} ~ posterior D`; its prior is the decoder's to say",
        )
    builder = interpreter.builder
    with builder.enter("binding", name.id, statement.span):
        with builder.enter("part", "posterior", statement.posterior.span):
            posterior, draw = _posterior(interpreter, statement.posterior, name.id, environment)
        if isinstance(posterior, Invalid) or isinstance(draw, Invalid):
            environment.names[name.id] = INVALID
            return
        if LATENT_FAMILIES[posterior.family].quantized:
            raise Fault(
                name_codes.MISPLACED,
                "a latent of a quantizer cannot be drawn on the way up",
                statement.span,
                f"a posterior of family `{posterior.family}`",
                "a posterior with a density, or of bits or classes",
                "its codes belong to its prior, in the decoder: draw it there, from a tap",
            )
        inputs = Tensor(posterior.value, posterior.shape)
        flowed = draw is not None
        if draw is None:
            sample = add_node(interpreter, SAMPLE, {}, (inputs,), name.span)
            draw = PosteriorDraw(sample, sample.value.node)
        outputs = draw.tensor.shape, posterior.shape
        node = builder.node(TAP, {"name": name.id}, (draw.tensor, inputs), outputs, name.span)
        remember(interpreter, node.index if flowed else draw.sample, 0, name.id)
    published = Tensor(Edge(node.index, 0), draw.tensor.shape)
    drawn = Drawn(
        PosteriorDraw(published, draw.sample, draw.flow, Direction.UP),
        DistributionValue(Edge(node.index, 1), posterior.shape, posterior.family, posterior.classes),
    )
    interpreter.taps.publish(name.id, drawn, name.span)
    environment.names[name.id] = drawn.tensor


def remember(interpreter: Interpreter, index: int, port: int, name: str) -> None:
    """Note the spec's name of a node's output."""
    node = interpreter.builder.nodes[index]
    names = list(node.names or (None,) * len(node.shapes))
    names[port] = names[port] or name
    node.names = tuple(names)
