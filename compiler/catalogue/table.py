"""What an operation is: one entry declares everything that any stage needs to know of it.

Entries live in the modules beside this one, one per family (convolutions, norms, …); `OPERATIONS` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field as declared
from enum import StrEnum
from math import inf
from typing import NamedTuple, TypeAlias

from hvdsl.compiler.catalogue.families import Family, Side
from hvdsl.compiler.graph import Literal, Parameter, Role, Shape
from hvdsl.grammar.record import Record, record

Offset: TypeAlias = tuple[int, int]  # (row, column) from an output's own position
OWN: Offset = (0, 0)


class ReadWindow(NamedTuple):
    """How far an output position looks along one axis.

    Output position i reads input positions i * stride // up + offset, offset in [first, last]; `everywhere` overrides.
    """

    first: int = 0
    last: int = 0
    stride: int = 1
    up: int = 1
    everywhere: bool = False


class Past(StrEnum):
    """What precedes a position in raster order, be it far away."""

    STRICT = "strict"
    INCLUSIVE = "inclusive"  # and the position itself


class Reads(NamedTuple):
    """The positions of one operand's map that an output position is made of: those in `rows` and in `columns`.

    Of these only the offsets `taps`, where a mask takes others away; only what precedes in raster order, with `past`.
    `mirrored`: what lies beyond the border is a position inside again, and not zero.
    """

    rows: ReadWindow = ReadWindow()
    columns: ReadWindow = ReadWindow()
    taps: tuple[Offset, ...] | None = None
    past: Past | None = None
    mirrored: bool = False

    @property
    def offsets(self) -> tuple[Offset, ...] | None:
        """The positions, from the output's own; None where these are not the same offsets everywhere."""
        axes = (self.rows, self.columns)
        if self.mirrored or any(w.everywhere or w.stride != 1 or w.up != 1 for w in axes):
            return None
        if self.taps is not None:
            return self.taps
        rows, columns = (range(w.first, w.last + 1) for w in axes)
        return tuple((row, column) for row in rows for column in columns)


OWN_POSITION = Reads()
WHOLE_MAP = Reads(ReadWindow(everywhere=True), ReadWindow(everywhere=True))


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
    MAP = "map of patterns"  # `["encoder.*": frozen]`: values are of its one item
    PIXELS = "expression in v"  # what `input` and `target` of `data` are
    ANY = "anything"  # a recipe's parameter or a `let`, which hands on what it is given, words included


class Required:
    """The default of an argument that has none."""


REQUIRED = Required()


@record
class Bounds(Record):
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


@record
class Argument(Record):
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
    new: bool = False  # since version 0.1: digests that runs of it hold leave the default out
    other: Argument | None = None  # another form that it may have: `pad = 2` or `pad = (1, 1, 2, 2)`

    def takes(self, word: str) -> tuple[Argument, ...]:
        """Return the arguments that one of its words takes."""
        for call in self.calls:
            if call.name == word:
                return call.arguments
        return ()


@record
class Word(Record):
    """A word that takes arguments, such as `scaled(0.5)` or `cosine(floor = 1e-4)`."""

    name: str
    arguments: tuple[Argument, ...]


class OperationKind(StrEnum):
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


class Locality(StrEnum):
    """What an output position is made of; with the first two, of nothing but its own position."""

    ELEMENT = "element"  # of the elements at its place, one of each operand (1x1 maps and single channels broadcast)
    PIXEL = "pixel"  # of all channels at its position
    WINDOW = "window"  # of positions around its own, as `reads` says
    MAP = "map"  # of the whole map, where `reads` says nothing else


class Channels(StrEnum):
    """The channels of its operands that an output channel is made of, where it reads them."""

    SAME = "same"  # the one of its number, or the only one
    ALL = "all"


class AtRest(StrEnum):
    """What an operation is outside of training."""

    SAME = "same"  # what it is in training
    IDENTITY = "identity"
    LINEAR = "linear"  # a linear map of each position, up to a constant


class Needs(StrEnum):
    """What an operation takes of its operands."""

    VALUES = "values"
    SIZE = "size"  # of the map, alone


class Layout(StrEnum):
    """How maps lie in memory where an operation is fast."""

    ANY = "any"
    FREE = "free"  # has none of its own: one value everywhere
    CHANNELS_LAST = "channels last"


