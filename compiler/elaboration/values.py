"""The kinds of value that an expression can have while a spec is elaborated.

Static values are plain Python: int, float, bool, None, str, tuple, list, `Term` for words, `tree.Map`
(unevaluated) and `Deferred`. What flows is a `Tensor`, a tuple of tensors, or None for absence.
`INVALID` stands for what could not be made: whatever touches it is invalid too, without a second report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from hvdsl.compiler import graph
from hvdsl.compiler.catalogue.table import Operation
from hvdsl.compiler.graph import Literal, Shape, Term
from hvdsl.grammar import tree

if TYPE_CHECKING:
    from hvdsl.compiler.elaboration.environment import Environment


class Invalid(Enum):
    INVALID = "invalid"

    def __repr__(self) -> str:
        return "INVALID"


INVALID = Invalid.INVALID


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output of a node."""

    value: graph.Edge
    shape: Shape


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution node; `shape` is that of a draw. `classes` is set for discrete families."""

    value: graph.Edge
    shape: Shape
    family: str
    classes: int | None = None
    depth: int = 1  # codes at each position, in residual quantization


@dataclass(frozen=True, slots=True)
class Draw:
    """A value that a posterior gives before the latent's own node: by `sample`, and through a flow."""

    tensor: Tensor
    sample: int
    flow: graph.NormalizingFlow | None = None
    direction: graph.Direction = graph.Direction.DOWN


@dataclass(frozen=True, slots=True)
class Drawn:
    """What an encoder publishes of a latent drawn on the way up: the draw, and what it was drawn from."""

    draw: Draw
    distribution: Distribution

    @property
    def tensor(self) -> Tensor:
        return self.draw.tensor


@dataclass(frozen=True, slots=True)
class Unshaped:
    """`learned(init)` without channels: a source that waits for the tensor that it is added to."""

    operation: Operation
    call: tree.Expr
    environment: Environment


class Deferred(float):
    """A number made of `count` or `latents`, which are known when everything is placed.

    Until then it stands as 1.0 wherever a number is stored; `resolve` puts the true value in its place.
    """

    compute: Callable[[Totals], float | int]

    def __new__(cls, compute: Callable[[Totals], float | int]) -> Deferred:
        self = super().__new__(cls, 1.0)
        self.compute = compute
        return self


@dataclass(frozen=True, slots=True)
class Totals:
    """How often each recipe was placed, by (section, recipe), and how many latents the model has."""

    counts: Mapping[tuple[str, str], int]
    latents: int


# -- steps ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OperationStep:
    """A call of an operation that waits for its input. Arguments are evaluated where it is applied."""

    operation: Operation
    call: tree.Expr
    environment: Environment


@dataclass(frozen=True, slots=True)
class RecipeStep:
    recipe: tree.Recipe
    call: tree.Expr
    environment: Environment


@dataclass(frozen=True, slots=True)
class SharedStep:
    """A use of a `shared` instance; `own` are the roles that this use does not share."""

    name: str
    instance: SharedInstance
    own: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class SharedInstance:
    """What `shared f = …` declares, in the scope of one model, section or recipe instance."""

    name: str
    value: tree.Expr
    environment: Environment
    scope: graph.Scope
    number: int | None = None  # among those of its name, where it is declared in a repeat
    counts: dict[tuple[str, str], int] | None = None  # instances placed before its first use, by (section, recipe)


@dataclass(frozen=True, slots=True)
class BlockStep:
    """`{ … }`, a recipe without a name."""

    block: tree.Block
    environment: Environment


@dataclass(frozen=True, slots=True)
class ExpressionStep:
    """A flow or repeat of steps, `conv(1x1, 8) -> relu` or `block * 3`, not yet applied."""

    expr: tree.Expr
    environment: Environment


@dataclass(frozen=True, slots=True)
class NamedStep:
    """A step that was given as an argument: its name becomes part of what it holds."""

    name: str
    step: Step


@dataclass(frozen=True, slots=True)
class TapStep:
    name: str


Step: TypeAlias = OperationStep | RecipeStep | SharedStep | BlockStep | ExpressionStep | NamedStep | TapStep
STEPS = (OperationStep, RecipeStep, SharedStep, BlockStep, ExpressionStep, NamedStep, TapStep)

Stream: TypeAlias = "Tensor | Invalid | None"
Flowing: TypeAlias = "Stream | tuple[Stream, ...]"
Value: TypeAlias = (
    "Literal | list[Value] | tuple[Value, ...] | tree.Map | Tensor | Distribution | Drawn | Unshaped | Step | Invalid"
)


def show(shape: Shape) -> str:
    return "x".join(str(n) for n in shape)


def first(flowing: Flowing) -> Tensor | None:
    """The tensor whose shape `channels` and `res` speak of."""
    if isinstance(flowing, tuple):
        flowing = flowing[0] if flowing else None
    return flowing if isinstance(flowing, Tensor) else None


def deferred_binary(compute: Callable[[float | int, float | int], object], a: object, b: object) -> Deferred:
    """Postpone an operator of which at least one side is deferred."""

    def later(totals: Totals) -> float | int:
        result = compute(_now(a, totals), _now(b, totals))
        return result if isinstance(result, int | float) else math.nan

    return Deferred(later)


def _now(value: object, totals: Totals) -> float | int:
    if isinstance(value, Deferred):
        return value.compute(totals)
    return value if isinstance(value, int | float) else math.nan


def is_deferred(value: Literal) -> bool:
    """Whether a literal holds a deferred number anywhere."""
    if isinstance(value, Deferred):
        return True
    if isinstance(value, Term):
        return any(map(is_deferred, value.args)) or any(is_deferred(v) for _, v in value.options)
    return isinstance(value, tuple) and any(map(is_deferred, value))


def resolve(value: Literal, totals: Totals) -> Literal:
    """Return a literal with its deferred numbers in place."""
    if isinstance(value, Deferred):
        return value.compute(totals)
    if isinstance(value, Term):
        return Term(
            value.name,
            tuple(resolve(v, totals) for v in value.args),
            tuple((k, resolve(v, totals)) for k, v in value.options),
        )
    if isinstance(value, tuple):
        return tuple(resolve(v, totals) for v in value)
    return value
