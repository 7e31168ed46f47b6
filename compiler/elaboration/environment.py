"""What names mean at a place in a spec: bindings, context names, defaults, and whose text it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as Choice

from hvdsl.compiler import graph
from hvdsl.compiler.elaboration.values import Flowing, Value
from hvdsl.grammar import tree

CONTEXT_NAMES = ("channels", "res", "height", "width_px", "index", "count", "latents", "logits", "label")


def bound_by(statement: tree.Statement) -> list[str]:
    """Return the names that a statement binds."""
    match statement:
        case tree.Bare():
            return ["x"]
        case tree.Bind():
            return [t.id for t in statement.targets if isinstance(t, tree.Name)]
        case tree.Latent():
            return [n.id for n in statement.names]
        case tree.Let():
            return [statement.name.id]
        case _:
            return []


@dataclass(slots=True, eq=False)
class Owner:
    """Whose text something is: an instance of a recipe, a row, or a prior. Taps are read per owner."""

    kind: Choice["cell", "group", "row", "prior", "model"]
    name: str
    reads: dict[tuple[str, tuple[int, int]], int] = field(default_factory=dict)  # which reader it is, per tap


@dataclass(slots=True, eq=False)
class Frame:
    """What the context names say: fixed on entering a recipe, a row or braces."""

    section: str
    label: tuple[int, int] | None
    entered: Flowing = None
    recipe: str | None = None
    index: int | None = None
    is_row: bool = False
    scope: graph.Scope | None = None  # the recipe instance whose constants these are
    lets: dict[str | tuple[str, tuple[str, ...]], Value] = field(default_factory=dict)  # top-level lets evaluated here

    def inside(self, entered: Flowing) -> Frame:
        """Return the frame of a block that `entered` flows into."""
        return Frame(self.section, self.label, entered, self.recipe, self.index, scope=self.scope)

    def turn(self, index: int) -> Frame:
        """Return the frame of one turn of a repeat: as this, but for `index`."""
        return Frame(self.section, self.label, self.entered, self.recipe, index, self.is_row, self.scope)


@dataclass(slots=True, eq=False)
class Environment:
    """A nested table of names. A recipe's has no parent: it sees only top-level and context names besides."""

    frame: Frame
    owner: Owner
    parent: Environment | None = None
    names: dict[str, Value] = field(default_factory=dict)
    defaults: dict[str, list[tuple[tree.Setting, Environment]]] = field(default_factory=dict)
    body: tree.Block | None = None  # whose statements are being executed here

    def find(self, name: str) -> Environment | None:
        """Return the innermost table that has `name`."""
        here: Environment | None = self
        while here is not None:
            if name in here.names:
                return here
            here = here.parent
        return None

    def known(self) -> set[str]:
        """Every name that is bound here."""
        names: set[str] = set()
        here: Environment | None = self
        while here is not None:
            names |= here.names.keys()
            here = here.parent
        return names

    def bound_later(self, name: str, offset: int) -> tree.Statement | None:
        """Return the statement of this text, behind the character `offset`, that is going to bind a name."""
        here: Environment | None = self
        while here is not None:
            for statement in here.body.statements if here.body is not None else ():
                if statement.span.start > offset and name in bound_by(statement):
                    return statement
            here = here.parent
        return None

    def default(self, operation: str) -> dict[str, tuple[tree.Setting, Environment]]:
        """Return what the `default`s in this text say of an operation, by argument; the nearest wins."""
        settings: dict[str, tuple[tree.Setting, Environment]] = {}
        here: Environment | None = self
        while here is not None:
            if operation in here.defaults:
                outer = {setting.key.id: (setting, where) for setting, where in here.defaults[operation]}
                settings = {**outer, **settings}
            here = here.parent
        return settings
