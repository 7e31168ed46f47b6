"""Binding: what is written in the parentheses of a call, matched to what is declared and checked against it.

One set of rules for operations, distributions, likelihoods, recipes and the words of settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hvdsl.compiler.catalogue.table import ANY_NUMBER, Argument, ArgumentType, Required
from hvdsl.compiler.diagnostics import settings as setting_codes
from hvdsl.compiler.diagnostics import values as codes
from hvdsl.compiler.evaluate.arithmetic import Deferred, describe, is_number
from hvdsl.compiler.graph import Literal, Term
from hvdsl.compiler.suggest import did_you_mean
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Code, Fault
from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Span


@record
class Reports(Record):
    """The codes under which mistakes in one kind of call are reported."""

    unknown: Code  # an argument that is not declared, is one too many or is given twice
    missing: Code
    wrong: Code  # a value of another kind, or out of range
    fraction: Code  # a fraction where a whole number is wanted


OPERATION = Reports(codes.WRONG_ARGUMENTS, codes.WRONG_ARGUMENTS, codes.WRONG_KIND, codes.NOT_AN_INTEGER)
SETTING = Reports(
    setting_codes.UNKNOWN_SETTING, setting_codes.MISSING_SETTING, setting_codes.BAD_SETTING, setting_codes.BAD_SETTING
)
LIKELIHOOD = Reports(*(setting_codes.BAD_LIKELIHOOD,) * 4)


def call_signature(name: str, declared: Sequence[Argument]) -> str:
    """Return a call with its arguments, as `conv(kernel, out, stride = 1x1)`."""
    if not declared:
        return f"{name} without arguments"
    parts = []
    for a in declared:
        if a.many:
            parts.append(f"{a.name}…")
        elif isinstance(a.default, Required):
            parts.append(a.name)
        else:
            parts.append(f"{a.name} = {describe(a.default)}")
    return f"{name}({', '.join(parts)})"


Pairs: TypeAlias = "list[tuple[Argument, tree.ArgumentNode]]"


def match(name: str, declared: Sequence[Argument], arguments: Sequence[tree.ArgumentNode], reports: Reports) -> Pairs:
    """Pair what is written with what is declared, in the order of writing.

    Raises:
        Fault: for an argument that is not declared, is one too many, or is given twice.
    """
    pairs: Pairs = []
    positional = iter(declared)
    rest: Argument | None = None
    taken: set[str] = set()
    for written in arguments:
        if written.name is None:
            rest = rest or next(positional, None)
            if rest is None:
                raise Fault(
                    reports.unknown,
                    f"`{name}` takes fewer arguments",
                    written.span,
                    f"`{written.span.text}`",
                    f"`{call_signature(name, declared)}`",
                    _decimal_point(written) or "remove what is too much",
                )
            argument = rest
            rest = rest if rest.many else None
        else:
            argument = _named(name, declared, written, reports)
        if argument.name in taken and not argument.many:
            raise Fault(
                reports.unknown,
                f"`{name}` is given `{argument.name}` twice",
                written.span,
                f"`{written.span.text}`",
                f"`{argument.name}` once",
                "remove one of the two",
            )
        taken.add(argument.name)
        pairs.append((argument, written))
    return pairs


def _decimal_point(written: tree.ArgumentNode) -> str:
    """What to write where a comma stands in the place of a decimal point: `0,1` without a space."""
    text, start, digits = written.span.source.text, written.span.start, written.span.text
    if start < 2 or text[start - 1] != "," or not text[start - 2].isdigit() or not digits.isdigit():
        return ""
    whole = re.search(r"\d+$", text[: start - 1])
    return f"a number has a decimal point: write `{whole[0] if whole else ''}.{digits}`"


def _named(name: str, declared: Sequence[Argument], written: tree.ArgumentNode, reports: Reports) -> Argument:
    for argument in declared:
        if argument.name == written.name:
            return argument
    names = [argument.name for argument in declared]
    raise Fault(
        reports.unknown,
        f"`{name}` has no argument `{written.name}`",
        written.span,
        f"`{written.name}`",
        f"`{call_signature(name, declared)}`",
        _one_tensor(name, names, written.name or "")
        or (did_you_mean(written.name or "", names) if names else f"write `{name}` alone"),
    )


def _one_tensor(name: str, names: Sequence[str], wanted: str) -> str:
    """What to write where a distribution is given location and scale apart, as papers and torch do."""
    if "params" not in names or wanted.lower() not in {"mu", "loc", "sigma", "std", "logvar", "log_var", "log_sigma"}:
        return ""
    return f"mean and raw scale are one tensor, `{name}(concat(a, b))`; `scale = …` says how the raw scale is read"


def missing(name: str, argument: Argument, declared: Sequence[Argument], span: Span, reports: Reports) -> Fault:
    """Return the fault of a call that leaves out what has no default."""
    return Fault(
        reports.missing,
        f"`{name}` needs `{argument.name}`",
        span,
        "nothing",
        f"`{argument.name}`" + (f": {argument.doc}" if argument.doc else ""),
        f"`{call_signature(name, declared)}`",
    )


@dataclass(slots=True)
class Slot:
    """Where a value goes: the argument, what it belongs to, where it is written, how mistakes are reported."""

    argument: Argument
    owner: str
    span: Span
    reports: Reports
    example: str = ""


def accept(slot: Slot, value: object) -> Literal:
    """Return a value in the form that an argument has: an integral number is an integer where one is wanted.

    Raises:
        Fault: for a value of another kind, a fraction, a number out of bounds, or one made of `count` where only a
            scale may be.
    """
    argument = slot.argument
    if type(value) is int and argument.type is ArgumentType.INTEGER and argument.bounds is ANY_NUMBER:
        return value  # most arguments
    if isinstance(value, Deferred) and argument.type not in (ArgumentType.NUMBER, ArgumentType.ANY):
        raise Fault(
            codes.COUNT_IN_SHAPE,
            f"`{argument.name}` cannot depend on `count` or `latents`",
            slot.span,
            describe(value),
            "a number that is known before everything is placed",
            "`count` and `latents` are for scales and initial values",
        )
    form: Argument | None = argument
    while form is not None:
        accepted = _fit(form, value, slot)
        if not isinstance(accepted, _Misfit):
            return accepted
        form = form.other
    if argument.type is ArgumentType.INTEGER and isinstance(value, float) and not value.is_integer():
        raise Fault(
            slot.reports.fraction,
            f"`{argument.name}` is not a whole number",
            slot.span,
            describe(value),
            expected(argument),
            "write `floor(…)` to round down",
        )
    of = f" of `{slot.owner}`" if slot.owner else ""
    raise Fault(
        slot.reports.wrong,
        f"this is no value for `{argument.name}`{of}",
        slot.span,
        describe(value),
        expected(argument),
        "read an entry of it, as in `width[res]`"
        if isinstance(value, tree.MapNode)
        else slot.example or argument.doc or "correct the value",
    )


class _Misfit:
    pass


_MISFIT = _Misfit()


def _fit(argument: Argument, value: object, slot: Slot) -> Literal | _Misfit:
    if value is None:
        return None if argument.default is None or "none" in argument.words else _MISFIT
    if isinstance(value, str) and value in argument.words:
        value = Term(value)
    if isinstance(value, Term):
        if value.name not in argument.words:
            return value if argument.type is ArgumentType.ANY else _MISFIT
        return _fit_word(argument, value, slot) if argument.calls or value.args or value.options else value
    if isinstance(value, bool):
        return value if argument.type in (ArgumentType.SWITCH, ArgumentType.ANY) else _MISFIT
    match argument.type:
        case ArgumentType.INTEGER:
            whole = _whole(value)
            return whole if whole is not None and argument.bounds.hold(whole) else _MISFIT
        case ArgumentType.NUMBER:
            if isinstance(value, int | float) and (isinstance(value, Deferred) or argument.bounds.hold(value)):
                return value
        case ArgumentType.KERNEL:
            sizes = kernel(value)
            return _MISFIT if sizes is None else sizes
        case ArgumentType.SHAPE:
            lengths = tuple(map(_whole, value)) if isinstance(value, tuple | list) else ()
            return _MISFIT if None in lengths or not lengths else lengths
        case ArgumentType.TUPLE:
            if isinstance(value, tuple | list) and len(value) == len(argument.items):
                parts = [_fit(item, v, slot) for item, v in zip(argument.items, value, strict=True)]
                if not any(isinstance(p, _Misfit) for p in parts):
                    return tuple(p for p in parts if not isinstance(p, _Misfit))
        case ArgumentType.TEXT:
            return value if isinstance(value, str) else _MISFIT
    return _MISFIT


def _fit_word(argument: Argument, value: Term, slot: Slot) -> Literal:
    """Check the arguments of a word that was bound elsewhere, as where a recipe hands it on."""
    takes = argument.takes(value.name)
    if not takes and not value.args and not value.options:
        return value
    declared = {a.name: a for a in takes}
    given = dict(zip(declared, value.args, strict=False)) | dict(value.options)
    if len(value.args) > len(declared) or not given.keys() <= declared.keys():
        text = call_signature(value.name, tuple(declared.values()))
        raise Fault(
            slot.reports.unknown,
            f"`{value.name}` does not take these arguments",
            slot.span,
            describe(value),
            f"`{text}`",
            "correct its arguments",
        )
    for name, one in declared.items():
        if name in given:
            accept(Slot(one, value.name, slot.span, slot.reports), given[name])
        elif isinstance(one.default, Required):
            raise missing(value.name, one, tuple(declared.values()), slot.span, slot.reports)
    return value


def _whole(value: object) -> int | None:
    if isinstance(value, int | float) and is_number(value) and float(value).is_integer():
        return value if isinstance(value, int) else int(value)
    return None


def kernel(value: object) -> tuple[int, int] | None:
    """Return a kernel, stride or row's label as (height, width): `3`, `3x3` or `(3, 3)`; None for anything else."""
    if type(value) is int:
        return value, value
    if type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int:
        return value  # most kernels
    sizes = value if isinstance(value, tuple | list) else (value, value)
    match [_whole(size) for size in sizes]:
        case [int(height), int(width)]:
            return height, width
    return None


