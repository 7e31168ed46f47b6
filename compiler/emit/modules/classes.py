"""One class for all instances that do the same: what differs becomes constructor parameters (anti-unification)."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from hvdsl.compiler.catalogue.table import LayerCall
from hvdsl.compiler.diagnostics.emission import USES_DIFFER
from hvdsl.compiler.emit import runtime_index, syntax
from hvdsl.compiler.emit.forward.steps import Address, Item, ListItem, Ref, Repeat, Step, StepKind, When, steps
from hvdsl.compiler.emit.modules import constructor
from hvdsl.compiler.emit.modules.class_names import class_name
from hvdsl.compiler.emit.modules.instance import ModuleInstance, OwnUse
from hvdsl.compiler.emit.modules.tree import ModuleTree
from hvdsl.compiler.emit.syntax import Names
from hvdsl.compiler.graph import MODULE_ATTRIBUTES, Edge, Graph, GraphScope, Literal, Named, Term
from hvdsl.grammar.diagnostics import Diagnostic, SpecError


def grouped_instances(*roots: ModuleInstance) -> list[list[ModuleInstance]]:
    """Group all instances by class, the parts of a class before the class itself, and number the groups.

    Recipes of several graphs share classes; a graph itself and its sections are its own.
    """
    known: dict[Hashable, int] = {}
    groups: dict[int, list[ModuleInstance]] = defaultdict(list)

    def visit(instance: ModuleInstance) -> None:
        for part in instance.parts():
            visit(part)
        owner = instance.graph.name if instance.is_section else ""
        instance.class_key = known.setdefault((owner, _class_key(instance)), len(known))
        groups[instance.class_key].append(instance)

    for root in roots:
        visit(root)
    classes = [groups[i] for i in range(len(groups))]
    _check_shared(classes)
    return classes


def _check_shared(groups: list[list[ModuleInstance]]) -> None:
    """A shared instance has one class, wherever it is used.

    Raises:
        SpecError: HV0805, for shared instances that have several.
    """
    form_of: dict[tuple[str, str], int] = {}
    for instances in groups:
        for instance in instances:
            if form_of.setdefault((instance.graph.name, instance.scope.path), instance.class_key) != instance.class_key:
                raise SpecError([uses_differ(instance.scope)])


def uses_differ(scope: GraphScope) -> Diagnostic:
    message = f"the uses of `{scope.path}` are not the same computation"
    help = "what a shared instance does may not depend on the place of its use, as by `res`, `index` or `skip`"
    return Diagnostic(USES_DIFFER, message, scope.span, expected="one computation at every use", help=help)


def _class_key(instance: ModuleInstance) -> Hashable:
    numbers: dict[Edge, int] = {}
    entries = tuple((address, _entry(entry)) for address, entry in instance.entries.items())
    inputs = tuple(_ref(v, numbers) for v in instance.inputs)
    items = tuple(_item(i, numbers) for i in instance.items)
    outputs = tuple(_ref(v, numbers) for v in instance.outputs)
    lent = tuple(instance.borrowed.values())
    return instance.scope.kind, instance.scope.name, instance.takes_latents, lent, inputs, entries, items, outputs


def _entry(entry: LayerCall | ModuleInstance | OwnUse) -> Hashable:
    if isinstance(entry, ModuleInstance):
        return entry.class_key
    if isinstance(entry, OwnUse):
        return entry
    return entry.name, len(entry.args)


def _ref(ref: Ref, numbers: dict[Edge, int]) -> Hashable:
    if isinstance(ref, ListItem):
        return ref
    if isinstance(ref, Edge):
        return numbers.setdefault(ref, len(numbers))
    raise AssertionError("loops are found after classes")


def _item(item: Item, numbers: dict[Edge, int]) -> Hashable:
    if isinstance(item, Repeat):
        return "repeat", tuple(tuple(_item(i, numbers) for i in turn) for turn in item.turns)
    if isinstance(item, When):
        return "when", item.first, item.last, tuple(_item(i, numbers) for i in item.items)
    if not isinstance(item, Step):
        raise AssertionError("loops are found after classes")
    inputs = tuple(_ref(i, numbers) for i in item.inputs)
    outputs = tuple(_ref(o, numbers) for o in item.outputs)
    return (
        item.kind,
        item.template,
        inputs,
        outputs,
        item.holder,
        item.module,
        item.lent,
        item.latents,
        item.fills,
        item.callee and item.callee.class_key,
    )


OMITTED: dict[str, Literal] = {"weight_init": Term("fan_in"), "bias_init": Term("fan_in")}  # what layers make of None


@dataclass(slots=True)
class InitArgument:
    """An argument of a constructor, with its value in each instance."""

    name: str
    values: tuple[Literal, ...]
    kept: bool = False  # `forward` reads it: the constructor stores it

    @property
    def annotation(self) -> str:
        return " | ".join(dict.fromkeys(_type(v) for v in self.values if v is not None)) + (
            " | None" if None in self.values else ""
        )


@dataclass(slots=True, eq=False)
class ModuleClass:
    name: str
    instances: list[ModuleInstance]
    parameters: list[InitArgument] = field(default_factory=list)
    entries: dict[Address, ast.expr] = field(default_factory=dict)  # how each submodule is built
    values: dict[int, tuple[ast.expr, ...]] = field(default_factory=dict)  # node -> literals of its expression

    @property
    def example(self) -> ModuleInstance:
        """The instance that the code is written after."""
        return self.instances[0]


def classes(
    groups: Sequence[Sequence[ModuleInstance]], taken: Names, constants: Mapping[str, str] = MappingProxyType({})
) -> list[ModuleClass]:
    """Name the classes and settle their parameters, the parts of a class before the class itself.

    `constants` are the names of the module's constants by the `let` that each is.
    """
    module_classes: list[ModuleClass] = []
    for instances in groups:
        module_classes.append(_Unifier(list(instances), module_classes, taken, constants).result())
    return module_classes


def check_classes(graph: Graph) -> None:
    """Check that every shared instance of a graph is one object of one class.

    Raises:
        SpecError: HV0805, for one that computes something else at another use.
    """
    classes(grouped_instances(ModuleTree(graph).root), Names())


class _Unifier:
    def __init__(
        self, instances: list[ModuleInstance], known: list[ModuleClass], taken: Names, constants: Mapping[str, str]
    ) -> None:
        self._constants = constants
        self._instances = instances
        self._known = known
        self._class = ModuleClass(class_name(instances[0], known, taken), instances)
        self._names = Names(
            {str(address[0]) for address in instances[0].entries}
            | set(runtime_index.exports())
            | MODULE_ATTRIBUTES
            | set(constants.values())
        )
        self._named = _contexts(instances)
        self._parameters: dict[str, InitArgument] = {}

    def result(self) -> ModuleClass:
        example = self._instances[0]
        for address, entry in example.entries.items():
            versions = [instance.entries[address] for instance in self._instances]
            if isinstance(entry, ModuleInstance):
                self._class.entries[address] = self._child([v for v in versions if isinstance(v, ModuleInstance)])
            elif isinstance(entry, OwnUse):
                shared, roles = constructor.attribute(entry.instance), map(syntax.constant_node, entry.roles)
                self._class.entries[address] = syntax.call("Own", shared, *roles)
            else:
                nodes = [dict(instance.nodes[address].args) for instance in self._instances]
                self._class.entries[address] = self._layer([v for v in versions if isinstance(v, LayerCall)], nodes)
        for same in zip(*(_expressions(instance) for instance in self._instances), strict=True):
            self._expression(same)
        self._class.parameters = list(self._parameters.values())
        self._check_shared()
        return self._class

    def _check_shared(self) -> None:
        """One instance is built once: no argument of it may differ from use to use."""
        for parameter in self._parameters.values():
            value_of: dict[tuple[str, str], str] = {}
            for instance, value in zip(self._instances, parameter.values, strict=True):
                if value_of.setdefault((instance.graph.name, instance.scope.path), repr(value)) != repr(value):
                    raise SpecError([uses_differ(instance.scope)])

    def _child(self, instances: list[ModuleInstance]) -> ast.expr:
        child = self._known[instances[0].class_key]
        number = {id(u): i for i, u in enumerate(child.instances)}
        positions = [number[id(u)] for u in instances]
        args = [self._resolve(tuple(p.values[i] for i in positions), [p.name]) for p in child.parameters]
        return syntax.call(child.name, *args)

    def _layer(self, layers: list[LayerCall], args: list[dict[str, Literal]]) -> ast.expr:
        first = layers[0]
        roles = list(runtime_index.parameters(first.name))
        positional = []
        for i in range(len(first.args)):
            values = tuple(layer.args[i] for layer in layers)
            positional.append(self._resolve(values, [*_hints(values, args), roles[i]]))
        varying = dict.fromkeys(key for layer in layers for key, _ in layer.options)
        options = {
            key: self._resolve(tuple(_option(layer, key) for layer in layers), _preferred(key, layers, args))
            for key in sorted(varying, key=roles.index)
        }
        return syntax.call(first.name, *positional, **options)

    def _expression(self, versions: Sequence[Step]) -> None:
        nodes = [u.graph.nodes[s.outputs[0].node] for u, s in zip(self._instances, versions, strict=True)]
        args = [dict(node.args) for node in nodes]
        expressions = []
        for i in range(len(versions[0].values)):
            values = tuple(s.values[i] for s in versions)
            expressions.append(self._resolve(values, _hints(values, args), kept=True))
        self._class.values[versions[0].outputs[0].node] = tuple(expressions)

    def _resolve(self, values: tuple[Literal, ...], hints: Sequence[str], kept: bool = False) -> ast.expr:
        """What the constructor (or, if `kept`, `forward`) writes for a literal with these values over the instances."""
        key = repr(values)
        if len(set(map(repr, values))) == 1:
            return self._literal(values)
        if key not in self._parameters and key not in self._named:
            parts = self._parts(values, hints, kept)
            if parts is not None:
                return parts
        if key not in self._parameters:
            name = self._named.get(key) or next(iter(hints), "value")
            self._parameters[key] = InitArgument(self._names.take(name), values)
        parameter = self._parameters[key]
        parameter.kept |= kept
        return syntax.dotted("self", parameter.name) if kept else syntax.name(parameter.name)

    def _literal(self, values: Sequence[Literal]) -> ast.expr:
        """One value, the same in all instances; a constant's name where all of them say that `let`."""
        lets = {value.let if isinstance(value, Named) else "" for value in values}
        if len(lets) == 1 and (constant := self._constants.get(lets.pop())) is not None:
            return syntax.name(constant)
        tuples = [value for value in values if isinstance(value, tuple)]
        if len(tuples) == len(values):
            return ast.Tuple([self._literal(column) for column in zip(*tuples, strict=True)], ast.Load())
        return syntax.literal(values[0])

    def _parts(self, values: tuple[Literal, ...], hints: Sequence[str], kept: bool) -> ast.expr | None:
        """Tuples of one length, of which a part is the same everywhere, differ in their other parts only."""
        tuples = [v for v in values if isinstance(v, tuple)]
        if len(tuples) < len(values) or len({len(t) for t in tuples}) != 1:
            return None
        columns = list(zip(*tuples, strict=True))
        known = [repr(column) in self._named or repr(column) in self._parameters for column in columns]
        if not all(known) and not any(len(set(map(repr, column))) == 1 for column in columns):
            return None
        return ast.Tuple([self._resolve(column, hints, kept) for column in columns], ast.Load())


