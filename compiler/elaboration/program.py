"""The top level of a spec: lets, recipes, shared instances and defaults by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hvdsl.compiler.catalogue import OPERATIONS
from hvdsl.compiler.catalogue.table import Kind
from hvdsl.compiler.graph import Term
from hvdsl.grammar import tree

# Words that stand inside the arguments of other words, which no argument of an operation declares.
_INNER_WORDS = ("exclude", "before", "upto", "all", "linear", "log", "raw", "from_batch", "identity")
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
    logits: int
    classes: int | None

    @classmethod
    def of(cls, spec: tree.Spec, logits: int, classes: int | None) -> Program:
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
            classes,
        )

    def known(self) -> set[str]:
        """Every name of the top level."""
        return {*self.lets, *self.recipes, *self.shared}


def _words() -> frozenset[str]:
    found = set(_INNER_WORDS)
    for operation in OPERATIONS.values():
        for argument in operation.arguments:
            found.update(argument.words)
            if isinstance(argument.default, Term):
                found.add(argument.default.name)
    return frozenset(found)


WORDS = _words()
PUBLIC_OPERATIONS = frozenset(name for name, o in OPERATIONS.items() if o.kind is not Kind.INTERNAL)
