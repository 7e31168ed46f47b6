"""One class per form: what differs between its instances becomes constructor parameters (anti-unification)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field

from hvdsl.compiler.catalogue.table import Layer
from hvdsl.compiler.emit import constructor, literals, runtime_index
from hvdsl.compiler.emit.forms import forms, uses_differ
from hvdsl.compiler.emit.names import MODULE_LEVEL, Names, camel
from hvdsl.compiler.emit.steps import Address, Kind, Step, steps
from hvdsl.compiler.emit.unit import OwnUse, Unit
from hvdsl.compiler.emit.units import Units
from hvdsl.compiler.graph import Graph, Literal, Term
from hvdsl.compiler.reserved import MODULE_ATTRIBUTES
from hvdsl.grammar.diagnostics import SpecError

OMITTED: dict[str, Literal] = {"weight_init": Term("fan_in"), "bias_init": Term("fan_in")}  # what layers make of None


@dataclass(slots=True)
class Parameter:
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
class Class:
    name: str
    units: list[Unit]
    parameters: list[Parameter] = field(default_factory=list)
    entries: dict[Address, ast.expr] = field(default_factory=dict)  # how each submodule is built
    values: dict[int, tuple[ast.expr, ...]] = field(default_factory=dict)  # node -> literals of its expression

    @property
    def example(self) -> Unit:
        """The instance that the code is written after."""
        return self.units[0]


def classes(groups: Sequence[Sequence[Unit]], taken: Names) -> list[Class]:
    """Name the classes and settle their parameters, the parts of a class before the class itself."""
    made: list[Class] = []
    for units in groups:
        made.append(_Unifier(list(units), made, taken).result())
    return made


def check_classes(graph: Graph) -> None:
    """Check that every shared instance of a graph is one object of one class.

    Raises:
        SpecError: HV0805, for one that computes something else at another use.
    """
    classes(forms(Units(graph).root), Names())


class _Unifier:
    def __init__(self, units: list[Unit], known: list[Class], taken: Names) -> None:
        self._units = units
        self._known = known
        self._class = Class(_class_name(units[0], taken), units)
        self._names = Names(
            {str(address[0]) for address in units[0].entries} | set(runtime_index.exports()) | MODULE_ATTRIBUTES
        )
        self._named = _contexts(units)
        self._parameters: dict[str, Parameter] = {}

    def result(self) -> Class:
        example = self._units[0]
        for address, entry in example.entries.items():
            versions = [unit.entries[address] for unit in self._units]
            if isinstance(entry, Unit):
                self._class.entries[address] = self._child([v for v in versions if isinstance(v, Unit)])
            elif isinstance(entry, OwnUse):
                shared, roles = constructor.attribute(entry.instance), map(literals.constant, entry.roles)
                self._class.entries[address] = literals.call("Own", shared, *roles)
            else:
                nodes = [dict(unit.nodes[address].args) for unit in self._units]
                self._class.entries[address] = self._layer([v for v in versions if isinstance(v, Layer)], nodes)
        for same in zip(*(_expressions(unit) for unit in self._units), strict=True):
            self._expression(same)
        self._class.parameters = list(self._parameters.values())
        self._check_shared()
        return self._class

    def _check_shared(self) -> None:
        """One instance is built once: no argument of it may differ from use to use."""
        for parameter in self._parameters.values():
            value_of: dict[tuple[str, str], str] = {}
            for unit, value in zip(self._units, parameter.values, strict=True):
                if value_of.setdefault((unit.graph.name, unit.scope.path), repr(value)) != repr(value):
                    raise SpecError([uses_differ(unit.scope)])

    def _child(self, units: list[Unit]) -> ast.expr:
        made = self._known[units[0].form]
        number = {id(u): i for i, u in enumerate(made.units)}
        positions = [number[id(u)] for u in units]
        args = [self._resolve(tuple(p.values[i] for i in positions), [p.name]) for p in made.parameters]
        return literals.call(made.name, *args)

    def _layer(self, layers: list[Layer], args: list[dict[str, Literal]]) -> ast.expr:
        first = layers[0]
        roles = list(runtime_index.parameters(first.name))
        positional = []
        for i in range(len(first.args)):
            values = tuple(layer.args[i] for layer in layers)
            positional.append(self._resolve(values, [*_hints(values, args), roles[i]]))
        said = dict.fromkeys(key for layer in layers for key, _ in layer.options)
        options = {
            key: self._resolve(tuple(_option(layer, key) for layer in layers), _preferred(key, layers, args))
            for key in sorted(said, key=roles.index)
        }
        return literals.call(first.name, *positional, **options)

    def _expression(self, versions: Sequence[Step]) -> None:
        nodes = [u.graph.nodes[s.outputs[0].node] for u, s in zip(self._units, versions, strict=True)]
        args = [dict(node.args) for node in nodes]
        found = []
        for i in range(len(versions[0].values)):
            values = tuple(s.values[i] for s in versions)
            found.append(self._resolve(values, _hints(values, args), kept=True))
        self._class.values[versions[0].outputs[0].node] = tuple(found)

    def _resolve(self, values: tuple[Literal, ...], hints: Sequence[str], kept: bool = False) -> ast.expr:
        """What the constructor (or, if `kept`, `forward`) writes for a literal with these values over the instances."""
        key = repr(values)
        if len(set(map(repr, values))) == 1:
            return literals.literal(values[0])
        if key not in self._parameters and key not in self._named:
            parts = self._parts(values, hints, kept)
            if parts is not None:
                return parts
        if key not in self._parameters:
            name = self._named.get(key) or next(iter(hints), "value")
            self._parameters[key] = Parameter(self._names.take(name), values)
        parameter = self._parameters[key]
        parameter.kept |= kept
        return literals.dotted("self", parameter.name) if kept else literals.name(parameter.name)

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


def _class_name(unit: Unit, taken: Names) -> str:
    if unit.scope.kind == "model":
        return taken.take(camel(unit.graph.name))
    name = camel(unit.scope.name.rstrip("_"))
    if unit.scope.kind == "shared":
        name = f"Shared{name}"
    elif (name in runtime_index.exports() or name in MODULE_LEVEL) and not unit.is_section:
        name += "Cell"
    return taken.take(name)


def _contexts(units: Sequence[Unit]) -> dict[str, str]:
    """The recipe's own names by their values over all instances; parameters come first, then lets and context names."""
    found: dict[str, str] = {}
    for name in units[0].scope.constants:
        if all(name in u.scope.constants for u in units):
            found.setdefault(repr(tuple(u.scope.constants[name] for u in units)), name)
    if all(u.inputs for u in units):
        shapes = [u.graph.shape(u.inputs[0]) for u in units]
        found.setdefault(repr(tuple(s[0] for s in shapes)), "channels")
        found.setdefault(repr(tuple(s[1] for s in shapes)), "res")
    if all(u.outputs for u in units):
        found.setdefault(repr(tuple(u.graph.shape(u.outputs[0])[1] for u in units)), "size")
    return found


def _hints(values: tuple[Literal, ...], args: Sequence[dict[str, Literal]]) -> list[str]:
    """Arguments of the operation that have these values."""
    return [name for name in args[0] if tuple(a.get(name) for a in args) == values]


def _preferred(key: str, layers: Sequence[Layer], args: Sequence[dict[str, Literal]]) -> list[str]:
    return [*_hints(tuple(_option(layer, key) for layer in layers), args), key]


def _option(layer: Layer, key: str) -> Literal:
    """What a layer says for an option, or what its class takes where it says nothing."""
    given = dict(layer.options)
    if key in given:
        return given[key]
    default = runtime_index.parameters(layer.name)[key]
    value = None if default is None else ast.literal_eval(default)
    return OMITTED.get(key, value) if value is None else value


def _expressions(unit: Unit) -> list[Step]:
    return [s for s in steps(unit.items) if s.kind is Kind.EXPRESSION]


def _type(value: Literal) -> str:
    if isinstance(value, Term):
        return runtime_index.result_type(value.name)
    if isinstance(value, tuple):
        return f"tuple[{', '.join(_type(v) for v in value)}]"
    return type(value).__name__