def _contexts(instances: Sequence[ModuleInstance]) -> dict[str, str]:
    """The recipe's own names by their values over all instances; parameters come first, then lets and context names."""
    names: dict[str, str] = {}
    for name in instances[0].scope.constants:
        if all(name in u.scope.constants for u in instances):
            names.setdefault(repr(tuple(u.scope.constants[name] for u in instances)), name)
    if all(u.inputs for u in instances):
        shapes = [u.graph.shape(u.inputs[0]) for u in instances]
        names.setdefault(repr(tuple(s[0] for s in shapes)), "channels")
        names.setdefault(repr(tuple(s[1] for s in shapes)), "res")
    if all(u.outputs for u in instances):
        names.setdefault(repr(tuple(u.graph.shape(u.outputs[0])[1] for u in instances)), "size")
    return names


def _hints(values: tuple[Literal, ...], args: Sequence[dict[str, Literal]]) -> list[str]:
    """Arguments of the operation that have these values."""
    return [name for name in args[0] if tuple(a.get(name) for a in args) == values]


def _preferred(key: str, layers: Sequence[LayerCall], args: Sequence[dict[str, Literal]]) -> list[str]:
    return [*_hints(tuple(_option(layer, key) for layer in layers), args), key]


def _option(layer: LayerCall, key: str) -> Literal:
    """What a layer says for an option, or what its class takes where it says nothing."""
    given = dict(layer.options)
    if key in given:
        return given[key]
    default = runtime_index.parameters(layer.name)[key]
    value = None if default is None else ast.literal_eval(default)
    return OMITTED.get(key, value) if value is None else value


def _expressions(instance: ModuleInstance) -> list[Step]:
    return [s for s in steps(instance.items) if s.kind is StepKind.EXPRESSION]


def _type(value: Literal) -> str:
    if isinstance(value, Term):
        return runtime_index.result_type(value.name)
    if isinstance(value, tuple):
        return f"tuple[{', '.join(_type(v) for v in value)}]"
    return "int" if isinstance(value, Named) else "float" if isinstance(value, float) else type(value).__name__
