"""The syntax tree that both spellings, text and YAML, load into.

What a name means (step, tensor, number) is settled by the compiler; the tree only says what was written.
Spans and comments take no part in equality: `parse(print(t)) == t` speaks of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from hvdsl.grammar.source import Span


@dataclass(slots=True, frozen=True, kw_only=True)
class Node:
    span: Span = field(compare=False, repr=False)


@dataclass(slots=True, frozen=True, kw_only=True)
class Commented(Node):
    """A node that stands on lines of its own, and may carry comments."""

    before: tuple[str, ...] = field(default=(), compare=False, repr=False)  # whole-line comments; "" is a blank line
    after: str = field(default="", compare=False, repr=False)  # comment at the end of its (first) line


UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def number(text: str) -> int | float:
    """Return the value of a number as written; one with a unit of memory is in whole bytes."""
    plain = text.replace("_", "")
    if plain[-3:] in UNITS:
        return round(float(plain[:-3]) * UNITS[plain[-3:]])
    return float(plain) if any(c in plain for c in ".eE") else int(plain)


# -- expressions ------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Number(Node):
    text: str  # as written: `1_100_000`, `2e-4`, `8GiB`

    @property
    def value(self) -> int | float:
        return number(self.text)


@dataclass(slots=True, frozen=True)
class Dim(Node):
    """A kernel or shape token: `3x3`, `3x32x32`."""

    sizes: tuple[int, ...]


@dataclass(slots=True, frozen=True)
class String(Node):
    value: str


@dataclass(slots=True, frozen=True)
class Name(Node):
    id: str  # `cells.layer` for what a file brings that is used under a name


@dataclass(slots=True, frozen=True)
class Unary(Node):
    operator: Literal["-", "not"]
    operand: Expr


@dataclass(slots=True, frozen=True)
class Binary(Node):
    operator: Literal["or", "and", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "//", "%", "**"]
    left: Expr
    right: Expr


@dataclass(slots=True, frozen=True)
class Choose(Node):
    """`then if test else other`"""

    then: Expr
    test: Expr
    other: Expr


@dataclass(slots=True, frozen=True)
class Flow(Node):
    """`a -> b -> c`, at least two steps."""

    steps: tuple[Expr, ...]


@dataclass(slots=True, frozen=True)
class Tuple(Node):
    items: tuple[Expr, ...]


@dataclass(slots=True, frozen=True)
class Argument(Node):
    name: str | None
    value: Expr


@dataclass(slots=True, frozen=True)
class Call(Node):
    function: Expr
    arguments: tuple[Argument, ...]


@dataclass(slots=True, frozen=True)
class Item(Node):
    """`base[index]`"""

    base: Expr
    index: Expr


@dataclass(slots=True, frozen=True)
class WithBlock(Node):
    """`head { … }`: an operation or recipe call that is given a block."""

    head: Expr
    block: Block


@dataclass(slots=True, frozen=True)
class List(Node):
    items: tuple[Expr, ...]


@dataclass(slots=True, frozen=True)
class MapEntry(Node):
    key: Expr | None  # None for `else`
    value: Expr


@dataclass(slots=True, frozen=True)
class Map(Node):
    entries: tuple[MapEntry, ...]


@dataclass(slots=True, frozen=True)
class Block(Node):
    statements: tuple[Statement, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False, repr=False)  # comments before the closing brace


Expr: TypeAlias = (
    Number | Dim | String | Name | Unary | Binary | Choose | Flow | Tuple | Call | Item | WithBlock | List | Map | Block
)


# -- statements -------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Bare(Commented):
    """`f`, meaning `x = f`."""

    value: Expr


@dataclass(slots=True, frozen=True)
class Bind(Commented):
    """`h = f`, `a, b = f`, or `tap(name) = f`. Targets are names, or one call of `tap`."""

    targets: tuple[Name | Call, ...]
    value: Expr


@dataclass(slots=True, frozen=True)
class Latent(Commented):
    """`z ~ prior posterior q { settings }`; the prior is None where the latent is drawn on the way up."""

    names: tuple[Name, ...]
    prior: Expr | None
    posterior: Expr | None
    settings: tuple[Setting, ...] = ()
    trailing: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(slots=True, frozen=True)
class Let(Commented):
    name: Name
    value: Expr


@dataclass(slots=True, frozen=True)
class Shared(Commented):
    name: Name
    value: Expr


@dataclass(slots=True, frozen=True)
class Setting(Commented):
    """`key = value` in a settings block."""

    key: Name
    value: Expr


@dataclass(slots=True, frozen=True)
class Condition(Setting):
    """`given key = value` or `given key = value classes` among the settings of `data`, with settings of its own."""

    classes: bool = False
    settings: tuple[Setting, ...] = ()
    trailing: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(slots=True, frozen=True)
class Default(Commented):
    operation: Name
    settings: tuple[Setting, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False, repr=False)


Statement: TypeAlias = Bare | Bind | Latent | Let | Shared | Default


# -- items ------------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Version(Commented):
    number: Number


@dataclass(slots=True, frozen=True)
class Header(Commented):
    """`model NAME`, `title STRING`, `use STRING`, `use STRING as NAME` or `extends STRING`."""

    kind: Literal["model", "title", "use", "extends"]
    value: Name | String
    alias: Name | None = None


@dataclass(slots=True, frozen=True)
class Needs(Commented):
    """`needs width, zdim`, or `needs default conv { bias_init }`: what a file takes from the spec that uses it."""

    names: tuple[Name, ...]
    operation: Name | None  # whose `default` is to say the names


@dataclass(slots=True, frozen=True)
class Parameter(Node):
    name: Name
    default: Expr | None


@dataclass(slots=True, frozen=True)
class Recipe(Commented):
    """`cell NAME(params) { … }` or `group NAME(params) { … }`"""

    kind: Literal["cell", "group"]
    name: Name
    parameters: tuple[Parameter, ...]
    body: Block


@dataclass(slots=True, frozen=True)
class Row(Commented):
    label: Expr
    value: Expr  # a Block for a row in braces; a Tuple for several flows; the name `none` to remove a row


@dataclass(slots=True, frozen=True)
class Section(Commented):
    kind: Literal["encoder", "decoder"]
    rows: tuple[Row | Let | Shared | Default, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(slots=True, frozen=True)
class Likelihood(Commented):
    value: Expr


@dataclass(slots=True, frozen=True)
class Settings(Commented):
    """`data NAME {…}`, `objective {…}`, `train [PRIOR] {…}`, `evaluate {…}`, `sample {…}`."""

    kind: Literal["data", "objective", "train", "evaluate", "sample"]
    name: Name | String | None  # the data name, or the prior that `train` speaks of
    settings: tuple[Setting, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(slots=True, frozen=True)
class Prior(Commented):
    name: Name
    given: tuple[Name, ...]
    body: Block


@dataclass(slots=True, frozen=True)
class Variant(Commented):
    name: Name
    items: tuple[SpecItem, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False, repr=False)


SpecItem: TypeAlias = (
    Version | Header | Needs | Let | Shared | Default | Recipe | Section | Likelihood | Settings | Prior | Variant
)


@dataclass(slots=True, frozen=True)
class Spec(Node):
    """One file."""

    items: tuple[SpecItem, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False, repr=False)
