"""What an operation is: one entry declares everything that any stage needs to know of it.

Entries live in the modules beside this one, one per family (convolutions, norms, …); `OPERATIONS` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TypeAlias

from hvdsl.compiler.graph import Literal, Parameter, Role, Shape


class ArgumentType(StrEnum):
    """How the compiler evaluates and checks an argument."""

    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "yes or no"
    KERNEL = "kernel"  # `3`, `3x3` or `(3, 3)`; becomes (height, width)
    SHAPE = "shape"  # `1x28x28`; becomes a tuple
    WORD = "word"  # one of `words`, bare or called: `fan_in`, `scaled(0.5)`, `none`, `(1, 1, 2, 2)`
    TENSOR = "tensor"  # becomes an operand, not an argument
    DISTRIBUTION = "distribution"  # likewise
    STEP = "step"  # `shortcut = …`: elaborated in place
    TUPLE = "tuple"  # `(0.9, 0.999)`: an argument for each of its `items`
    TEXT = "text"  # `"a text"`
    PIXELS = "expression in v"  # what `input` and `target` of `data` are
    ANY = "anything"  # a recipe's parameter or a `let`, which hands on what it is given, words included


class Required:
    """The default of an argument that has none."""


REQUIRED = Required()


@dataclass(frozen=True, slots=True)
class Bounds:
    """The numbers that an argument may be."""

    least: float = -inf
    most: float = inf
    above: float = -inf  # as `least`, itself left out
    below: float = inf  # as `most`, itself left out

    def hold(self, value: float) -> bool:
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        """In the words of a message, with a space in front; nothing where every number is within."""
        low = f" from {self.least:g}" if self.least > -inf else f" above {self.above:g}" if self.above > -inf else ""
        if self.most < inf:
            return (
                f"{low} to {self.most:g}"
                if self.least > -inf
                else f"{low}{' and' if low else ''} at most {self.most:g}"
            )
        return f"{low}{' and' if low else ''} under {self.below:g}" if self.below < inf else low


ANY_NUMBER = Bounds()
FROM_ZERO = Bounds(least=0)
FROM_ONE = Bounds(least=1)
POSITIVE = Bounds(above=0)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an operation, distribution, likelihood, word or settings section."""

    name: str
    type: ArgumentType
    default: Literal | Required = REQUIRED
    words: tuple[str, ...] = ()  # what a WORD may say; also what an INTEGER, TENSOR … may say instead
    doc: str = ""
    many: bool = False  # takes all remaining positional arguments, as a tuple
    calls: tuple[Word, ...] = ()  # the words that take arguments themselves
    bounds: Bounds = ANY_NUMBER  # of an INTEGER or NUMBER
    items: tuple[Argument, ...] = ()  # of a TUPLE
    other: Argument | None = None  # another form that it may have: `pad = 2` or `pad = (1, 1, 2, 2)`

    def takes(self, word: str) -> tuple[Argument, ...]:
        """Return the arguments that one of its words takes."""
        for call in self.calls:
            if call.name == word:
                return call.arguments
        return ()


@dataclass(frozen=True, slots=True)
class Word:
    """A word that takes arguments, such as `scaled(0.5)` or `cosine(floor = 1e-4)`."""

    name: str
    arguments: tuple[Argument, ...]


class Kind(StrEnum):
    STEP = "step"  # a tensor (or tuple) flows in
    SOURCE = "source"  # a tensor from nothing: `learned`, `constant`, `coordinates`
    JOIN = "join"  # a tensor from tensors given as arguments: `concat`, `attention`
    DISTRIBUTION = "distribution"  # a distribution from tensors or other distributions
    INTERNAL = "internal"  # made by the compiler (arithmetic, latents, taps); no spec can name it


class OperationError(Exception):
    """Arguments or operand shapes that an operation cannot take. The compiler adds the place."""

    def __init__(self, message: str, found: str = "", expected: str = "", help: str = "") -> None:
        super().__init__(message)
        self.message, self.found, self.expected, self.help = message, found, expected, help


Args: TypeAlias = Mapping[str, Literal]
ShapeRule: TypeAlias = Callable[[Sequence[Shape], Args], tuple[Shape, ...]]
ParameterRule: TypeAlias = Callable[[Sequence[Shape], Args], tuple[Parameter, ...]]
CostRule: TypeAlias = Callable[[Sequence[Shape], Sequence[Shape], Args], int]
"""Inputs, outputs -> multiply-accumulates for one image."""


class Saves(StrEnum):
    """What the backward pass keeps (`findings.md` of the design, section 4): the rule behind activation bytes."""

    NOTHING = "nothing"  # add, sub, concat, split, views
    INPUT = "input"  # convolutions, gelu, silu, batch norm
    OUTPUT = "output"  # exp, sigmoid, tanh, relu
    INPUTS = "inputs"  # products keep every operand


@dataclass(frozen=True, slots=True)
class Window:
    """How far an output position looks along one axis, for receptive fields and causality.

    Output position i reads input positions i * stride // up + offset, offset in [first, last]; `everywhere` overrides.
    """

    first: int = 0
    last: int = 0
    stride: int = 1
    up: int = 1
    everywhere: bool = False


FieldRule: TypeAlias = Callable[[Sequence[Shape], Args], tuple[Window, Window]]  # vertical, horizontal


@dataclass(frozen=True, slots=True)
class Layer:
    """How emitted code says the operation.

    Stateful: `name` is a class of `hvdsl.runtime.layers`, built as `name(*args, **options)`.
    """

    name: str
    args: tuple[Literal, ...] = ()
    options: tuple[tuple[str, Literal], ...] = ()


LayerRule: TypeAlias = Callable[[Sequence[Shape], Sequence[Shape], Args], Layer]  # inputs, outputs, args
ExpressionRule: TypeAlias = Callable[[Sequence[str], Sequence[Shape], Args], str]
"""Operands as source text, their shapes -> source text."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the language.

    Exactly one of `layer` (it owns parameters or state, or acts differently in training) and `expression` (a pure
    function, written with `F.`, `torch.` or a function of `hvdsl.runtime.layers`) says how it runs.
    """

    name: str
    kind: Kind
    summary: str  # one line of the language reference
    arguments: tuple[Argument, ...]
    shape: ShapeRule
    parameters: ParameterRule | None = None
    macs: CostRule | None = None
    saves: Saves = Saves.NOTHING
    field: FieldRule | None = None  # None: each position by itself
    layer: LayerRule | None = None
    expression: ExpressionRule | None = None
    role: Role = Role.OPERATION  # of its nodes
