"""`forward`: statements from steps, loops and conditions."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from hvdsl.compiler.emit import syntax
from hvdsl.compiler.emit.forward.loops import roll
from hvdsl.compiler.emit.forward.signature import Signature
from hvdsl.compiler.emit.forward.steps import (
    DRAWS,
    Address,
    Carried,
    Index,
    Item,
    ListItem,
    Loop,
    Ref,
    Repeat,
    Step,
    StepKind,
    When,
    steps,
)
from hvdsl.compiler.emit.forward.variables import Inlined, Variables, inline, lifetimes
from hvdsl.compiler.emit.modules.classes import ModuleClass
from hvdsl.compiler.emit.modules.constructor import attribute, index
from hvdsl.compiler.emit.modules.tree import ModuleTree
from hvdsl.compiler.emit.syntax import fill
from hvdsl.compiler.graph import Edge

BODY = 2  # levels of indentation of a method's statements


class Forward:
    """Writes the body of one class's `forward`."""

    def __init__(self, owner: ModuleClass, tree: ModuleTree, signature: Signature) -> None:
        self._class, self._tree, self._signature = owner, tree, signature
        self._instance = owner.example
        items, returned = _without_aliases(_resolved(self._instance.items, owner), signature)
        body = roll(items, frozenset(v for v in returned if isinstance(v, Edge)))
        self._items = body.items
        self._results = tuple(map(body.known, returned))
        self._inlined: Inlined = inline(self._items, self._results)
        times = lifetimes(self._items, self._inlined, [ref for ref, _ in signature.arguments], self._results)
        self._times = times
        self._variables = Variables(times)
        self._modules: list[tuple[Address, str]] = []  # lists that a loop walks, and its variable
        self._preferred: dict[Ref, str] = {}  # what a turn hands on goes where the next turn looks for it
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        for ref, name in self._signature.arguments:
            self._variables.hold(ref, name)
        for name in self._instance.borrowed.values():
            self._variables.reserve(name, 0, self._times.end)
        for name in self._signature.filled_lists:
            self._line(BODY, f"{name}: list[{self._signature.list_kind(name)}] = []")
        self._block(self._items, BODY)
        self._return()
        return self._lines

    # -- statements

    def _block(self, items: Sequence[Item], depth: int) -> None:
        for item in items:
            if isinstance(item, Step):
                if not (item.outputs and item.outputs[0] in self._inlined):
                    self._step(item, depth)
            elif isinstance(item, When):
                self._when(item, depth)
            elif isinstance(item, Loop):
                self._loop(item, depth)

    def _step(self, step: Step, depth: int) -> None:
        expression = self._expression(step)
        if step.kind is StepKind.APPEND:
            call = syntax.call(syntax.dotted(step.fills[0], "append"), expression)
            self._lines += syntax.expression_lines("", call, depth=depth)
            return
        targets = [
            self._target(v, n, step)
            for v, n in zip(step.outputs, step.names or (None,) * len(step.outputs), strict=True)
        ]
        targets += step.fills
        if not targets:  # a group whose stream goes nowhere: it still draws
            self._lines += syntax.expression_lines("", expression, depth=depth)
            return
        head = ", ".join(targets)
        if head != syntax.unparse(expression):
            self._lines += syntax.assignment_lines(targets, expression, depth)

    def _target(self, value: Edge, name: str | None, step: Step) -> str:
        now = self._times.start[id(step)]
        if value in self._variables:
            return self._variables[value]
        if value not in self._times.last:
            return "_"
        name = self._preferred.get(value) or self._signature.name_of(value) or name
        fallback = self._signature.fallback(value) or ("x", "h")
        return self._variables.bind(value, name, now, fallback)

    def _when(self, when: When, depth: int) -> None:
        now, stop = self._times.start[id(when)], self._times.stop[id(when)]
        absent = []
        for step in steps(when.items):
            names = step.names or (None,) * len(step.outputs)
            for value, name in zip(step.outputs, names, strict=True):
                if value not in self._inlined and self._times.last.get(value, 0) > stop:
                    self._times.since[value] = now
                    wanted = self._signature.name_of(value) or name
                    fallback = self._signature.fallback(value) or ("h",)
                    absent.append(self._variables.bind(value, wanted, now, fallback))
            for name, length in self._signature.absent_lists(step):
                self._line(depth, f"{name}: list[{self._signature.list_kind(name)} | None] = [None] * {length}")
        for some in syntax.filled(absent, " = ", " = None", depth):
            self._line(depth, f"{some} = None")
        condition = self._signature.condition(self._latents(when.first, when.last.shifted(1)))
        why = "" if self._signature.is_model else "  # only what the posterior needs"
        self._line(depth, f"if {condition}:{why}")
        self._block(when.items, depth + 1)

    def _loop(self, loop: Loop, depth: int) -> None:
        now, stop = self._times.start[id(loop)], self._times.stop[id(loop)]
        for slot, before, following in loop.carried:
            self._carry(slot, before, following, now, stop, depth)
        walked = self._walked(loop)
        if walked is None:
            variable = loop.variable if _counts(loop.items, loop.variable, ()) else "_"
            self._line(depth, f"for {variable} in range({loop.count}):")
        else:
            address, only = walked
            name = self._variables.reserve(str(address[-1]), now, stop)
            modules = ast.unparse(self._module(address))
            head = f"for {name} in {modules}:" if only else f"for {loop.variable}, {name} in enumerate({modules}):"
            self._line(depth, head)
            self._modules.append(((*address, Index(0, ((loop.variable, 1),))), name))
        begun = len(self._lines)
        self._block(loop.items, depth + 1)
        late = [(s, f) for s, _, f in loop.carried if self._variables[f] != self._variables[s]]
        if late:
            left, right = (", ".join(self._variables[r] for r in refs) for refs in zip(*late, strict=True))
            self._line(depth + 1, f"{left} = {right}")
            for slot, following in late:
                self._variables.hold(following, self._variables[slot])
        if len(self._lines) == begun:
            self._lines.pop()  # turns of nothing but other names for what went in
        if walked is not None:
            self._modules.pop()

    def _carry(self, slot: Carried, before: Ref, following: Ref, now: int, stop: int, depth: int) -> None:
        """Choose the variable that goes round, and put the first value there."""
        held = self._variables.get(before)
        if held is not None and self._variables.is_last(before, now):
            self._variables.hold(slot, held)
        else:
            name = self._variables.bind(slot, None, now)
            self._lines += syntax.expression_lines(f"{name} = ", self._operand(before), depth=depth)
        self._preferred[following] = self._variables[slot]

    def _walked(self, loop: Loop) -> tuple[Address, bool] | None:
        """The one list that a loop walks from end to end, and whether the turn's number has no other use."""
        turning = [a for s in steps(loop.items) if (a := s.module) and _turns(a, loop.variable)]
        heads = {a[: _turns(a, loop.variable)] for a in turning}
        if len(heads) != 1:
            return None
        head = heads.pop()
        address, last = head[:-1], head[-1]
        length = sum(1 for a in self._instance.entries if len(a) == len(head) and a[:-1] == address)
        if (
            last != Index(0, ((loop.variable, 1),))
            or length != loop.count
            or any(isinstance(p, Index) and p.steps for p in address)
        ):
            return None
        return address, not _counts(loop.items, loop.variable, head)

    def _return(self) -> None:
        values = [self._operand(ref) for ref in self._results] + [
            syntax.name(n) for n in self._signature.returned_lists
        ]
        if len(values) == 1:
            self._lines += syntax.expression_lines("return ", values[0], depth=BODY)
        elif values:
            self._line(BODY, f"return {', '.join(syntax.unparse(v) for v in values)}")

    def _line(self, depth: int, text: str) -> None:
        self._lines.append(syntax.INDENT * depth + text)

    # -- expressions

    def _expression(self, step: Step) -> ast.expr:
        operands = [self._operand(ref) for ref in step.inputs]
        if step.kind in (StepKind.ALIAS, StepKind.APPEND):
            return operands[0]
        if step.kind is StepKind.EXPRESSION and step.template is not None:
            return fill(step.template, operands, self._class.values[step.outputs[0].node])
        if step.kind is StepKind.LAYER:
            return syntax.call(self._module(step.module), *(operands or [syntax.dotted("latents", "batch")]))
        if step.kind in DRAWS and step.latents is not None:
            group = self._latents(step.latents[0], step.latents[0].shifted(1))
            return syntax.call(ast.Attribute(group, step.kind.value, ast.Load()), *operands)
        operands = self._signature.call_arguments(step, operands)
        operands += [self._module(address[1:], str(address[0])) for address in step.lent]
        if step.latents is not None:
            operands.append(self._part(*step.latents))
        return syntax.call(self._module(step.module, step.holder), *operands)

    def _operand(self, ref: Ref) -> ast.expr:
        if isinstance(ref, ListItem):
            return ast.Subscript(syntax.name(ref.list), index(ref.index), ast.Load())
        if isinstance(ref, Edge) and ref in self._inlined.within and ref not in self._variables:
            return self._expression(self._inlined.within[ref])
        return syntax.name(self._variables[ref])

    def _module(self, address: Address, holder: str = "self") -> ast.expr:
        result: ast.expr = ast.Name(holder, ast.Load())
        rest = address
        for head, name in self._modules:
            if address[: len(head)] == head:
                result, rest = syntax.name(name), address[len(head) :]
        return attribute(rest, result)

    def _part(self, first: Index, stop: Index) -> ast.expr:
        """The latents that a call takes."""
        low, high = self._instance.latents
        if (first, stop) == (Index(0), Index(high - low)):
            return syntax.name("latents")
        return ast.Subscript(syntax.name("latents"), ast.Slice(index(first), index(stop)), ast.Load())

    def _latents(self, first: Index, stop: Index) -> ast.expr:
        """One latent, or the view of several."""
        if first.shifted(1) == stop:
            return ast.Subscript(syntax.name("latents"), index(first), ast.Load())
        return self._part(first, stop)


