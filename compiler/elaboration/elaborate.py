"""From a closed syntax tree to a graph: recipes expanded, expressions evaluated, shapes known."""

from __future__ import annotations

from typing import cast

from hvdsl.compiler.assembly.assemble import Assembled
from hvdsl.compiler.catalogue.likelihoods import LIKELIHOODS
from hvdsl.compiler.catalogue.rules import shape_text
from hvdsl.compiler.catalogue.structure import IMAGE, OUTPUT
from hvdsl.compiler.catalogue.table import Argument
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import shapes as shape_codes
from hvdsl.compiler.elaboration import expressions, names, pipes, statements
from hvdsl.compiler.elaboration.builder import GraphBuilder
from hvdsl.compiler.elaboration.environment import Environment, Frame, Owner, TopLevel
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.names import check_condition_names
from hvdsl.compiler.elaboration.references import check_program, check_unused, contradictions, unused_recipes
from hvdsl.compiler.elaboration.sections import elaborate_prior, elaborate_sections
from hvdsl.compiler.elaboration.values import DistributionValue, Drawn, Flowing, SharedInstance, Step, Tensor, Value
from hvdsl.compiler.evaluate.arithmetic import INVALID, Deferred, Invalid, Totals
from hvdsl.compiler.graph import Edge, Graph, Shape, Written
from hvdsl.compiler.model import Model
from hvdsl.compiler.settings import CODES
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Exhausted, Fault, Severity, SpecError
from hvdsl.grammar.printer import print_expression
from hvdsl.grammar.source import Span


class Elaborator(Interpreter):
    """Ties the rules of the language together."""

    def evaluate(self, expr: tree.Expr, environment: Environment, wanted: Argument | None = None) -> Value:
        self.deepen(expr.span)
        try:
            return self.worth(expr, environment, wanted)  # type: ignore[return-value]  # a cast takes as long as a word
        finally:
            self.depth -= 1

    lookup = names.lookup
    call = names.value_of_call
    flow = expressions.flow

    def calculate(self, name: str, expr: tree.Call, environment: Environment) -> Value:
        return cast(Value, self._with_text(self.function(name, expr, environment), expr))

    def operate(self, expr: tree.Binary, left: object, right: object, environment: Environment) -> object:
        value = expressions.operate(self, expr, left, right, environment)
        if value is expressions.UNHANDLED:
            value = super().operate(expr, left, right, environment)
        return self._with_text(value, expr)

    def negate(self, expr: tree.Unary, value: object) -> object:
        negated = expressions.negate(self, expr, value)
        return super().negate(expr, value) if negated is expressions.UNHANDLED else negated

    def _with_text(self, value: object, expr: tree.Binary | tree.Call) -> object:
        """Let a fraction that was computed say from what."""
        if type(value) is not float and not isinstance(value, Deferred):
            return value
        known = self._texts.get(id(expr))
        if known is None:
            known = self._texts[id(expr)] = expr, print_expression(expr)
        text = known[1]
        if isinstance(value, Deferred):
            value.text = text
            return value
        return Written(value, text)

    def tensor(self, expr: tree.Expr, environment: Environment) -> Value:
        self.deepen(expr.span)
        try:
            return expressions.tensor(self, expr, environment)
        finally:
            self.depth -= 1

    def send(self, flowing: Flowing, expr: tree.Expr, environment: Environment) -> Flowing:
        self.deepen(expr.span)
        try:
            return pipes.send(self, flowing, expr, environment)
        finally:
            self.depth -= 1

    def apply(self, step: Step, flowing: Flowing, span: Span) -> Flowing:
        return pipes.apply_step(self, step, flowing, span)

    def run(self, body: tree.Block, environment: Environment) -> None:
        statements.run_statements(self, body, environment)

    def skip(self, name: str, owner: Owner, environment: Environment, span: Span) -> Tensor | Drawn | Invalid:
        if environment.frame.section != "decoder" or owner.kind == "cell":
            raise Fault(
                name_codes.MISPLACED,
                "nothing can be read here",
                span,
                f"`skip` in `{owner.name}`, a cell"
                if owner.kind == "cell"
                else f"`skip` in the {environment.frame.section}",
                "`skip` in a group or row of the decoder",
                f"write `group {owner.name}`" if owner.kind == "cell" else "",
            )
        if environment.frame.label is None:
            raise TypeError("a decoder without a row")
        try:
            return self.taps.read(name, environment.frame.label, owner, span)
        except Fault:
            if self.failed:
                return INVALID  # the tap may be missing because of an earlier mistake
            raise