@record
class DistributionTraits(Record):
    """What an operation that makes a distribution adds to its entry."""

    family: Family | None = None  # None: that of the distributions that it couples
    side: Side = Side.BOTH
    runtime_class: str | None = None  # of `hvdsl.runtime.distributions`; None: that of its operand
    classes: Callable[[Shape, Args], int] | None = None  # of a draw's shape: how many values a code has
    couples: tuple[Family, ...] = ()  # the families that it couples two of
    macs: Callable[[Shape, Args], int] | None = None  # of a draw's shape: what it costs to find its codes


@record
class LayerCall(Record):
    """How emitted code says the operation.

    Stateful: `name` is a class of `hvdsl.runtime.layers`, built as `name(*args, **options)`.
    """

    name: str
    args: tuple[Literal, ...] = ()
    options: tuple[tuple[str, Literal], ...] = ()


ReadsRule: TypeAlias = Callable[[Sequence[Shape], Args], tuple[Reads, ...]]  # one for each operand
ChannelRule: TypeAlias = Callable[[Sequence[Shape], Args], tuple[tuple[tuple[int, ...], ...], ...]]
"""For each output, each of its channels and each operand: the channels that it is made of at its own position, as
bits."""
LayerRule: TypeAlias = Callable[[Sequence[Shape], Sequence[Shape], Args], LayerCall]  # inputs, outputs, args
ExpressionRule: TypeAlias = Callable[[Sequence[str], Sequence[Shape], Args], str]
"""Operands as source text, their shapes -> source text."""
IntoRule: TypeAlias = Callable[[Sequence[str], Args], str | None]
"""Operands as source text -> a call that takes `out`, of `hvdsl.runtime.priors.affine`; None where there is none."""


@record
class Operation(Record):
    """One operation of the language: all that any stage knows of it.

    `reads` and `channels` are the one truth about what an output is made of: receptive fields, the causality and sight
    of priors and the proof that a flow is autoregressive follow from them. Exactly one of `layer` (it owns parameters
    or state, or acts differently in training) and `expression` (a pure function, written with `F.`, `torch.` or a
    function of `hvdsl.runtime.layers`) says how it runs.
    """

    name: str
    kind: OperationKind
    summary: str  # one line of the language reference
    arguments: tuple[Argument, ...]
    shape: ShapeRule
    parameters: ParameterRule | None = None
    macs: CostRule | None = None
    saves: Saves = Saves.NOTHING
    layer: LayerRule | None = None
    expression: ExpressionRule | None = None
    locality: Locality = declared(kw_only=True)
    reads: ReadsRule | None = None  # of WINDOW, and of a MAP that reads some operand otherwise
    channels: Channels | ChannelRule | None = None  # None: SAME of an ELEMENT, else ALL
    needs: Needs = Needs.VALUES
    linear: bool = False  # in all its operands together, up to a constant
    keeps_zeros: bool = False  # of a function: of zeros it gives zeros
    at_rest: AtRest = AtRest.SAME
    whole_batch: bool = False  # in training it takes statistics of all images and positions
    view: bool = False  # its outputs share the memory of its input
    writes_into: IntoRule | None = None  # how a prior's sampler lets it write into a buffer
    bias: str | None = None  # the argument that asks for a bias
    cancels_bias: bool = False  # takes away what a bias before it adds
    layout: Layout = Layout.ANY
    steady: bool = False  # its values move no further than its input's, to about a tenth: it may be given them rounded
    casts: bool = False  # into the precision of products
    glyph: str | None = None  # in drawings; None: its name, nothing: not drawn
    block: bool = False  # takes `{ … }`
    role: Role = Role.OPERATION  # of its nodes
    distribution: DistributionTraits | None = None

    __eq__ = object.__eq__  # an operation is its entry
    __hash__ = object.__hash__

    def positions(self, shapes: Sequence[Shape], args: Args) -> tuple[Reads, ...]:
        """What an output position reads of each operand's map."""
        if self.reads is not None:
            return self.reads(shapes, args)
        return (WHOLE_MAP if self.locality is Locality.MAP else OWN_POSITION,) * len(shapes)

    @property
    def is_product(self) -> bool:
        """Whether it multiplies and sums, so that mixed precision computes it in 16 bits."""
        return self.macs is not None

    @property
    def reads_around(self) -> bool:
        """Whether it looks at other positions than its own."""
        return self.locality in (Locality.WINDOW, Locality.MAP)
