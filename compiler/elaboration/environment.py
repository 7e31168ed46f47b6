"""What names mean: at the top level of a spec, and at a place in it with its bindings, context names and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal as Choice

from hvdsl.compiler import graph
from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.table import REQUIRED, Argument, ArgumentType, OperationKind, Word
from hvdsl.compiler.elaboration.values import Flowing, Value
from hvdsl.compiler.graph import Term
from hvdsl.compiler.settings import ConditionSettings
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
    scope: graph.GraphScope | None = None  # the recipe instance whose constants these are
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


RESERVED = frozenset(
    """
    hv model title use extends let shared default cell group encoder decoder likelihood data objective
    train evaluate sample prior given variant posterior if else and or not yes no none skip tap x _
    parallel
    """.split()  # noqa: SIM905 - as a list, one line for each word
)


@dataclass(slots=True)
class TopLevel:
    """What every place in the spec sees."""

    lets: Mapping[str, tree.Let]
    recipes: Mapping[str, tree.RecipeNode]
    shared: Mapping[str, tree.Shared]
    defaults: Mapping[str, tuple[tree.Setting, ...]]
    logits: int | None  # None: unknown
    conditions: Mapping[str, ConditionSettings]  # the fields beside an image, in order
    of_codes: bool = False  # priors alone, over codes from a file
    _parameters: dict[str, tuple[Argument, ...]] = field(default_factory=dict)

    def parameters(self, recipe: tree.RecipeNode) -> tuple[Argument, ...]:
        """Return the parameters of a recipe as arguments; a default is the callee's business, here only its text."""
        name = recipe.name.id
        if name not in self._parameters:
            self._parameters[name] = tuple(
                replace(
                    ANYTHING,
                    name=parameter.name.id,
                    default=Term(parameter.default.span.text) if parameter.default is not None else REQUIRED,
                )
                for parameter in recipe.parameters
            )
        return self._parameters[name]

    @classmethod
    def of(cls, spec: tree.Spec, logits: int | None, conditions: Sequence[ConditionSettings]) -> TopLevel:
        """Collect the top level of a merged spec."""
        defaults: dict[str, tuple[tree.Setting, ...]] = {}
        for item in spec.items:
            if isinstance(item, tree.Default):
                defaults[item.operation.id] = defaults.get(item.operation.id, ()) + item.settings
        return cls(
            {i.name.id: i for i in spec.items if isinstance(i, tree.Let)},
            {i.name.id: i for i in spec.items if isinstance(i, tree.RecipeNode)},
            {i.name.id: i for i in spec.items if isinstance(i, tree.Shared)},
            defaults,
            logits,
            {field.name: field for field in conditions},
        )

    def known(self) -> set[str]:
        """Every name of the top level."""
        return {*self.lets, *self.recipes, *self.shared}


def _anything() -> Argument:
    """Return what a recipe's parameter or a `let` of a body may be: also any word that an argument declares."""
    words: dict[str, tuple[Argument, ...]] = {}
    todo = [argument for operation in OPERATIONS.values() for argument in operation.arguments]
    while todo:
        argument = todo.pop(0)
        for word in argument.words:
            words[word] = words.get(word) or argument.takes(word)
            todo += argument.takes(word)
    calls = tuple(Word(word, arguments) for word, arguments in words.items())
    return Argument("value", ArgumentType.ANY, words=tuple(words), calls=calls)


ANYTHING = _anything()
PUBLIC_OPERATIONS = frozenset(name for name, o in OPERATIONS.items() if o.kind is not OperationKind.INTERNAL)
