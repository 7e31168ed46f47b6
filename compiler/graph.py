"""The graph: typed operations in topological order, and the tree of recipe instances that they came from.

Elaboration creates the nodes; analyses, passes, emission and drawing read them. Everything is static: every shape,
every parameter and every argument is known, and arguments are literals.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, TypeAlias
from typing import Literal as Choice

from hvdsl.grammar.record import Record, record
from hvdsl.grammar.source import Span

if TYPE_CHECKING:
    from hvdsl.compiler.catalogue.table import Operation
    from hvdsl.compiler.settings import LatentSettings


Shape: TypeAlias = tuple[int, int, int]  # channels, height, width; the batch is never part of it


class Role(Enum):
    """What a node is for in its graph. All but `OPERATION` and `FLOW` stand for the parts of a model."""

    IMAGE = "image"  # the mapped input image; no inputs
    CODES = "codes"  # the one-hot map of the codes that a second-stage prior is of (args: name, classes)
    GIVEN = "given"  # a condition (args: name, classes or none, shape, source: image, field or codes)
    TAP = "tap"  # publishes its input (args: name); its output is what readers of that tap take. A latent drawn on
    # the way up is published as two inputs and outputs: the draw, and the distribution that it comes from
    SAMPLE = "sample"  # draws from a distribution on the posterior side only (before a flow, or on the way up)
    LATENT = "latent"  # draws z (args: name, family); inputs: prior, posterior[, the value of a posterior's sample]
    FLOW = "flow"  # one step of a normalizing flow: z' of z and what its block makes of z
    OUTPUT = "output"  # the last decoder value; one input; the likelihood's parameters
    OPERATION = "operation"  # everything else: what the operation says


ENTRIES = frozenset({Role.IMAGE, Role.CODES, Role.GIVEN})  # what a model's or a prior's `forward` takes


class Direction(StrEnum):
    """Where a latent's posterior draws: beside its prior in the decoder, or on the way up in the encoder."""

    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Term:
    """An argument that is itself a small call: `scaled(0.5)`, `weight(gain = log)`; a bare word too."""

    name: str
    args: tuple[Literal, ...] = ()
    options: tuple[tuple[str, Literal], ...] = ()

    def __hash__(self) -> int:
        return hash(self.name)  # which nearly always tells them apart, in a third of the time


class Named(int):
    """A whole number that is all a top-level `let` says; arithmetic on it gives plain numbers."""

    let: str

    def __new__(cls, value: int, let: str = "") -> Named:
        self = super().__new__(cls, value)
        self.let = let
        return self


class Written(float):
    """A number that was computed from an expression of the spec, with the text of that expression."""

    text: str

    def __new__(cls, value: float, text: str = "") -> Written:
        self = super().__new__(cls, value)
        self.text = text
        return self


Literal: TypeAlias = int | float | bool | str | Term | tuple["Literal", ...] | None


