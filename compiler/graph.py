"""The graph: typed operations in topological order, and the tree of recipe instances that they came from.

Elaboration creates the nodes; analyses, passes, emission and drawing read them. Everything is static: every shape,
every parameter and every argument is known, and arguments are literals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal as Choice
from typing import TypeAlias

from hvdsl.grammar.source import Span

Shape: TypeAlias = tuple[int, int, int]  # channels, height, width; the batch is never part of it


GIVEN = ("image", "codes", "label")  # what a model's or a prior's `forward` takes; not made by any step


@dataclass(frozen=True, slots=True)
class Term:
    """An argument that is itself a small call: `scaled(0.5)`, `weight(gain = log)`; a bare word too."""

    name: str
    args: tuple[Literal, ...] = ()
    options: tuple[tuple[str, Literal], ...] = ()


Literal: TypeAlias = int | float | bool | str | Term | tuple["Literal", ...] | None


@dataclass(frozen=True, slots=True)
class Value:
    """One output of a node: what an edge carries."""

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
class Scope:
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
    parent: Scope | None
    span: Span
    constants: dict[str, Literal] = field(
        default_factory=dict
    )  # a recipe's parameters, lets and context names: they name arguments
    members: list[Node | Scope] = field(default_factory=list)
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
            if isinstance(member, Scope):
                yield from member.nodes()
            else:
                yield member


@dataclass(slots=True, eq=False)
class Node:
    """One operation, applied.

    `args` are complete (defaults filled in) and checked. `names` are the spec's names of the outputs, where it gave
    any. `path` is set where the operation owns parameters or state: `decoder.r16.layer.3.q.bottleneck.0.conv.2`.
    `stated` names the arguments that the text gives, at the call or by a `default`.
    """

    index: int
    op: str
    args: Mapping[str, Literal]
    inputs: tuple[Value, ...]
    shapes: tuple[Shape, ...]
    scope: Scope
    span: Span
    parameters: tuple[Parameter, ...] = ()
    path: str = ""
    names: tuple[str | None, ...] = ()
    shared: tuple[str, ...] = ()  # roles of `parameters` that an earlier node of the same `path` owns
    stated: frozenset[str] = frozenset()
    own_path: str = ""  # where other roles are, in a use of a shared instance with roles of its own

    def parameter_path(self, role: str) -> str:
        """The full name of a parameter: `decoder.r16.conv.0.weight`."""
        return f"{self.own_path if self.own_path and role not in self.shared else self.path}.{role}"


@dataclass(slots=True)
class LatentGroup:
    """One latent variable, in the order of generation."""

    name: str
    node: int  # of the `latent` operation
    family: str  # normal, laplace, logistic, bernoulli, categorical, codebook, finite_scalar, lookup_free
    shape: Shape
    path: str
    codes: int | None = None  # how many values a discrete latent has, at each position and depth
    depth: int = 1  # codes at each position, in residual quantization


@dataclass(slots=True)
class Graph:
    """A model (or one of its second-stage priors).

    Node kinds with a fixed meaning, beside the operation table's entries:
      `image`    the mapped input image; no inputs
      `tap`      publishes its input (args: name); its output is what readers of that tap take. A latent drawn on the
                 way up is published as two inputs and outputs: the draw, and the distribution that it comes from
      `sample`   draws from a distribution on the posterior side only (before a flow); input: distribution
      `latent`   draws z (args: name, family); inputs: prior, posterior[, the posterior's sample after its flow]
      `codes`    the one-hot map of a latent that enters a second-stage prior (args: name)
      `output`   the last decoder value; one input; the likelihood's parameters
    A distribution (`normal(…)` and its like) is a node whose shape is that of one draw.
    """

    name: str
    nodes: list[Node]
    root: Scope
    latents: list[LatentGroup]
    output: Value
    image: Shape | None  # None for a second-stage prior

    def shape(self, value: Value) -> Shape:
        return self.nodes[value.node].shapes[value.port]

    def parameter_count(self) -> int:
        return sum(p.size for n in self.nodes for p in n.parameters if p.trainable and p.role not in n.shared)
