"""Encoder, decoder and priors: rows at their labels, and where what flows begins and ends."""

from __future__ import annotations

from hvdsl.compiler.catalogue.rules import shape_text
from hvdsl.compiler.catalogue.structure import CODES, GIVEN
from hvdsl.compiler.diagnostics import names as name_codes
from hvdsl.compiler.diagnostics import shapes as shape_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.elaboration.arguments import static
from hvdsl.compiler.elaboration.environment import Environment, Frame, Owner
from hvdsl.compiler.elaboration.interpreter import Interpreter
from hvdsl.compiler.elaboration.nodes import add_node
from hvdsl.compiler.elaboration.statements import execute
from hvdsl.compiler.elaboration.taps import size_label
from hvdsl.compiler.elaboration.values import DistributionValue, Flowing, Tensor, Unshaped, Value, first
from hvdsl.compiler.evaluate import arithmetic
from hvdsl.compiler.evaluate.arithmetic import INVALID, Invalid, describe
from hvdsl.compiler.graph import Literal
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Exhausted, Fault
from hvdsl.grammar.source import Span


def elaborate_sections(
    interpreter: Interpreter, spec: tree.Spec, image: Tensor
) -> tuple[Tensor, Span] | Invalid | None:
    """Elaborate encoder and decoder; return what leaves the last row, and its place."""
    sections = {i.kind: i for i in spec.items if isinstance(i, tree.Section)}
    for kind in ("encoder", "decoder"):
        if kind not in sections:
            interpreter.diagnostics.add(
                Diagnostic(name_codes.NO_SECTION, f"the spec has no {kind}", spec.span, expected=f"`{kind} {{ … }}`")
            )
            interpreter.failed = True
            return INVALID
    _section(interpreter, sections["encoder"], image)
    decoder = sections["decoder"]
    out = _section(interpreter, decoder, ())
    rows = [r for r in decoder.rows if isinstance(r, tree.Row)]
    if isinstance(out, Invalid) or not rows:
        return INVALID
    if isinstance(out, Tensor):
        return out, rows[-1].value.span
    interpreter.failed = True
    interpreter.diagnostics.add(
        Diagnostic(
            shape_codes.WRONG_OUTPUT,
            "the decoder ends with more than one tensor",
            rows[-1].value.span,
            describe(out),
            "one tensor with `logits` channels",
        )
    )
    return INVALID


def _section(interpreter: Interpreter, section: tree.Section, start: Flowing) -> Flowing:
    """Elaborate a section; `start` is what flows into its first row, `()` for nothing."""
    builder = interpreter.builder
    owner = Owner("row", section.kind)
    outer = Environment(Frame(section.kind, None), owner, names={"x": start})
    if start == ():
        del outer.names["x"]
    interpreter.section_defaults = outer
    labels: dict[tuple[int, int], Span] = {}
    with builder.enter("section", section.kind, section.span):
        for row in section.rows:
            if not isinstance(row, tree.Row):
                execute(interpreter, row, outer)
                continue
            try:
                label = _label(interpreter, row, outer, section, labels)
                _row(interpreter, row, label, outer, section)
            except Exhausted:
                raise
            except Fault as fault:
                interpreter.diagnostics.add(fault.diagnostic)
                interpreter.failed = True
                outer.names["x"] = INVALID
    interpreter.section_defaults = None
    result = outer.names.get("x", INVALID)
    if not labels and not interpreter.failed:
        interpreter.diagnostics.add(
            Diagnostic(
                name_codes.NO_SECTION,
                f"the {section.kind} has no rows",
                section.span,
                expected="a row, as `8: …`",
            )
        )
        interpreter.failed = True
    if result is None or isinstance(result, Tensor | Invalid):
        return result
    if isinstance(result, tuple):
        return tuple(v for v in result if v is None or isinstance(v, Tensor | Invalid))
    return INVALID


def _label(
    interpreter: Interpreter,
    row: tree.Row,
    outer: Environment,
    section: tree.Section,
    labels: dict[tuple[int, int], Span],
) -> tuple[int, int]:
    """Evaluate a label; labels are unique, fall in the encoder and rise in the decoder."""
    value = static(interpreter.evaluate(row.label, outer))
    if isinstance(value, tuple) and len(value) == 2:
        height, width = (arithmetic.as_integer(v, row.label.span, "a label") for v in value)
    elif arithmetic.is_number(value):
        height = width = arithmetic.as_integer(value, row.label.span, "a label")
    else:
        raise Fault(
            codes.WRONG_KIND,
            "a label is a resolution",
            row.label.span,
            describe(value),
            "`32`, `8x6` or an expression",
        )
    label = (height, width)
    if labels:
        before = next(reversed(labels))
        falling = section.kind == "encoder"
        if label == before or (label > before) == falling:
            raise Fault(
                shape_codes.ROW_ORDER,
                f"row {size_label(label)} is out of order",
                row.label.span,
                f"{size_label(label)} after {size_label(before)}",
                "labels that fall" if falling else "labels that rise",
            )
    labels[label] = row.label.span
    return label


