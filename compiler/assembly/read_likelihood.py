"""Read the `likelihood` of a merged spec: arguments complete, checked against target and objective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hvdsl.compiler.assembly.read_settings import Pixels
from hvdsl.compiler.catalogue.distributions import MEAN, SCALE, check_map
from hvdsl.compiler.catalogue.likelihoods import LIKELIHOODS, Likelihood
from hvdsl.compiler.catalogue.table import Argument, ArgumentType, OperationError, Required
from hvdsl.compiler.diagnostics import settings as codes
from hvdsl.compiler.evaluate.arithmetic import describe, is_number
from hvdsl.compiler.evaluate.constants import constant
from hvdsl.compiler.graph import Literal, Term
from hvdsl.compiler.settings import Data, ModelSettings, Objective
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Code, Diagnostic, Diagnostics, SpecError
from hvdsl.grammar.source import Span

_TOLERANCE = 1e-6  # of a target at the edge of its range, from rounding


@dataclass(frozen=True, slots=True)
class Scored:
    """A likelihood with every argument, and the channels that its parameters take."""

    term: Term
    logits: int


def read_likelihood(
    spec: tree.Spec,
    settings: ModelSettings | None,
    pixels: Pixels | None,
    lets: Mapping[str, tree.Expr],
    found: Diagnostics,
) -> Scored | None:
    """Return the complete likelihood of a spec; None where something is wrong, recorded in `found`."""
    written = next((item for item in spec.items if isinstance(item, tree.Likelihood)), None)
    if written is None:
        return None
    try:
        entry, args = _arguments(written.value, lets)
        if settings is None or pixels is None:
            return None
        _check_unit(entry, settings.objective, written.value.span)
        args = _check_target(entry, args, settings.data, pixels, written.value.span, found)
    except SpecError as error:
        for diagnostic in error.diagnostics:
            found.add(diagnostic)
        return None
    return Scored(Term(entry.name, (), tuple(args.items())), entry.channels(settings.data.shape[0], args))


def _fail(code: Code, message: str, span: Span, found: str, expected: str, help: str) -> SpecError:
    return SpecError([Diagnostic(code, message, span, found, expected, help)])


def _arguments(expr: tree.Expr, lets: Mapping[str, tree.Expr]) -> tuple[Likelihood, dict[str, Literal]]:
    """Name every argument, fill in the defaults, and check each by its type."""
    term = constant(expr, lets)
    if not isinstance(term, Term) or term.name not in LIKELIHOODS:
        name = term.name if isinstance(term, Term) else describe(term)
        raise _fail(
            codes.UNKNOWN_LIKELIHOOD,
            f"there is no likelihood `{name}`",
            expr.span,
            f"`{name}`",
            ", ".join(f"`{n}`" for n in LIKELIHOODS),
            did_you_mean(name, LIKELIHOODS),
        )
    entry = LIKELIHOODS[term.name]
    names = [a.name for a in entry.arguments]
    if len(term.args) > len(names):
        taken = ", ".join(f"`{n}`" for n in names) or "no arguments"
        raise _fail(
            codes.BAD_LIKELIHOOD,
            f"too many arguments for `{entry.name}`",
            expr.span,
            f"{len(term.args)} without a name",
            taken,
            "remove what is too much",
        )
    given = dict(zip(names, term.args, strict=False))
    for name, value in term.options:
        if name not in names or name in given:
            what = "is given twice" if name in given else "is no argument"
            raise _fail(
                codes.BAD_LIKELIHOOD,
                f"`{name}` {what} of `{entry.name}`",
                _place(expr, name),
                f"`{name}`",
                f"an argument of `{entry.name}`, once",
                "give it once" if name in given else did_you_mean(name, names),
            )
        given[name] = value
    return entry, {a.name: _checked(entry, a, given, expr) for a in entry.arguments}


def _place(expr: tree.Expr, name: str, position: int | None = None) -> Span:
    """Return where an argument is written, or else the whole likelihood."""
    if isinstance(expr, tree.Call):
        for i, argument in enumerate(expr.arguments):
            if argument.name == name or (argument.name is None and i == position):
                return argument.value.span
    return expr.span


def _checked(entry: Likelihood, argument: Argument, given: dict[str, Literal], expr: tree.Expr) -> Literal:
    if argument.name not in given:
        if isinstance(argument.default, Required):
            raise _fail(
                codes.BAD_LIKELIHOOD,
                f"`{entry.name}` needs `{argument.name}`",
                expr.span,
                "nothing",
                f"`{argument.name}`: {argument.doc}",
                f"write `{entry.name}({argument.name} = …)`",
            )
        return argument.default
    value = given[argument.name]
    if isinstance(value, str) and argument.type is ArgumentType.WORD:
        value = Term(value)
    if value == argument.default or _fits(argument, value):
        return value
    expected = {
        ArgumentType.INTEGER: "a positive whole number" if argument.name != "crop" else "a whole number from 0",
        ArgumentType.NUMBER: "a number",
    }.get(argument.type, "one of " + ", ".join(f"`{w}`" for w in argument.words))
    position = [a.name for a in entry.arguments].index(argument.name)
    near = did_you_mean(value.name, argument.words) if isinstance(value, Term) and argument.words else "correct it"
    raise _fail(
        codes.BAD_LIKELIHOOD,
        f"this is no value for `{argument.name}` of `{entry.name}`",
        _place(expr, argument.name, position),
        describe(value),
        f"{expected} ({argument.doc})",
        near,
    )


def _fits(argument: Argument, value: Literal) -> bool:
    if argument.type is ArgumentType.INTEGER:
        least = 0 if argument.name == "crop" else 1
        most = 16 if argument.name == "bits" else 1000
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    if argument.type is ArgumentType.NUMBER:
        return is_number(value)
    if not isinstance(value, Term) or value.name not in argument.words:
        return False
    if argument in (MEAN, SCALE):
        try:
            check_map(argument, value)
        except OperationError:
            return False
        return True
    if value.name == "softplus":  # softplus(beta), the slope's sharpness
        numbers = [*value.args, *(v for name, v in value.options if name == "beta")]
        whole = len(numbers) == len(value.args) + len(value.options) <= 1
        return whole and all(isinstance(n, int | float) and is_number(n) and n > 0 for n in numbers)
    return not value.args and not value.options


def _check_unit(entry: Likelihood, objective: Objective, span: Span) -> None:
    if objective.unit not in entry.units:
        units = " or ".join(f"`{u}`" for u in entry.units)
        raise _fail(
            codes.UNIT_DOES_NOT_FIT,
            f"`{entry.name}` is not measured in `{objective.unit}`",
            span,
            f"`objective {{ unit = {objective.unit} }}`",
            units,
            f"write `unit = {entry.units[0]}`, or take another likelihood",
        )


def _check_target(
    entry: Likelihood,
    args: dict[str, Literal],
    data: Data,
    pixels: Pixels,
    likelihood: Span,
    found: Diagnostics,
) -> dict[str, Literal]:
    """Evaluate the target over every pixel value: its range and its grid must be the likelihood's."""
    if data.is_real:
        _check_real(entry, pixels, likelihood)
        return args
    values = _target_values(data, pixels)
    if entry.range is not None:
        least, most = entry.range
        if values[0] < least - _TOLERANCE or values[-1] > most + _TOLERANCE:
            raise _fail(
                codes.TARGET_OUT_OF_RANGE,
                f"the target leaves the range of `{entry.name}`",
                pixels.place,
                f"values from {values[0]:.6g} to {values[-1]:.6g}",
                f"values from {least:g} to {most:g}",
                _range_help(entry, data),
            )
    if entry.name == "bernoulli" and any(v not in (0.0, 1.0) for v in values):
        found.add(
            Diagnostic(
                codes.SOFT_TARGET,
                "a Bernoulli likelihood of grey values is no density",
                pixels.place,
                f"{len(values)} values from {values[0]:.6g} to {values[-1]:.6g}",
                "0 or 1",
                "add `binarize = bernoulli` or `threshold` to `data` if its nats shall be comparable",
            )
        )
    if not entry.discrete:
        return args
    if "bin" in args and args["bin"] is None and len(values) > 1:
        args = args | {"bin": (values[-1] - values[0]) / (len(values) - 1)}
    for end, value in (("low", values[0]), ("high", values[-1])):
        if end in args and args[end] is None:
            args = args | {end: value}
    return args | {"bits": _bits(entry, args.get("bits"), values, pixels.place, likelihood)}


