"""The top level of a spec: lets, recipes, shared instances and defaults by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.table import REQUIRED, Argument, ArgumentType, Kind, Word
from hvdsl.compiler.graph import Term
from hvdsl.compiler.settings import Condition
from hvdsl.grammar import tree

RESERVED = frozenset(
    """
    hv model title use extends let shared default cell group encoder decoder likelihood data objective
    train evaluate sample prior given variant posterior if else and or not yes no none skip tap x _
    parallel
    """.split()  # noqa: SIM905 - as a list, one line for each word
)


@dataclass(slots=True)
class Program:
    """What every place in the spec sees."""

    lets: Mapping[str, tree.Let]
    recipes: Mapping[str, tree.Recipe]
    shared: Mapping[str, tree.Shared]
    defaults: Mapping[str, tuple[tree.Setting, ...]]
    logits: int | None  # None: unknown
    conditions: Mapping[str, Condition]  # the fields beside an image, in order
    of_codes: bool = False  # priors alone, over codes from a file
    _parameters: dict[str, tuple[Argument, ...]] = field(default_factory=dict)

    def parameters(self, recipe: tree.Recipe) -> tuple[Argument, ...]:
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
    def of(cls, spec: tree.Spec, logits: int | None, conditions: Sequence[Condition]) -> Program:
        """Collect the top level of a merged spec."""
        defaults: dict[str, tuple[tree.Setting, ...]] = {}
        for item in spec.items:
            if isinstance(item, tree.Default):
                defaults[item.operation.id] = defaults.get(item.operation.id, ()) + item.settings
        return cls(
            {i.name.id: i for i in spec.items if isinstance(i, tree.Let)},
            {i.name.id: i for i in spec.items if isinstance(i, tree.Recipe)},
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
PUBLIC_OPERATIONS = frozenset(name for name, o in OPERATIONS.items() if o.kind is not Kind.INTERNAL)