def elaborate(closed: Assembled) -> Model:
    """Elaborate an assembled spec. What holds of the whole is for `checks` to say.

    Raises:
        SpecError: with everything found, if any of it is an error.
    """
    diagnostics = Diagnostics()
    for warning in closed.warnings:
        diagnostics.add(warning)
    settings = closed.settings
    program = TopLevel.of(closed.spec, closed.logits, settings.data.conditions)
    program.of_codes = settings.data.is_codes
    check_condition_names(closed.spec, program, diagnostics)
    check_program(closed.spec, diagnostics)
    check_unused(closed, program, diagnostics)
    if any(d.code in _DECISIVE for d in diagnostics):
        diagnostics.stop_if_failed()
    for recipe in () if diagnostics.failed else unused_recipes(closed):
        for diagnostic in contradictions(recipe, program, closed.spec, new_elaborator):
            diagnostics.add(diagnostic)
    priors: dict[str, Graph] = {}
    try:
        graph, elaborator = _model(closed, program, diagnostics)
        for item in closed.spec.items:
            if isinstance(item, tree.Prior):
                prior = _prior(item, program, elaborator, diagnostics)
                if prior is not None:
                    priors[item.name.id] = prior
    except Exhausted as limit:
        diagnostics.add(limit.diagnostic)
        graph = None
    diagnostics.stop_if_failed()
    if graph is None and closed.likelihood.name not in LIKELIHOODS:
        raise SpecError(diagnostics)  # the settings are wrong, and nothing else is
    if graph is None:
        raise TypeError("a graph without output, and no diagnostic that says why")
    warnings = tuple(d for d in diagnostics if d.severity is Severity.WARNING)
    return Model(settings, closed.likelihood, graph, priors, closed.spec, warnings, closed.variants)


# Errors of the top level that others would only follow from.
_DECISIVE = (name_codes.RECURSION, name_codes.PRIORS_IN_A_CIRCLE, name_codes.RESERVED_NAME)


def _model(closed: Assembled, program: TopLevel, diagnostics: Diagnostics) -> tuple[Graph | None, Elaborator]:
    """Elaborate encoder and decoder; of priors over codes from a file, there is a graph without nodes."""
    settings, spec = closed.settings, closed.spec
    builder = GraphBuilder(settings.model, spec.span)
    elaborator = new_elaborator(program, builder, diagnostics)
    if settings.data.is_codes:
        for name, level in settings.data.levels.items():
            value = DistributionValue(Edge(0), (level.classes, *level.grid), CODES, level.classes, level.depth)
            elaborator.drawn[name] = [value]
        return Graph(settings.model, [], builder.root, [], Edge(0), None), elaborator
    shape = settings.data.shape
    image = builder.node(IMAGE, {"shape": shape}, (), (shape,), spec.span)
    out = elaborate_sections(elaborator, spec, Tensor(Edge(image.index), shape))
    if not elaborator.failed:
        for diagnostic in elaborator.taps.audit():
            diagnostics.add(diagnostic)
    if isinstance(out, Invalid) or elaborator.failed or out is None:
        return None, elaborator
    tensor, span = out
    if closed.logits is None:
        return None, elaborator
    if tensor.shape != (closed.logits, *shape[1:]):
        diagnostics.add(_wrong_output(tensor, span, closed.logits, shape, builder))
        return None, elaborator
    if closed.likelihood.name not in LIKELIHOODS:
        return None, elaborator
    output = builder.node(OUTPUT, {}, (tensor,), (tensor.shape,), span)
    builder.settle(Totals(elaborator.counts, len(builder.latents)))
    scored = LIKELIHOODS[closed.likelihood.name].parameters(shape, dict(closed.likelihood.options))
    graph = Graph(settings.model, builder.nodes, builder.root, builder.latents, Edge(output.index), shape, scored)
    return graph, elaborator


def _wrong_output(tensor: Tensor, span: Span, logits: int, image: Shape, builder: GraphBuilder) -> Diagnostic:
    return Diagnostic(
        shape_codes.WRONG_OUTPUT,
        "the decoder does not end as the likelihood needs it",
        span,
        shape_text(tensor.shape),
        f"{shape_text((logits, *image[1:]))}: the likelihood's {logits} channels at the image's size",
        "end the last row with `conv(1x1, logits)`"
        if tensor.shape[1:] == image[1:]
        else "add a row at the image's size",
    )


def new_elaborator(program: TopLevel, builder: GraphBuilder, diagnostics: Diagnostics) -> Elaborator:
    """Return an elaborator that knows the shared instances of the top level."""
    elaborator = Elaborator(program, builder, diagnostics)
    environment = Environment(Frame("model", None), Owner("model", "model"))
    for name, item in elaborator.program.shared.items():
        attribute, _ = builder.declare_shared(name)
        elaborator.shared[name] = SharedInstance(name, item.value, environment, builder.root, attribute)
    return elaborator


def _prior(item: tree.Prior, program: TopLevel, model: Elaborator, diagnostics: Diagnostics) -> Graph | None:
    """Elaborate one second-stage prior."""
    builder = GraphBuilder(item.name.id, item.span)
    elaborator = new_elaborator(program, builder, diagnostics)
    elaborator.drawn = model.drawn
    try:
        result = elaborate_prior(elaborator, item, model.failed)
    except Exhausted:
        raise
    except Fault as fault:
        diagnostics.add(fault.diagnostic)
        return None
    if result is None or elaborator.failed:
        return None
    output = builder.node(OUTPUT, {}, (result,), (result.shape,), item.body.span)
    builder.settle(Totals(elaborator.counts, len(model.builder.latents)))
    return Graph(item.name.id, builder.nodes, builder.root, [], Edge(output.index), None)
