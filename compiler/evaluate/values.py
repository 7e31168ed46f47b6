"""Values that stand for something else: what could not be made, and numbers that are known later."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum

from hvdsl.compiler.graph import Literal, Term, Written
from hvdsl.grammar.record import Record, record


class Invalid(Enum):
    INVALID = "invalid"

    def __repr__(self) -> str:
        return "INVALID"


INVALID = Invalid.INVALID
"""What could not be made: whatever touches it is invalid too, without a second report."""


class Described(ABC):
    """A value that no spec can write down: messages say what it is in these words."""

    __slots__ = ()

    @property
    @abstractmethod
    def described(self) -> str:
        """What the value is, as a message says it."""


@record
class Totals(Record):
    """How often each recipe was placed, by (section, recipe), and how many latents the model has."""

    counts: Mapping[tuple[str, str], int]
    latents: int


class Deferred(float, Described):
    """A number made of `count` or `latents`, which are known when everything is placed.

    Until then it stands as 1.0 wherever a number is stored; `resolve` puts the true value in its place.
    """

    compute: Callable[[Totals], float | int]
    text: str = ""  # of the expression

    def __new__(cls, compute: Callable[[Totals], float | int]) -> Deferred:
        self = super().__new__(cls, 1.0)
        self.compute = compute
        return self

    @property
    def described(self) -> str:
        return "a number made of `count` or `latents`"


def deferred(compute: Callable[..., object], *operands: object) -> Deferred:
    """Postpone a computation of which at least one operand is deferred."""

    def later(totals: Totals) -> float | int:
        result = compute(*(v.compute(totals) if isinstance(v, Deferred) else v for v in operands))
        return result if isinstance(result, int | float) else math.nan

    return Deferred(later)


_PLAIN = frozenset({int, float, bool, str, type(None)})


def is_deferred(value: Literal) -> bool:
    """Whether a literal holds a deferred number anywhere."""
    kind = value.__class__
    if kind in _PLAIN:  # nearly all are: spare them the search
        return False
    if isinstance(value, Term):
        return any(map(is_deferred, value.args)) or any(is_deferred(v) for _, v in value.options)
    return kind is Deferred or (isinstance(value, tuple) and any(map(is_deferred, value)))


def resolve(value: Literal, totals: Totals) -> Literal:
    """Return a literal with its deferred numbers in place."""
    if isinstance(value, Deferred):
        number = value.compute(totals)
        return Written(number, value.text) if isinstance(number, float) and value.text else number
    if isinstance(value, Term):
        return Term(
            value.name,
            tuple(resolve(v, totals) for v in value.args),
            tuple((k, resolve(v, totals)) for k, v in value.options),
        )
    if isinstance(value, tuple):
        return tuple(resolve(v, totals) for v in value)
    return value