def _check_real(entry: Likelihood, pixels: Pixels, likelihood: Span) -> None:
    """Real pixels have no grid: the likelihood must be for real numbers, and the target a v + b, to be turned back."""
    if entry.discrete or entry.range is not None:
        fitting = [name for name, other in LIKELIHOODS.items() if not other.discrete and other.range is None]
        raise _fail(
            codes.REAL_VALUES,
            f"`{entry.name}` is not for real numbers",
            likelihood,
            "`values = real` in `data`",
            " or ".join(f"`{name}`" for name in fitting),
            "write `likelihood normal`, or give `data` whole numbers of `bits`",
        )
    try:
        start, slope = pixels.target(0.0), pixels.target(1.0) - pixels.target(0.0)
        straight = all(
            math.isclose(pixels.target(v), start + slope * v, rel_tol=1e-6, abs_tol=1e-6 * abs(slope))
            for v in (-7.0, -0.5, 2.0, 1000.0)
        )
    except (ArithmeticError, ValueError):
        straight = slope = False
    if not straight or not slope:
        raise _fail(
            codes.REAL_VALUES,
            "the target of real numbers is no straight line",
            pixels.target.expr.span,
            f"`{pixels.target.text}`",
            "a v + b, so that what the model says can be turned back into numbers of the data",
            "write `target = (v - mean) / deviation` in `data`, with the numbers of yours",
        )