_KINDS: Mapping[ArgumentType, str] = {
    ArgumentType.INTEGER: "a whole number",
    ArgumentType.NUMBER: "a number",
    ArgumentType.SWITCH: "`yes` or `no`",
    ArgumentType.KERNEL: "a kernel such as `3`, `3x3` or `(3, 1)`",
    ArgumentType.SHAPE: "a shape such as `1x28x28`",
    ArgumentType.TEXT: "a text in quotes",
    ArgumentType.PIXELS: "arithmetic on `v`",
    ArgumentType.MAP: 'a map of patterns such as `["encoder.*": frozen]`',
    ArgumentType.TENSOR: "a tensor",
    ArgumentType.DISTRIBUTION: "a distribution",
    ArgumentType.STEP: "a step",
    ArgumentType.ANY: "a value",
}


def expected(argument: Argument) -> str:
    """Return what an argument may be, in words."""
    parts: list[str] = []
    if argument.type is ArgumentType.TUPLE:
        parts.append(_tuple(argument.items))
    elif argument.type is not ArgumentType.WORD:
        parts.append(_KINDS[argument.type] + (str(argument.bounds) if argument.bounds != ANY_NUMBER else ""))
    if argument.type is not ArgumentType.ANY:
        words = [f"`{word}({', '.join(a.name for a in argument.takes(word))})`" for word in argument.words]
        parts += [word.replace("()", "") for word in words]
    if argument.default is None and "none" not in argument.words:
        parts.append("`none`")
    if argument.other is not None:
        parts.append(expected(argument.other))
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}" if parts else "one of its words"


def _tuple(items: Sequence[Argument]) -> str:
    kinds = {_KINDS.get(item.type, "a value").removeprefix("a ") + str(item.bounds) for item in items}
    inner = f"{kinds.pop()}" if len(kinds) == 1 else "values"
    plural = inner.replace("number", "numbers", 1)
    example = "`(0.9, 0.999)`" if items[0].type is ArgumentType.NUMBER else _TUPLES.get(len(items), "`(…)`")
    return f"{len(items)} {plural} as {example}"


_TUPLES = {2: "`8x6`", 3: "`3x32x32`", 4: "`(0, 0, 2, 2)`"}
