"""From the graph's scopes to the tree of module instances, with what each holds, takes and returns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from hvdsl.compiler.catalogue.convolutions import CONV
from hvdsl.compiler.catalogue.rules import term
from hvdsl.compiler.catalogue.structure import log_determinant
from hvdsl.compiler.catalogue.table import LayerCall, Operation
from hvdsl.compiler.emit.forward.steps import (
    Address,
    Index,
    Item,
    ListItem,
    Ref,
    Repeat,
    Step,
    StepKind,
    schedule_items,
)
from hvdsl.compiler.emit.forward.variables import allowed
from hvdsl.compiler.emit.modules.instance import (
    SEPARATE,
    ModuleInstance,
    OwnUse,
    Uses,
    address_of,
    declares,
    in_shared,
    lent,
    parent_of,
    published,
    section_of,
    tap_key,
    used_path,
    uses,
)
from hvdsl.compiler.emit.modules.shared import Use, running, uses_alike
from hvdsl.compiler.emit.syntax import Names, Template, abstract, slot
from hvdsl.compiler.graph import ENTRIES, Direction, Edge, Graph, GraphLatent, GraphScope, Node, Role

BATCH = "latents.batch"


class ModuleTree:
    """Reads a graph once, into a tree of instances."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.uses: Uses = uses(graph)
        self.lists = _lists(graph, self.uses)
        self._latent_number = {group.node: i for i, group in enumerate(graph.latents)}
        self._flows = {group.node: group for group in graph.latents if group.flow is not None}
        self._upwards = {group.node for group in graph.latents if group.direction is Direction.UP}
        self._starts = {group.sample: group.node for group in graph.latents if group.sample is not None}
        self._flowed_taps = {g.tap: g.node for g in self._flows.values() if g.tap is not None}
        self._instance_of: dict[int, ModuleInstance] = {}
        self._instance_of_scope: dict[int, ModuleInstance] = {}
        end = graph.nodes[graph.output.node]
        self.result = end.inputs[0] if end.role is Role.OUTPUT else graph.output
        self.root = self._instance(graph.root, None)
        self._instance_of |= {n.index: self.root for n in graph.nodes if n.role in ENTRIES}  # `forward` takes it
        self._cross_borders()
        self._read(self.root)

    # -- structure

    def _instance(self, scope: GraphScope, parent: ModuleInstance | None) -> ModuleInstance:
        instance = ModuleInstance(self.graph, scope, parent, parent.depth + 1 if parent else 0)
        self._instance_of_scope[id(scope)] = instance
        self._place(scope, instance)
        latents = (self._starts.get(n.index, n.index) for n in scope.nodes())
        drawn = [self._latent_number[latent] for latent in latents if latent in self._latent_number]
        live = [n for n in scope.nodes() if n.index in self.uses.live]
        instance.generative = any(n.index in self.uses.generative for n in live)
        if drawn:  # and those further down whose posteriors alone need a part of it
            later = [self.uses.needed[n.index][1] for n in live if n.index in self.uses.needed]
            if not in_shared(instance):  # uses of which have all as many, some behind the model's end
                later = [min(latent, len(self.graph.latents) - 1) for latent in later]
            instance.latents = min(drawn), max([*drawn, *(later if instance.generative else ())]) + 1
        sources = any(not n.inputs and n.role not in ENTRIES for n in live)  # they ask for the size of the batch
        instance.takes_latents = bool(drawn) or sources
        return instance

    def _place(self, scope: GraphScope, instance: ModuleInstance) -> None:
        for member in scope.members:
            if isinstance(member, Node):
                self._instance_of[member.index] = instance
                layer = self._layer(member)
                if layer is not None:
                    address = self._layer_address(member, instance)
                    instance.entries[address], instance.nodes[address] = layer, member
            elif member.kind == "shared":
                self._use(member, instance)
            elif member.kind in SEPARATE:
                child = self._instance(member, instance)
                if child.entries or any(True for _ in member.nodes()):
                    instance.entries[address_of(member.path, instance.scope)] = child
            else:
                self._place(member, instance)

    def _use(self, scope: GraphScope, instance: ModuleInstance) -> None:
        """A use of a shared instance, which the instance of its declaration holds and hands down."""
        use = self._instance(scope, instance)
        instance.called.append(use)
        owner = instance
        while not declares(owner, scope):
            owner.borrowed.setdefault(used_path(scope), self._argument(owner, scope))
            owner = parent_of(owner)
        place = address_of(scope.path, owner.scope)
        if scope.own:
            owner.entries[address_of(used_path(scope), owner.scope)] = OwnUse(place, scope.own)
        else:
            owner.entries.setdefault(place, use)

    def _argument(self, instance: ModuleInstance, scope: GraphScope) -> str:
        names = Names(instance.borrowed.values())
        return names.take(allowed(scope.name))

    def _layer(self, node: Node) -> LayerCall | None:
        if node.role in (*ENTRIES, Role.TAP, Role.LATENT, Role.OUTPUT) or node.index in self._starts:
            return None
        if node.operation.layer is None:
            return None
        shapes = [self.graph.shape(v) for v in node.inputs]
        if node.operation is CONV:  # of several inputs: of their concatenation (`passes.split_concat`)
            shapes = [(sum(s[0] for s in shapes), *shapes[0][1:])] if len(shapes) > 1 else shapes
        return node.operation.layer(shapes, node.shapes, node.args)

    def _layer_address(self, node: Node, instance: ModuleInstance) -> Address:
        """Where a layer is kept: by its path, or, if it owns no tensor and so has none, by its own count."""
        path = node.path
        if not path:
            above = node.scope.path
            kept = sum(
                1
                for n in instance.nodes.values()
                if not n.path and n.scope.path == above and n.operation is node.operation
            )
            path = f"{above}.{node.operation.name}.{kept}".lstrip(".")
        return address_of(path, instance.scope)

    # -- dataflow

    def _cross_borders(self) -> None:
        """Find what each instance takes from outside, in order of use, and what of it is used outside."""
        inputs: dict[int, dict[Edge, None]] = defaultdict(dict)
        outputs: dict[int, dict[Edge, None]] = defaultdict(dict)
        instances: dict[int, ModuleInstance] = {}

        def carry(value: Edge, to: ModuleInstance) -> None:
            source = self._instance_of[value.node]
            inside, outside = to, source
            while inside is not outside:
                if inside.depth > outside.depth:
                    inputs[id(inside)][value] = None
                    instances[id(inside)] = inside
                    inside = parent_of(inside)
                else:
                    outputs[id(outside)][value] = None
                    instances[id(outside)] = outside
                    outside = parent_of(outside)

        for node in self.graph.nodes:
            if node.index in self.uses.live and node.role is not Role.OUTPUT:
                for value in self._operands(node):
                    carry(self._passed(value, self._instance_of[node.index]), self._instance_of[node.index])
        carry(self.result, self.root)
        for several in uses_alike(self.graph):
            self._same_outputs(several, outputs)
        for key, instance in instances.items():
            order = {Role.GIVEN: 1, Role.TAP: 2}  # the stream first, what comes from elsewhere after it
            instance.inputs = tuple(sorted(inputs[key], key=lambda v: order.get(self.graph.nodes[v.node].role, 0)))
            instance.outputs = tuple(
                sorted(outputs[key], key=lambda v: (self.graph.nodes[v.node].role is Role.TAP, v.node, v.port))
            )

    def _same_outputs(self, uses: list[Use], outputs: dict[int, dict[Edge, None]]) -> None:
        """Let every use of a shared instance, and what is inside it, return what any of them returns."""
        for same in zip(*(self._returned(use, outputs) for use in running(uses, self.uses.live)), strict=True):
            ports = {value.port for node, values in same for value in values if value.node == node}
            for node, values in same:
                values.update((Edge(node, port), None) for port in ports)

    def _returned(self, use: Use, outputs: dict[int, dict[Edge, None]]) -> Iterator[tuple[int, dict[Edge, None]]]:
        """Each node of a use with what each instance around it returns, from its own outwards to the use."""
        for node in use.nodes:
            instance = self._instance_of[node]
            while instance.scope is not use.scope:
                yield node, outputs[id(instance)]
                instance = parent_of(instance)
            yield node, outputs[id(instance)]

    # -- code

    def _read(self, instance: ModuleInstance) -> None:
        items = self._items(instance.scope, instance)
        instance.items = schedule_items(items, instance.latents[0]) if instance.generative else items
        for part in instance.parts():
            self._read(part)

    def _items(self, scope: GraphScope, instance: ModuleInstance) -> tuple[Item, ...]:
        items: list[Item] = []
        for member in scope.members:
            if isinstance(member, Node):
                items += self._node(member, instance)
            elif member.kind in SEPARATE:
                items += self._call(member, instance)
            elif member.kind == "repeat":
                items.append(Repeat(tuple(self._turn(t, instance) for t in member.members)))
            else:
                items += self._items(member, instance)
        return tuple(items)

    def _turn(self, member: Node | GraphScope, instance: ModuleInstance) -> tuple[Item, ...]:
        if isinstance(member, GraphScope):
            return self._items(member, instance) if member.kind not in SEPARATE else tuple(self._call(member, instance))
        return tuple(self._node(member, instance))

    def _node(self, node: Node, instance: ModuleInstance) -> list[Step]:
        if node.index not in self.uses.live or node.role in (*ENTRIES, Role.OUTPUT):
            return []
        inputs = tuple(self._ref(self._passed(v, instance), instance) for v in node.inputs)
        outputs = tuple(Edge(node.index, port) for port in range(len(node.shapes)))
        names = node.names + (None,) * (len(outputs) - len(node.names))
        needed = self._needed([node.index], instance)
        if node.index in self._flowed_taps:
            return self._publish_flowed(node, instance, needed)
        if node.role is Role.TAP:
            item = self.lists.get(published(node))
            if item is not None and instance.is_section:
                return [Step(StepKind.APPEND, inputs[-1:], fills=(item.list,), needed=needed)]
            return [Step(StepKind.ALIAS, inputs[-1:], outputs[-1:], needed=needed)]
        if node.role is Role.LATENT:
            return self._draw(node, inputs, instance, names)
        if node.index in self._starts:
            part = self._part(self._starts[node.index], instance)
            kind = StepKind.START if self._starts[node.index] in self._flows else StepKind.INFER
            return [Step(kind, inputs, outputs, self._start_names(node), latents=part, needed=needed)]
        operation = node.operation
        if operation.layer is not None:
            text = f"_module_({BATCH if not inputs else ', '.join(slot(i) for i in range(len(inputs)))})"
            template = Template(text)
            module = next(a for a, n in instance.nodes.items() if n is node)
            return [Step(StepKind.LAYER, inputs, outputs, names, template, (), module, needed=needed)]
        template, values = abstract(self._expression(operation, node))
        return [Step(StepKind.EXPRESSION, inputs, outputs, names, template, values, needed=needed)]

    def _draw(
        self, node: Node, inputs: tuple[Ref, ...], instance: ModuleInstance, names: tuple[str | None, ...]
    ) -> list[Step]:
        """The draw of a latent; with a flow, the posterior that went through it before."""
        part, z = self._part(node.index, instance), Edge(node.index)
        if node.index not in self._flows or node.index in self._upwards:
            return [Step(StepKind.DRAW, inputs[:2], (z,), names, latents=part)]
        number = self._latent_number[node.index]
        flowed = Edge(node.index, len(node.shapes))  # a value of the code, not of the graph: it stays here
        return [
            self._through_flow(node, flowed, instance, (number, number)),
            Step(StepKind.DRAW, (inputs[0], flowed), (z,), names, latents=part),
        ]

    def _publish_flowed(self, tap: Node, instance: ModuleInstance, needed: tuple[int, int] | None) -> list[Step]:
        """On the way up: the posterior with its flow, which crosses to the decoder, and the value it gives here."""
        z, flowed = Edge(tap.index), published(tap)
        part = self._part(self._flowed_taps[tap.index], instance)
        infer = Step(StepKind.INFER, (flowed,), (z,), (self._name(z),), latents=part, needed=needed)
        item = self.lists.get(flowed) if instance.is_section else None
        listed = [] if item is None else [Step(StepKind.APPEND, (flowed,), fills=(item.list,), needed=needed)]
        return [self._through_flow(tap, flowed, instance, needed), infer, *listed]

    def _through_flow(self, node: Node, flowed: Edge, instance: ModuleInstance, needed: tuple[int, int] | None) -> Step:
        """Make `flowed`, the posterior of a latent or its tap after its flow."""
        operands = self._operands(node)[0 if node.index in self._flowed_taps else 1 :]
        flow = self._flows[self._flowed_taps.get(node.index, node.index)]
        scales = (log_determinant(form, slot(3 + i)) for i, (form, _) in enumerate(self._scales(flow)))
        template, values = abstract(f"Flowed({', '.join([slot(0), slot(1), slot(2), *scales])})")
        read = tuple(self._ref(self._passed(v, instance), instance) for v in operands)
        return Step(StepKind.EXPRESSION, read, (flowed,), (None,), template, values, needed=needed)

    def is_flowed(self, value: Edge) -> bool:
        """Whether a value is a posterior that went through a flow."""
        node = self.graph.nodes[value.node]
        return value.port == (1 if value.node in self._flowed_taps else len(node.shapes))

    def _start_names(self, node: Node) -> tuple[str | None, ...]:
        return node.names if any(node.names) else ("start",)

    def _operands(self, node: Node) -> tuple[Edge, ...]:
        """What the code of a node reads.

        With a flow: the posterior, the flow's start and end, and what its log-determinant is made of. A latent drawn on
        the way up reads only its posterior, which gives the same draw again; and only the posterior crosses with the
        tap.
        """
        if node.index in self._upwards:
            return node.inputs[:2]
        flow = self._flows.get(self._flowed_taps.get(node.index, node.index))
        if flow is None:
            return node.inputs
        z, posterior = node.inputs if node.role is Role.TAP else (node.inputs[2], node.inputs[1])
        if flow.sample is None:
            raise AssertionError("a flow starts from a sample")
        moved = (posterior, Edge(flow.sample), z, *(s for _, s in self._scales(flow)))
        return moved if node.role is Role.TAP else (node.inputs[0], *moved)

    def _scales(self, latent: GraphLatent) -> list[tuple[str, Edge]]:
        """Of the steps of its flow that change volume: the form, and the tensor `s` that says by how much."""
        steps = [self.graph.nodes[i] for i in latent.flow.steps] if latent.flow else []
        return [(term(step.args, "form").name, step.inputs[2]) for step in steps if len(step.inputs) > 2]

    def _part(self, latent: int, instance: ModuleInstance) -> tuple[Index, Index]:
        number = self._latent_number[latent] - instance.latents[0]
        return Index(number), Index(number + 1)

    def _expression(self, operation: Operation, node: Node) -> str:
        if operation.expression is None:
            raise AssertionError(f"{operation.name} has neither layer nor expression")
        shapes = [self.graph.shape(v) for v in node.inputs]
        return operation.expression([slot(i) for i in range(len(node.inputs))], shapes, node.args)

    def _call(self, scope: GraphScope, instance: ModuleInstance) -> list[Step]:
        holder, module, callee = self._callee(scope, instance)
        live = [n.index for n in scope.nodes() if n.index in self.uses.live]
        if not isinstance(callee, ModuleInstance) or not live:
            return []
        latents = None
        if callee.takes_latents:
            first = instance.latents[0]
            low, high = callee.latents if callee.latents != (0, 0) else instance.latents
            latents = (Index(low - first), Index(high - first))
        inputs = tuple(self._ref(v, instance) for v in callee.inputs)
        outputs = tuple(v for v in callee.outputs if not (callee.is_section and v in self.lists))
        names = tuple(self._name(v) for v in outputs)
        needed = None if callee.generative else self._needed(live, instance)
        fills = tuple(
            dict.fromkeys(self.lists[v].list for v in callee.outputs if callee.is_section and v in self.lists)
        )
        call = Step(
            StepKind.CALL,
            inputs,
            outputs,
            names,
            module=module,
            holder=holder,
            callee=callee,
            lent=tuple(lent(path, instance) for path in callee.borrowed),
            latents=latents,
            fills=fills,
            needed=needed,
        )
        listed = [v for v in callee.outputs if instance.is_section and not callee.is_section and v in self.lists]
        return [call, *(Step(StepKind.APPEND, (v,), fills=(self.lists[v].list,), needed=needed) for v in listed)]

    def _callee(
        self, scope: GraphScope, instance: ModuleInstance
    ) -> tuple[str, Address, LayerCall | ModuleInstance | OwnUse | None]:
        """Where the module of a call is, and what it is of."""
        if scope.kind == "shared":
            name, *rest = lent(used_path(scope), instance)
            return str(name), tuple(rest), self._instance_of_scope[id(scope)]
        module = address_of(scope.path, instance.scope)
        return "self", module, instance.entries.get(module)

    def _passed(self, value: Edge, reader: ModuleInstance) -> Edge:
        """What runs on through a tap is, in the tap's own section, still what went in."""
        node = self.graph.nodes[value.node]
        while (
            node.role is Role.TAP
            and node.index not in self._flowed_taps
            and section_of(self._instance_of[node.index]) is section_of(reader)
        ):
            value = node.inputs[value.port]
            node = self.graph.nodes[value.node]
        return value

    def _name(self, value: Edge) -> str | None:
        names = self.graph.nodes[value.node].names
        return names[value.port] if value.port < len(names) else None

    def _ref(self, value: Edge, instance: ModuleInstance) -> Ref:
        if instance.is_section and value in self.lists:
            return self.lists[value]
        return value

    def _needed(self, nodes: list[int], instance: ModuleInstance) -> tuple[int, int] | None:
        """The latents whose posteriors need these nodes, where the instance also runs without an image."""
        if not instance.generative or any(n in self.uses.generative for n in nodes):
            return None
        ranges = [self.uses.needed[n] for n in nodes if n in self.uses.needed]
        return (min(r[0] for r in ranges), max(r[1] for r in ranges)) if ranges else None


def _lists(graph: Graph, used: Uses) -> dict[Edge, ListItem]:
    """Taps of one name and resolution, where there are several, form a list."""
    together: dict[tuple[str, int, int], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.role is Role.TAP and node.index in used.live:
            together[tap_key(node)].append(node)
    places = {}
    for (name, height, width), nodes in together.items():
        size = str(height) if height == width else f"{height}x{width}"
        if len(nodes) > 1:
            for i, node in enumerate(nodes):
                places[published(node)] = ListItem(f"{name}_{size}", Index(i))
    return places
