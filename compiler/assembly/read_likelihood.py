"""Read the `likelihood` of a merged spec: arguments complete, checked against target and objective."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hvdsl.compiler.assembly.pixels import PixelFormula, V
from hvdsl.compiler.assembly.read_settings import Pixels
from hvdsl.compiler.catalogue.distributions import MEAN, checked_maps
from hvdsl.compiler.catalogue.likelihoods import CHOICE, LIKELIHOODS, LikelihoodEntry
from hvdsl.compiler.catalogue.rules import complete
from hvdsl.compiler.catalogue.table import OperationError
from hvdsl.compiler.diagnostics import settings as codes
from hvdsl.compiler.evaluate.binding import LIKELIHOOD, Slot
from hvdsl.compiler.evaluate.constants import Constants
from hvdsl.compiler.graph import Literal, Term
from hvdsl.compiler.settings import Data, ModelSettings, ObjectiveSettings
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics, Fault
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Span

_TOLERANCE = 1e-6  # of a target at the edge of its range, from rounding


@record
class Scored(Record):
    """A likelihood with every argument, and the channels that its parameters take."""

    term: Term
    logits: int


def read_likelihood(
    spec: tree.Spec,
    settings: ModelSettings | None,
    pixels: Pixels | None,
    lets: Mapping[str, tree.Expr],
    diagnostics: Diagnostics,
) -> Scored | None:
    """Return the complete likelihood of a spec; None where something is wrong, recorded in `diagnostics`."""
    written = next((item for item in spec.items if isinstance(item, tree.LikelihoodNode)), None)
    if written is None:
        return None
    with diagnostics.collecting():
        entry, args = _arguments(written.value, lets)
        if settings is None or pixels is None:
            return None
        _check_unit(entry, settings.objective, written.value.span)
        args = _check_target(entry, args, settings.data, pixels, written.value.span, diagnostics)
        return Scored(Term(entry.name, (), tuple(args.items())), entry.channels(settings.data.shape[0], args))
    return None


def _arguments(expr: tree.Expr, lets: Mapping[str, tree.Expr]) -> tuple[LikelihoodEntry, dict[str, Literal]]:
    """Name every argument, fill in the defaults, and check each by its type."""
    head = expr.function if isinstance(expr, tree.Call) else expr
    if isinstance(head, tree.Name) and head.id not in LIKELIHOODS and head.id not in lets:
        raise Fault(
            codes.UNKNOWN_LIKELIHOOD,
            f"there is no likelihood `{head.id}`",
            expr.span,
            f"`{head.id}`",
            ", ".join(f"`{n}`" for n in LIKELIHOODS),
            did_you_mean(head.id, LIKELIHOODS),
        )
    term = Constants(lets, reports=LIKELIHOOD).read(Slot(CHOICE, "", expr.span, LIKELIHOOD), expr)
    if not isinstance(term, Term):
        raise TypeError("a likelihood is a word")
    args = complete(term, CHOICE)
    try:
        if MEAN.name in args:
            checked_maps(args)
    except OperationError as error:
        raise Fault(codes.BAD_LIKELIHOOD, error.message, expr.span, error.found, error.expected) from None
    return LIKELIHOODS[term.name], args


def _check_unit(entry: LikelihoodEntry, objective: ObjectiveSettings, span: Span) -> None:
    if objective.unit not in entry.units:
        units = " or ".join(f"`{u}`" for u in entry.units)
        raise Fault(
            codes.UNIT_DOES_NOT_FIT,
            f"`{entry.name}` is not measured in `{objective.unit}`",
            span,
            f"`objective {{ unit = {objective.unit} }}`",
            units,
            f"write `unit = {entry.units[0]}`, or take another likelihood",
        )


def _check_target(
    entry: LikelihoodEntry,
    args: dict[str, Literal],
    data: Data,
    pixels: Pixels,
    likelihood: Span,
    diagnostics: Diagnostics,
) -> dict[str, Literal]:
    """Evaluate the target over every pixel value: its range and its grid must be the likelihood's."""
    if data.is_real:
        _check_real(entry, pixels, likelihood)
        return args
    if len(pixels.target.symbols) > 1:
        _check_several(entry, pixels, likelihood)
        _values("input", data, pixels.input)
        return args
    values = _target_values(data, pixels)
    if entry.range is not None:
        least, most = entry.range
        if values[0] < least - _TOLERANCE or values[-1] > most + _TOLERANCE:
            raise Fault(
                codes.TARGET_OUT_OF_RANGE,
                f"the target leaves the range of `{entry.name}`",
                pixels.place,
                f"values from {values[0]:.6g} to {values[-1]:.6g}",
                f"values from {least:g} to {most:g}",
                _range_help(entry, data),
            )
    if entry.name == "bernoulli" and any(v not in (0.0, 1.0) for v in values):
        diagnostics.add(
            Diagnostic(
                codes.SOFT_TARGET,
                "a Bernoulli likelihood of grey values is no density",
                pixels.place,
                f"{len(values)} values from {values[0]:.6g} to {values[-1]:.6g}",
                "0 or 1",
                "add `binarize = bernoulli` or `threshold` to `data` if its nats shall be comparable"
                if data.binarize == "none"
                else "`binarize` makes `v` 0 or 1: leave out `input`, or write `input = v`",
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


def _check_real(entry: LikelihoodEntry, pixels: Pixels, likelihood: Span) -> None:
    """Real pixels have no grid: the likelihood must be for real numbers, and the target a v + b, to be turned back."""
    if entry.discrete or entry.range is not None:
        raise Fault(
            codes.REAL_VALUES,
            f"`{entry.name}` is not for real numbers",
            likelihood,
            "`values = real` in `data`",
            " or ".join(f"`{name}`" for name in _for_real_numbers()),
            "write `likelihood normal`, or give `data` whole numbers of `bits`",
        )
    if len(pixels.target.symbols) > 1:
        return  # it is not turned back
    try:
        start, slope = pixels.target(0.0), pixels.target(1.0) - pixels.target(0.0)
        straight = all(
            math.isclose(pixels.target(v), start + slope * v, rel_tol=1e-6, abs_tol=1e-6 * abs(slope))
            for v in (-7.0, -0.5, 2.0, 1000.0)
        )
    except (ArithmeticError, ValueError):
        straight = slope = False
    if not straight or not slope:
        raise Fault(
            codes.REAL_VALUES,
            "the target of real numbers is no straight line",
            pixels.target.expr.span,
            f"`{pixels.target.text}`",
            "a v + b, so that what the model says can be turned back into numbers of the data",
            "write `target = (v - mean) / deviation` in `data`, with the numbers of yours",
        )


def _check_several(entry: LikelihoodEntry, pixels: Pixels, likelihood: Span) -> None:
    """A target of several images lies on no grid that is known here, nor in a range: its likelihood must need none."""
    if entry.discrete or entry.range is not None:
        raise Fault(
            codes.GRID_DOES_NOT_FIT,
            f"`{entry.name}` is not for a target of several images, which may be any number",
            likelihood,
            f"`{pixels.target.text}`",
            "a likelihood for real numbers: " + " or ".join(f"`{name}`" for name in _for_real_numbers()),
            "write `likelihood normal`",
        )


def _for_real_numbers() -> list[str]:
    return [name for name, other in LIKELIHOODS.items() if not other.discrete and other.range is None]


def _range_help(entry: LikelihoodEntry, data: Data) -> str:
    top = 2**data.bits - 1
    if entry.name == "bernoulli":
        return f"write `target = v / {top}`, or binarise the data and write `target = v`"
    key = "input" if data.input == V and data.target is None else "target"
    return f"write `{key} = 2 * v / {top} - 1` in `data`"


def _target_values(data: Data, pixels: Pixels) -> list[float]:
    """Return the target's distinct values, rising; equal but for rounding is equal."""
    _values("input", data, pixels.input)
    return sorted({round(value, 9) for value in _values("target", data, pixels.target)})


def _values(name: str, data: Data, mapped: PixelFormula) -> list[float]:
    """Return the value of a map for every pixel value."""
    raw = range(2) if data.binarize != "none" else range(2**data.bits)
    values = []
    for v in raw:
        try:
            value = mapped(float(v))
            finite = abs(value) < 1e30
        except (ArithmeticError, ValueError):
            finite = False
        if not finite:
            raise Fault(
                codes.BAD_PIXEL_MAP,
                f"`{name}` has no value at v = {v}",
                mapped.expr.span,
                f"`{mapped.text}`",
                f"a number for every pixel from 0 to {raw[-1]}",
                "no division by zero, root or logarithm outside its range",
            )
        values.append(value)
    return values


def _bits(entry: LikelihoodEntry, bits: Literal, values: list[float], place: Span, likelihood: Span) -> int:
    """Return the bits of the target's grid: those stated, or those that its values say."""
    for candidate in range(1, 17) if bits is None else ():
        if 2**candidate == len(values):
            return candidate
    if isinstance(bits, int) and 2**bits == len(values):
        return bits
    stated = f"{bits} bits, which are {2**bits} values" if isinstance(bits, int) else "a power of two"
    near = max(1, (len(values) - 1).bit_length())
    raise Fault(
        codes.GRID_DOES_NOT_FIT,
        f"the target's grid is not that of `{entry.name}`",
        likelihood if bits is not None else place,
        f"a target of {len(values)} distinct values",
        stated,
        f"write `bits = {near}` in the likelihood" if 2**near == len(values) else "let `target` take 2^bits values",
    )