def _row(
    interpreter: Interpreter, row: tree.Row, label: tuple[int, int], outer: Environment, whole: tree.Section
) -> None:
    """Elaborate one row. Its braces are no scope: what it binds, later rows see."""
    section = whole.kind
    stream = _flowing(outer.names.get("x"))
    if section == "encoder":
        _check_label(stream, label, row, "begins", whole)
    interpreter.place = section, label
    frame = Frame(section, label, stream, is_row=True)
    environment = Environment(frame, Owner("row", size_label(label)), None, outer.names)
    environment.parent = outer
    name = f"r{size_label(label)}"
    with interpreter.builder.enter("row", name, row.span):
        if isinstance(row.value, tree.Block):
            environment.body = row.value
            for statement in row.value.statements:
                execute(interpreter, statement, environment)
        else:
            execute(interpreter, tree.Bare(row.value, span=row.value.span), environment)
    if section == "decoder":
        left = outer.names.get("x", INVALID)
        if isinstance(left, Unshaped):
            raise TypeError("an unshaped value flows")
        _check_label(_flowing(left), label, row, "ends")


def _flowing(value: Value | None) -> Flowing:
    """What of a row's `x` flows: streams, one or several."""
    if isinstance(value, tuple):
        return tuple(part for part in value if part is None or isinstance(part, Tensor | Invalid))
    return value if isinstance(value, Tensor | Invalid) else None


def _check_label(
    stream: Flowing, label: tuple[int, int], row: tree.Row, what: str, section: tree.Section | None = None
) -> None:
    if isinstance(stream, Invalid):
        return
    tensor = first(stream)
    if tensor is not None and tensor.shape[1:] != label:
        size = size_label(tensor.shape[1:])
        rows = () if section is None else section.rows[section.rows.index(row) + 1 :]
        is_later = any(isinstance(later, tree.Row) and later.label.span.text == size for later in rows)
        raise Fault(
            shape_codes.ROW_LABEL,
            f"row {size_label(label)} {what} at {size_label(tensor.shape[1:])}",
            row.label.span,
            f"a tensor of {shape_text(tensor.shape)}",
            f"a tensor at {size_label(label)}",
            f"row {size} has to come first: the labels of an encoder fall"
            if is_later
            else "correct the label, or how the row before changes the resolution"
            if what == "begins"
            else "correct the label, or how the row changes the resolution",
        )


def elaborate_prior(interpreter: Interpreter, item: tree.Prior, incomplete: bool) -> Tensor | None:
    """Elaborate the second-stage prior of a discrete latent; return its logits."""
    builder = interpreter.builder
    codes_of: dict[str, Tensor] = {}
    z: DistributionValue | None = None
    for name in (item.name, *item.given):
        drawn = _drawn(interpreter, name, incomplete)
        if drawn is None:
            interpreter.failed = True
            return None
        z = z or drawn
        classes, size, depth = drawn.classes or 0, drawn.shape[1:], drawn.depth
        if name is item.name:
            own: dict[str, Literal] = {"name": name.id, "classes": classes, "grid": size, "depth": depth}
            codes_of[name.id] = add_node(interpreter, CODES, own, (), name.span)
        else:
            given: dict[str, Literal] = {
                "name": name.id,
                "shape": (classes * depth, *size),
                "classes": classes,
                "depth": depth,
                "source": "codes",
            }
            codes_of[name.id] = add_node(interpreter, GIVEN, given, (), name.span)
    if z is None:
        raise TypeError("a prior of nothing")
    x = codes_of.pop(item.name.id)
    label = z.shape[1:]
    names: dict[str, Value] = {"x": x, **codes_of}
    environment = Environment(Frame("prior", label, x), Owner("prior", item.name.id), names=names)
    interpreter.section_defaults, interpreter.place = environment, ("prior", label)
    with builder.enter("section", "prior", item.span):
        interpreter.run(item.body, environment)
    result = environment.names["x"]
    if isinstance(result, Invalid) or interpreter.failed:
        return None
    logits = (z.classes or 0) * z.depth
    if isinstance(result, Tensor) and result.shape == (logits, *label):
        return result
    raise Fault(
        shape_codes.WRONG_PRIOR,
        f"the prior of `{item.name.id}` does not end with its logits",
        item.body.statements[-1].span if item.body.statements else item.name.span,
        describe(result),
        f"{shape_text((logits, *label))}: a logit for each code at each position"
        + (f", the {z.depth} depths one after the other" if z.depth > 1 else ""),
        f"end it with `conv(1x1, {z.classes})`" + (" for each depth, in `concat(…)`" if z.depth > 1 else ""),
    )


def _discrete(interpreter: Interpreter) -> list[str]:
    """Return the latents that have codes."""
    return [name for name, drawn in interpreter.drawn.items() if len(drawn) == 1 and drawn[0].classes is not None]


def _drawn(interpreter: Interpreter, name: tree.Name, incomplete: bool) -> DistributionValue | None:
    """Find the discrete latent that a prior speaks of."""
    drawn = interpreter.drawn.get(name.id, [])
    if not drawn and incomplete:
        return None
    if len(drawn) != 1 or drawn[0].classes is None:
        found = (
            "no latent"
            if not drawn
            else f"{len(drawn)} latents"
            if len(drawn) > 1
            else f"a latent of `{drawn[0].family}`"
        )
        raise Fault(
            name_codes.NOT_A_DISCRETE_LATENT,
            f"`{name.id}` has no codes",
            name.span,
            found,
            "one of the `levels` of `data codes`"
            if interpreter.program.of_codes
            else "a discrete latent that the decoder draws in one place",
            did_you_mean(name.id, discrete) if (discrete := _discrete(interpreter)) else "",
        )
    return drawn[0]
