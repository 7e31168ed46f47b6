"""The kinds of value that an expression can have while a spec is elaborated.

Static values are plain Python: int, float, bool, None, str, tuple, list, `Term` for words, `tree.MapNode`
(unevaluated) and `Deferred`. What flows is a `Tensor`, a tuple of tensors, or None for absence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from hvdsl.compiler import graph
from hvdsl.compiler.catalogue.rules import shape_text
from hvdsl.compiler.catalogue.table import Operation
from hvdsl.compiler.evaluate.arithmetic import Described, Invalid
from hvdsl.compiler.graph import Literal, Shape
from hvdsl.grammar import tree
from hvdsl.grammar.record import Record, record

if TYPE_CHECKING:
    from hvdsl.compiler.elaboration.environment import Environment


@record
class Tensor(Described, Record):
    """One output of a node."""

    value: graph.Edge
    shape: Shape

    @property
    def described(self) -> str:
        return f"a tensor of {shape_text(self.shape)}"


@record
class DistributionValue(Described, Record):
    """A distribution node; `shape` is that of a draw. `classes` is set for discrete families."""

    value: graph.Edge
    shape: Shape
    family: str
    classes: int | None = None
    depth: int = 1  # codes at each position, in residual quantization

    @property
    def described(self) -> str:
        return "a distribution"


@record
class PosteriorDraw(Record):
    """A value that a posterior gives before the latent's own node: by `sample`, and through a flow."""

    tensor: Tensor
    sample: int
    flow: graph.NormalizingFlow | None = None
    direction: graph.Direction = graph.Direction.DOWN


@record
class Drawn(Described, Record):
    """What an encoder publishes of a latent drawn on the way up: the draw, and what it was drawn from."""

    draw: PosteriorDraw
    distribution: DistributionValue

    @property
    def tensor(self) -> Tensor:
        return self.draw.tensor

    @property
    def described(self) -> str:
        return "a distribution"


@record
class Unshaped(Described, Record):
    """`learned(init)` without channels: a source that waits for the tensor that it is added to."""

    operation: Operation
    call: tree.Expr
    environment: Environment

    @property
    def described(self) -> str:
        return "a learned map that has no channels yet"


class _Step(Described):
    """Something that waits for what flows into it."""

    __slots__ = ()

    @property
    def described(self) -> str:
        return "a step"


@record
class OperationStep(_Step, Record):
    """A call of an operation that waits for its input. Arguments are evaluated where it is applied."""

    operation: Operation
    call: tree.Expr
    environment: Environment


@record
class RecipeStep(_Step, Record):
    recipe: tree.RecipeNode
    call: tree.Expr
    environment: Environment


@record
class SharedStep(_Step, Record):
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
    scope: graph.GraphScope
    attribute: str  # what it is called in paths of parameters
    number: int | None = None  # among those of its name, where it is declared in a repeat
    counts: dict[tuple[str, str], int] | None = None  # instances placed before its first use, by (section, recipe)


@record
class BlockStep(_Step, Record):
    """`{ … }`, a recipe without a name."""

    block: tree.Block
    environment: Environment


@record
class ExpressionStep(_Step, Record):
    """A flow or repeat of steps, `conv(1x1, 8) -> relu` or `block * 3`, not yet applied."""

    expr: tree.Expr
    environment: Environment


@record
class NamedStep(_Step, Record):
    """A step that was given as an argument: its name becomes part of what it holds."""

    name: str
    step: Step


@record
class TapStep(_Step, Record):
    name: str


Step: TypeAlias = OperationStep | RecipeStep | SharedStep | BlockStep | ExpressionStep | NamedStep | TapStep
STEPS = (OperationStep, RecipeStep, SharedStep, BlockStep, ExpressionStep, NamedStep, TapStep)

Stream: TypeAlias = "Tensor | Invalid | None"
Flowing: TypeAlias = "Stream | tuple[Stream, ...]"
Value: TypeAlias = (
    "Literal | list[Value] | tuple[Value, ...] | tree.MapNode | Tensor | DistributionValue | Drawn | Unshaped | Step"
    " | Invalid"
)


def first(flowing: Flowing) -> Tensor | None:
    """The tensor whose shape `channels` and `res` speak of."""
    if isinstance(flowing, tuple):
        flowing = flowing[0] if flowing else None
    return flowing if isinstance(flowing, Tensor) else None