def _resolved(items: tuple[Item, ...], owner: ModuleClass) -> tuple[Item, ...]:
    """Put what the class writes for literals in their place: turns are joined if they agree in every instance."""
    done: list[Item] = []
    for item in items:
        if isinstance(item, Step) and item.kind is StepKind.EXPRESSION:
            item = replace(item, values=tuple(map(ast.unparse, owner.values[item.outputs[0].node])))
        elif isinstance(item, When):
            item = replace(item, items=_resolved(item.items, owner))
        elif isinstance(item, Repeat):
            item = replace(item, turns=tuple(_resolved(t, owner) for t in item.turns))
        done.append(item)
    return tuple(done)


def _without_aliases(items: tuple[Item, ...], signature: Signature) -> tuple[tuple[Item, ...], tuple[Ref, ...]]:
    """Return what has a name by that name, and not a copy named after the tap; also, what is then returned."""
    plain: dict[Ref, Ref] = {}
    named: set[Ref] = set()
    kept: list[Item] = []
    for item in items:
        if isinstance(item, Step):
            named.update(v for v, n in zip(item.outputs, item.names, strict=False) if n is not None)
            if item.kind is StepKind.ALIAS and (item.inputs[0] in named or signature.kind(item.outputs[0]) != "Tensor"):
                plain[item.outputs[0]] = item.inputs[0]
                continue
        kept.append(item)
    return tuple(kept), tuple(plain.get(v, v) for v in signature.returned)


def _turns(address: Address, variable: str) -> int:
    """How much of an address changes from turn to turn, counted up to the changing number; 0 if nothing does."""
    for i, part in enumerate(address):
        if isinstance(part, Index) and any(v == variable for v, _ in part.steps):
            return i + 1
    return 0


def _counts(items: Sequence[Item], variable: str, head: Address) -> bool:
    """Whether the turn's number is used for anything but the list that the loop walks."""

    def turning(*places: Index) -> bool:
        return any(v == variable for place in places for v, _ in place.steps)

    for item in items:
        if isinstance(item, When):
            if turning(item.first, item.last) or _counts(item.items, variable, head):
                return True
        elif isinstance(item, Loop):
            if _counts(item.items, variable, head) or any(
                isinstance(b, ListItem) and turning(b.index) for _, b, _ in item.carried
            ):
                return True
        elif isinstance(item, Step):
            module = item.module[len(head) :] if item.module[: len(head)] == head else item.module
            places = [p for p in module if isinstance(p, Index)] + list(item.latents or ())
            places += [r.index for r in item.inputs if isinstance(r, ListItem)]
            if turning(*places):
                return True
    return False