@dataclass(frozen=True, slots=True)
class Edge:
    """One output of a node, as others take it."""

    node: int
    port: int = 0


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor that a node owns. `role` is its name in the layer (`weight`, `bias`); `trainable` is no for buffers."""

    role: str
    shape: tuple[int, ...]
    init: Term
    trainable: bool = True

    @property
    def size(self) -> int:
        n = 1
        for length in self.shape:
            n *= length
        return n


@dataclass(slots=True, eq=False)
class GraphScope:
    """An instance of something that holds nodes, in order of execution.

    `kind`:
      model, section (`encoder`, `decoder`, `prior`), row (`r32`), recipe (one use of a cell or group),
      binding (`q = …`),
      part (a named piece of an operation: `shortcut`, `posterior`), repeat and turn (`step * n`: n turns),
      shared (one use of a `shared` instance: a member where it is used, its `parent` is where it is declared, so that
      every use has the same names).
    Repeats and turns have no part in names: `(cell -> tap) * 2` gives `cell.0` and `cell.1`.
    """

    kind: Choice["model", "section", "row", "recipe", "binding", "part", "repeat", "turn", "shared"]
    name: str
    number: int | None  # among siblings of that name, from 0; None for what is unique by construction
    parent: GraphScope | None
    span: Span
    constants: dict[str, Literal] = field(
        default_factory=dict
    )  # a recipe's parameters, lets and context names: they name arguments
    parameters: tuple[str, ...] = ()  # of a recipe: which of the constants its caller can choose
    names: dict[Edge, str] = field(default_factory=dict)  # of a recipe: what its text calls tensors
    members: list[Node | GraphScope] = field(default_factory=list)
    comments: tuple[str, ...] = ()  # of the spec, right above a recipe's definition
    definition: tuple[str, Span] | None = None  # of a recipe or shared instance: `cell`, `group` or `shared`, and where
    own: tuple[str, ...] = ()  # of a use of a shared instance: the roles that it has for itself
    own_path: str = ""  # and what they are named after: `decoder.mix_own.0`

    @property
    def named(self) -> bool:
        """Whether this scope adds to the names of what it holds."""
        return self.kind not in ("model", "repeat", "turn")

    @property
    def path(self) -> str:
        """The dotted name, as in `decoder.r16.layer.3`."""
        above = self.parent.path if self.parent else ""
        if not self.named:
            return above
        own = self.name if self.number is None else f"{self.name}.{self.number}"
        return f"{above}.{own}" if above else own

    def nodes(self) -> Iterator[Node]:
        """Every node inside, in order."""
        for member in self.members:
            if isinstance(member, GraphScope):
                yield from member.nodes()
            else:
                yield member


@dataclass(slots=True, eq=False)
class Node:
    """One operation, applied: `operation` is its entry in the catalogue, to be compared by identity.

    `args` are complete (defaults filled in) and checked. `names` are the spec's names of the outputs, where it gave
    any. `path` is set where the operation owns parameters or state: `decoder.r16.layer.3.q.bottleneck.0.conv.2`.
    `stated` names the arguments that the text gives, at the call or by a `default`.
    """

    index: int
    operation: Operation
    args: Mapping[str, Literal]
    inputs: tuple[Edge, ...]
    shapes: tuple[Shape, ...]
    scope: GraphScope
    span: Span
    parameters: tuple[Parameter, ...] = ()
    path: str = ""
    names: tuple[str | None, ...] = ()
    shared: tuple[str, ...] = ()  # roles of `parameters` that an earlier node of the same `path` owns
    stated: frozenset[str] = frozenset()
    own_path: str = ""  # where other roles are, in a use of a shared instance with roles of its own

    @property
    def role(self) -> Role:
        return self.operation.role

    def parameter_path(self, role: str) -> str:
        """The full name of a parameter: `decoder.r16.conv.0.weight`."""
        return f"{self.own_path if self.own_path and role not in self.shared else self.path}.{role}"


@record
class NormalizingFlow(Record):
    """The steps that turn a posterior's sample into a latent's value: nodes of the role `FLOW`, first to last.

    Each takes the value before as its first input, so that the last one's output is the latent's value.
    """

    steps: tuple[int, ...]


@dataclass(slots=True)
class GraphLatent:
    """One latent variable, in the order of generation.

    A latent that is drawn on the way up has the direction `UP`, and `posterior` is the second output of the tap by
    which the encoder publishes its draw (the first) and what it was drawn from.
    """

    name: str
    node: int  # of the role `LATENT`
    family: str  # normal, laplace, logistic, bernoulli, categorical, codebook, finite_scalar, lookup_free
    shape: Shape
    path: str
    prior: Edge
    posterior: Edge
    codes: int | None = None  # how many values a discrete latent has, at each position and depth
    depth: int = 1  # codes at each position, in residual quantization
    direction: Direction = Direction.DOWN
    sample: int | None = None  # of the role `SAMPLE`: where the posterior draws, if not at `node`
    flow: NormalizingFlow | None = None
    settings: LatentSettings | None = None  # what the spec says of it alone

    @property
    def tap(self) -> int | None:
        """The tap that publishes draw and posterior of a latent drawn on the way up."""
        return self.posterior.node if self.direction is Direction.UP else None


@dataclass(slots=True)
class Graph:
    """A model (or one of its second-stage priors).

    A distribution (`normal(…)` and its like) is a node whose shape is that of one draw.
    """

    name: str
    nodes: list[Node]
    root: GraphScope
    latents: list[GraphLatent]
    output: Edge
    image: Shape | None  # None for a second-stage prior
    likelihood: tuple[Parameter, ...] = ()  # the parameters that the likelihood owns

    def shape(self, edge: Edge) -> Shape:
        return self.nodes[edge.node].shapes[edge.port]

    def entries(self) -> list[Node]:
        """What `forward` takes: the image, or a prior's own codes; then the conditions, codes before fields."""
        order = {"image": 0, "codes": 1, "field": 2}

        def place(node: Node) -> tuple[bool, int, int]:
            declared = node.args.get("place")
            given = node.role is Role.GIVEN
            return given, order.get(str(node.args.get("source")), 0), declared if isinstance(declared, int) else 0

        return sorted((node for node in self.nodes if node.role in ENTRIES), key=place)

    def parameter_count(self) -> int:
        """Return how many numbers are trained, the likelihood's own included."""
        own = (p for n in self.nodes for p in n.parameters if p.trainable and p.role not in n.shared)
        return sum(p.size for p in (*self.likelihood, *own))


_TAKEN = """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
    to_empty train training type xpu zero_grad
"""
MODULE_ATTRIBUTES = frozenset(_TAKEN.split())


def attribute_name(name: str) -> str:
    """The name as an attribute of a module: with an underscore behind it where it is taken."""
    taken = name in MODULE_ATTRIBUTES or keyword.iskeyword(name) or name.startswith("_")
    return f"{name}_" if taken else name
