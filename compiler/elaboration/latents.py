"""Latents: `z ~ PRIOR posterior POSTERIOR`, and those that are drawn on the way up."""

from __future__ import annotations

from hvdsl.compiler.catalogue.quantizers import PRIORS as QUANTIZED
from hvdsl.compiler.catalogue.structure import DISCRETE
from hvdsl.compiler.diagnostics import flows as flow_codes
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import shapes as shape_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import kind_of
from hvdsl.compiler.elaboration.environment import Environment
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.names import check_name
from hvdsl.compiler.elaboration.placing import add_node
from hvdsl.compiler.elaboration.streams import flowing
from hvdsl.compiler.elaboration.taps import grid
from hvdsl.compiler.elaboration.values import Distribution, Drawn, Tensor, Value, show
from hvdsl.compiler.evaluate.faults import Fault
from hvdsl.compiler.evaluate.values import INVALID, Invalid
from hvdsl.compiler.graph import LatentGroup
from hvdsl.compiler.graph import Value as Output
from hvdsl.grammar import tree


def latent(interpreter: Interpreter, statement: tree.Latent, environment: Environment) -> None:
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
        remember(interpreter, z.value.node, 0, name.id)
        group = LatentGroup(name.id, z.value.node, prior.family, z.shape, builder.place, prior.classes, prior.depth)
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
            "one family; `codebook` goes with `nearest_code`, `finite_scalar` with `round_code`, "
            "`lookup_free` with `sign_code`",
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


def _distribution(interpreter: Interpreter, expr: tree.Expr, environment: Environment) -> Distribution | Invalid:
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
        raise Fault(codes.WRONG_KIND, "this is not a distribution", expr.span, kind_of(value), "a distribution")
    head = _distribution(interpreter, expr.steps[0], environment)
    if isinstance(head, Invalid):
        return INVALID, None
    start = add_node(interpreter, "sample", {}, (Tensor(head.value, head.shape),), expr.steps[0].span)
    result: Value = start
    for step in expr.steps[1:]:
        result = interpreter.send(flowing(result, expr.span), step, environment)
    if result is start and interpreter.builder.withdraw(start):
        return head, None  # a flow of no steps
    if head.family in DISCRETE:
        raise Fault(
            flow_codes.FLOW_OF_CODES,
            "a discrete latent has no flow",
            expr.span,
            f"steps after a posterior of family `{head.family}`",
            "a posterior without steps",
            "write the steps before the posterior's parameters, or after the latent",
        )
    if isinstance(result, Tensor | Invalid):
        return head, result
    raise Fault(codes.WRONG_KIND, "a flow of a posterior gives one tensor", expr.span, kind_of(result), "one tensor")


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
            posterior, sample = _posterior(interpreter, statement.posterior, environment)
        if isinstance(posterior, Invalid) or isinstance(sample, Invalid):
            environment.names[name.id] = INVALID
            return
        if posterior.family in QUANTIZED:
            raise Fault(
                name_codes.MISPLACED,
                "a latent of a quantizer cannot be drawn on the way up",
                statement.span,
                f"a posterior of family `{posterior.family}`",
                "a posterior with a density, or of bits or classes",
                "its codes belong to its prior, in the decoder: draw it there, from a tap",
            )
        inputs = Tensor(posterior.value, posterior.shape)
        flowed = sample is not None
        if sample is None:
            sample = add_node(interpreter, "sample", {}, (inputs,), name.span)
        node = builder.node("tap", {"name": name.id}, (sample, inputs), (sample.shape, posterior.shape), name.span)
        remember(interpreter, node.index if flowed else sample.value.node, 0, name.id)
    drawn = Drawn(
        Tensor(Output(node.index, 0), sample.shape),
        Distribution(Output(node.index, 1), posterior.shape, posterior.family, posterior.classes),
    )
    interpreter.taps.publish(name.id, drawn, name.span)
    environment.names[name.id] = drawn.tensor


def remember(interpreter: Interpreter, index: int, port: int, name: str) -> None:
    """Note the spec's name of a node's output."""
    node = interpreter.builder.nodes[index]
    names = list(node.names or (None,) * len(node.shapes))
    names[port] = names[port] or name
    node.names = tuple(names)