def _range_help(entry: Likelihood, data: Data) -> str:
    top = 2**data.bits - 1
    if entry.name == "bernoulli":
        return f"write `target = v / {top}`, or binarise the data and write `target = v`"
    return f"write `target = 2 * v / {top} - 1` in `data`"


def _target_values(data: Data, pixels: Pixels) -> list[float]:
    """Return the target's distinct values, rising; equal but for rounding is equal."""
    raw = range(2) if data.binarize != "none" else range(2**data.bits)
    for name, pixel_map in (("input", pixels.input), ("target", pixels.target)):
        for v in raw:
            try:
                value = pixel_map(float(v))
                finite = abs(value) < 1e30
            except (ArithmeticError, ValueError):
                finite = False
            if not finite:
                raise _fail(
                    codes.BAD_PIXEL_MAP,
                    f"`{name}` has no value at v = {v}",
                    pixel_map.expr.span,
                    f"`{pixel_map.text}`",
                    f"a number for every pixel from 0 to {raw[-1]}",
                    "no division by zero, root or logarithm outside its range",
                )
    return sorted({round(pixels.target(float(v)), 9) for v in raw})


def _bits(entry: Likelihood, bits: Literal, values: list[float], place: Span, likelihood: Span) -> int:
    """Return the bits of the target's grid: those stated, or those that its values say."""
    for candidate in range(1, 17) if bits is None else ():
        if 2**candidate == len(values):
            return candidate
    if isinstance(bits, int) and 2**bits == len(values):
        return bits
    stated = f"{bits} bits, which are {2**bits} values" if isinstance(bits, int) else "a power of two"
    near = max(1, (len(values) - 1).bit_length())
    raise _fail(
        codes.GRID_DOES_NOT_FIT,
        f"the target's grid is not that of `{entry.name}`",
        likelihood if bits is not None else place,
        f"a target of {len(values)} distinct values",
        stated,
        f"write `bits = {near}` in the likelihood" if 2**near == len(values) else "let `target` take 2^bits values",
    )
