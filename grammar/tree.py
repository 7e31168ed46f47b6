"""The syntax tree that both spellings, text and YAML, load into.

What a name means (step, tensor, number) is settled by the compiler; the tree only says what was written.
Spans and comments take no part in equality: `parse(print(t)) == t` speaks of the rest. A word that a later stage uses
for something else has `Node` behind it here: `RecipeNode` is what was written, the runtime's `Recipe` a module.
"""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from typing import Literal, TypeAlias

from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Span


@record
class TreeNode(Record):
    span: Span = field(kw_only=True, compare=False)


@record
class Commented(TreeNode):
    """A node that stands on lines of its own, and may carry comments."""

    before: tuple[str, ...] = field(default=(), kw_only=True, compare=False)  # whole-line comments; "" is a blank line
    after: str = field(default="", kw_only=True, compare=False)  # comment at the end of its (first) line


UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@lru_cache(1024)
def number_value(text: str) -> int | float:
    """Return the value of a number as written; one with a unit of memory is in whole bytes."""
    plain = text.replace("_", "")
    if plain[-3:] in UNITS:
        return round(float(plain[:-3]) * UNITS[plain[-3:]])
    return float(plain) if any(c in plain for c in ".eE") else int(plain)


# -- expressions ------------------------------------------------------------------------------------------


@record
class Number(TreeNode):
    text: str  # as written: `1_100_000`, `2e-4`, `8GiB`

    @property
    def value(self) -> int | float:
        return number_value(self.text)


@record
class Dim(TreeNode):
    """A kernel or shape token: `3x3`, `3x32x32`."""

    sizes: tuple[int, ...]


@record
class String(TreeNode):
    value: str


@record
class Name(TreeNode):
    id: str  # `cells.layer` for what a file brings that is used under a name


@record
class Unary(TreeNode):
    operator: Literal["-", "not"]
    operand: Expr


@record
class Binary(TreeNode):
    operator: Literal["or", "and", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "//", "%", "**"]
    left: Expr
    right: Expr


@record
class Choose(TreeNode):
    """`then if test else other`"""

    then: Expr
    test: Expr
    other: Expr


@record
class Flow(TreeNode):
    """`a -> b -> c`, at least two steps."""

    steps: tuple[Expr, ...]


@record
class Tuple(TreeNode):
    items: tuple[Expr, ...]


@record
class ArgumentNode(TreeNode):
    name: str | None
    value: Expr


@record
class Call(TreeNode):
    function: Expr
    arguments: tuple[ArgumentNode, ...]


@record
class ItemNode(TreeNode):
    """`base[index]`"""

    base: Expr
    index: Expr


@record
class WithBlock(TreeNode):
    """`head { … }`: an operation or recipe call that is given a block."""

    head: Expr
    block: Block


@record
class List(TreeNode):
    items: tuple[Expr, ...]


@record
class MapEntry(TreeNode):
    key: Expr | None  # None for `else`
    value: Expr


@record
class MapNode(TreeNode):
    entries: tuple[MapEntry, ...]


@record
class Block(TreeNode):
    statements: tuple[Statement, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False)  # comments before the closing brace


Expr: TypeAlias = (
    Number
    | Dim
    | String
    | Name
    | Unary
    | Binary
    | Choose
    | Flow
    | Tuple
    | Call
    | ItemNode
    | WithBlock
    | List
    | MapNode
    | Block
)


# -- statements -------------------------------------------------------------------------------------------


@record
class Bare(Commented):
    """`f`, meaning `x = f`."""

    value: Expr


@record
class Bind(Commented):
    """`h = f`, `a, b = f`, or `tap(name) = f`. Targets are names, or one call of `tap`."""

    targets: tuple[Name | Call, ...]
    value: Expr


@record
class Latent(Commented):
    """`z ~ prior posterior q { settings }`; the prior is None where the latent is drawn on the way up."""

    names: tuple[Name, ...]
    prior: Expr | None
    posterior: Expr | None
    settings: tuple[Setting, ...] = ()
    trailing: tuple[str, ...] = field(default=(), compare=False)


@record
class Let(Commented):
    name: Name
    value: Expr


@record
class Shared(Commented):
    name: Name
    value: Expr


@record
class Setting(Commented):
    """`key = value` in a settings block."""

    key: Name
    value: Expr


@record
class ConditionNode(Setting):
    """`given key = value` or `given key = value classes` among the settings of `data`, with settings of its own."""

    classes: bool = False
    settings: tuple[Setting, ...] = ()
    trailing: tuple[str, ...] = field(default=(), compare=False)


@record
class Default(Commented):
    operation: Name
    settings: tuple[Setting, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False)


Statement: TypeAlias = Bare | Bind | Latent | Let | Shared | Default


# -- items ------------------------------------------------------------------------------------------------


@record
class Version(Commented):
    number: Number


@record
class HeaderNode(Commented):
    """`model NAME`, `title STRING`, `use STRING`, `use STRING as NAME` or `extends STRING`."""

    kind: Literal["model", "title", "use", "extends"]
    value: Name | String
    alias: Name | None = None


@record
class NeedsNode(Commented):
    """`needs width, zdim`, or `needs default conv { bias_init }`: what a file takes from the spec that uses it."""

    names: tuple[Name, ...]
    operation: Name | None  # whose `default` is to say the names


@record
class ParameterNode(TreeNode):
    name: Name
    default: Expr | None


@record
class RecipeNode(Commented):
    """`cell NAME(params) { … }` or `group NAME(params) { … }`"""

    kind: Literal["cell", "group"]
    name: Name
    parameters: tuple[ParameterNode, ...]
    body: Block


@record
class Row(Commented):
    label: Expr
    value: Expr  # a Block for a row in braces; a Tuple for several flows; the name `none` to remove a row


@record
class Section(Commented):
    kind: Literal["encoder", "decoder"]
    rows: tuple[Row | Let | Shared | Default, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False)


@record
class LikelihoodNode(Commented):
    value: Expr


@record
class SettingsNode(Commented):
    """`data NAME {…}`, `objective {…}`, `train [PRIOR] {…}`, `evaluate {…}`, `sample {…}`."""

    kind: Literal["data", "objective", "train", "evaluate", "sample"]
    name: Name | String | None  # the data name, or the prior that `train` speaks of
    settings: tuple[Setting, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False)


@record
class Prior(Commented):
    name: Name
    given: tuple[Name, ...]
    body: Block


@record
class Variant(Commented):
    name: Name
    items: tuple[SpecItem, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False)


SpecItem: TypeAlias = (
    Version
    | HeaderNode
    | NeedsNode
    | Let
    | Shared
    | Default
    | RecipeNode
    | Section
    | LikelihoodNode
    | SettingsNode
    | Prior
    | Variant
)


@record
class Spec(TreeNode):
    """One file."""

    items: tuple[SpecItem, ...]
    trailing: tuple[str, ...] = field(default=(), compare=False)
