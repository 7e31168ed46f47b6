"""Print a tree in the text form, in one canonical layout that keeps comments and single blank lines.

A node becomes a list of pieces: text, places where a line may break, and braces with what stands in them. On
one line they are
joined; where they do not fit, or comments or several statements stand in braces, the braces are opened and
the rest is filled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from hvdsl.grammar import tree

WIDTH = 110
SHORT = 90  # settings longer than this get a line each
_STEP = 2

# How tightly a rule of the grammar binds; the place of an operand says which is the loosest that needs no
# parentheses.
_TUPLE, _FLOW, _CHOOSE, _OR, _AND, _NOT, _COMPARE, _SUM, _TERM, _UNARY, _POWER, _POST = range(12)
_LEVELS = {"or": _OR, "and": _AND, "+": _SUM, "-": _SUM, "**": _POWER}
_LEVELS |= dict.fromkeys(("*", "/", "//", "%"), _TERM) | dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), _COMPARE)


class _Break(NamedTuple):
    """A place where a line may end; a space where it does not. `depth` counts the brackets around it."""

    depth: int


class _Braces(NamedTuple):
    entries: tuple[tree.Commented, ...]
    trailing: tuple[str, ...]
    joint: str = "; "  # between entries on one line
    crowd: int = 1  # entries that may share a line

    @property
    def open(self) -> bool:
        """Whether the entries need lines of their own."""
        if len(self.entries) > self.crowd or any(self.trailing):
            return True
        return any(e.after or any(e.before) or _is_open(_pieces(e)) for e in self.entries)


_Piece: TypeAlias = str | _Break | _Braces


def print_text(spec: tree.Spec) -> str:
    """Return the canonical text of a spec."""
    lines: list[str] = []
    before, tall_before = "", False
    for item in spec.items:
        group = _group(item)
        body: list[str] = []
        _lay_out(list(_pieces(item)), 0, body)
        tall = len(body) > 1
        if lines and "" not in item.before and (tall or tall_before or group != before):
            lines.append("")
        _node(item, 0, lines, 0)
        before, tall_before = group, tall
    _trailing(spec.trailing, 0, lines, 0)
    return "".join(f"{line}\n" for line in lines)


def print_expression(expression: tree.Expr) -> str:
    """Return an expression on one line, with the fewest parentheses."""
    return _flat(_expression(expression, _TUPLE, 0))


def print_statement(statement: tree.Commented) -> str:
    """Return a statement, row, setting or item on one line, without its comments."""
    return _flat(_pieces(statement))


# -- lines ------------------------------------------------------------------------------------------------


def _node(node: tree.Commented, indent: int, lines: list[str], top: int, label: int = 0) -> None:
    """Append the lines of a node, its comments included.

    The braces around it begin at line `top`; row labels are brought to the width `label`.
    """
    _comments(node.before, indent, lines, top)
    start = len(lines)
    _lay_out(list(_pieces(node, label)), indent, lines)
    if node.after:
        lines[start] += f"  {node.after}"


def _comments(comments: Sequence[str], indent: int, lines: list[str], top: int) -> None:
    for comment in comments:
        if comment:
            lines.append(" " * indent + comment)
        elif len(lines) > top and lines[-1]:
            lines.append("")


def _trailing(comments: Sequence[str], indent: int, lines: list[str], top: int) -> None:
    _comments(comments, indent, lines, top)
    while len(lines) > top and not lines[-1]:
        lines.pop()


def _lay_out(pieces: list[_Piece], indent: int, lines: list[str]) -> None:
    fits = indent + len(_flat(pieces)) <= _limit(pieces)
    opened = [p for p in pieces if isinstance(p, _Braces) and (p.entries or any(p.trailing)) and (not fits or p.open)]
    if not opened:
        _fill(pieces, indent, lines)
        return
    line: list[_Piece] = []
    for piece in pieces:
        if isinstance(piece, _Braces) and any(piece is o for o in opened):
            _fill([*line, "{"], indent, lines)
            _entries(piece, indent + _STEP, lines)
            line = ["}"]
        else:
            line.append(piece)
    _fill(line, indent, lines)


def _limit(pieces: Sequence[_Piece]) -> int:
    crowded = any(isinstance(p, _Braces) and p.joint == ", " and len(p.entries) > 1 for p in pieces)
    return SHORT if crowded else WIDTH


def _entries(braces: _Braces, indent: int, lines: list[str]) -> None:
    top = len(lines)
    labels = [len(print_expression(e.label)) for e in braces.entries if isinstance(e, tree.Row)]
    label = max((n for n in labels if n <= 8), default=0)
    for entry in braces.entries:
        _node(entry, indent, lines, top, label)
    _trailing(braces.trailing, indent, lines, top)


def _fill(pieces: list[_Piece], indent: int, lines: list[str]) -> None:
    """Append `pieces`, broken at the outermost places that keep the lines within `WIDTH`."""
    texts = [_flat([piece]) for piece in pieces]
    start, margin = 0, indent
    while True:
        length, best, at = margin, -1, start
        while at < len(pieces) and (length + len(texts[at]) <= WIDTH or best < 0):
            piece = pieces[at]
            if isinstance(piece, _Break) and at > start and (best < 0 or _better(piece, pieces[best], length)):
                best = at
            length += len(texts[at])
            at += 1
        if best < 0 or (at == len(pieces) and length <= WIDTH):
            lines.append(" " * margin + "".join(texts[start:]).rstrip())
            return
        lines.append(" " * margin + "".join(texts[start:best]))
        start, margin = best + 1, indent + _STEP


def _better(new: _Break, old: _Piece, length: int) -> bool:
    return isinstance(old, _Break) and (new.depth <= old.depth or length < WIDTH // 3)


def _flat(pieces: Sequence[_Piece] | Iterator[_Piece]) -> str:
    out: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            out.append(piece)
        elif isinstance(piece, _Break):
            out.append(" ")
        else:
            inside = piece.joint.join(_flat(_pieces(entry)) for entry in piece.entries)
            out.append(f"{{ {inside} }}" if inside else "{}")
    return "".join(out)


def _is_open(pieces: Iterator[_Piece]) -> bool:
    return any(isinstance(piece, _Braces) and piece.open for piece in pieces)


# -- items, rows and statements ---------------------------------------------------------------------------


def _group(item: tree.Commented) -> str:
    """Items of one group may follow each other without a blank line."""
    if isinstance(item, tree.Version) or (isinstance(item, tree.HeaderNode) and item.kind in ("model", "title")):
        return "head"
    if isinstance(item, tree.SettingsNode):
        return "use" if item.kind in ("evaluate", "sample") else item.kind
    return type(item).__name__


def _pieces(node: tree.Commented, label: int = 0) -> Iterator[_Piece]:
    match node:
        case tree.Version(number=number):
            yield f"hv {number.text}"
        case tree.HeaderNode(kind=kind, value=value, alias=alias):
            yield f"{kind} {print_expression(value)}" + (f" as {alias.id}" if alias is not None else "")
        case tree.NeedsNode(names=names, operation=operation):
            listed = ", ".join(name.id for name in names)
            yield f"needs {listed}" if operation is None else f"needs default {operation.id} {{ {listed} }}"
        case tree.LikelihoodNode(value=value):
            yield "likelihood "
            yield from _expression(value, _FLOW, 0)
        case tree.RecipeNode(kind=kind, name=name, parameters=parameters, body=body):
            yield f"{kind} {name.id}"
            yield from _parameters(parameters)
            yield from (" ", _braces(body))
        case tree.Section(kind=kind, rows=rows, trailing=trailing):
            yield from (f"{kind} ", _Braces(rows, trailing, crowd=0))
        case tree.SettingsNode(kind=kind, name=name, settings=settings, trailing=trailing):
            yield f"{kind} " if name is None else f"{kind} {print_expression(name)} "
            yield _Braces(settings, trailing, ", ", len(settings))
        case tree.Prior(name=name, given=given, body=body):
            yield f"prior {name.id} " + (f"given {', '.join(n.id for n in given)} " if given else "")
            yield _braces(body)
        case tree.Variant(name=name, items=items, trailing=trailing):
            yield from (f"variant {name.id} ", _Braces(items, trailing))
        case tree.Row(label=head, value=value):
            yield f"{_flat(_expression(head, _CHOOSE, 0)):>{label}}: "
            yield from _expression(value, _TUPLE, 0)
        case _:
            yield from _statement(node)


def _statement(node: tree.Commented) -> Iterator[_Piece]:
    match node:
        case tree.Bare(value=value):
            pieces = list(_expression(value, _TUPLE, 0))
            guard = isinstance(pieces[0], str) and pieces[0].startswith("-")  # no statement begins with an operator
            yield from ["(", *pieces, ")"] if guard else pieces
        case tree.Bind(targets=targets, value=value):
            yield ", ".join(map(print_expression, targets)) + " = "
            yield from _expression(value, _TUPLE, 0)
        case tree.Latent(names=names, prior=prior, posterior=posterior, settings=settings, trailing=trailing):
            yield ", ".join(name.id for name in names) + " ~ "
            if prior is not None:
                yield from _expression(prior, _FLOW, 0)
            if prior is not None and posterior is not None:
                yield _Break(0)
            if posterior is not None:
                yield "posterior "
                yield from _expression(posterior, _FLOW, 0)
            if settings:
                yield from (" ", _Braces(settings, trailing, ", ", len(settings)))
        case tree.Let(name=name, value=value) | tree.Shared(name=name, value=value):
            yield f"{'let' if isinstance(node, tree.Let) else 'shared'} {name.id} = "
            yield from _expression(value, _FLOW, 0)
        case tree.ConditionNode(key=key, value=value, classes=classes, settings=settings, trailing=trailing):
            yield f"given {key.id} = {print_expression(value)}" + (" classes" if classes else "")
            if settings:
                yield from (" ", _Braces(settings, trailing, ", ", len(settings)))
        case tree.Setting(key=key, value=value):
            yield f"{key.id} = "
            yield from _expression(value, _FLOW, 0)
        case tree.Default(operation=operation, settings=settings, trailing=trailing):
            yield from (f"default {operation.id} ", _Braces(settings, trailing, ", ", len(settings)))
        case _:
            raise TypeError(f"no node that stands on its own: {node!r}")


def _braces(block: tree.Block) -> _Braces:
    return _Braces(block.statements, block.trailing)


def _parameters(parameters: Sequence[tree.ParameterNode]) -> Iterator[_Piece]:
    if not parameters:
        return
    yield "("
    for i, parameter in enumerate(parameters):
        if i:
            yield from (",", _Break(1))
        yield parameter.name.id
        if parameter.default is not None:
            yield " = "
            yield from _expression(parameter.default, _FLOW, 1)
    yield ")"


# -- expressions ------------------------------------------------------------------------------------------


def _expression(node: tree.Expr, place: int, depth: int) -> Iterator[_Piece]:
    """Yield the pieces of an expression where the grammar wants level `place`."""
    if _level(node) < place:
        yield "("
        yield from _open(node, depth + 1)
        yield ")"
    else:
        yield from _open(node, depth)


def _level(node: tree.Expr) -> int:
    match node:
        case tree.Tuple():
            return _TUPLE
        case tree.Flow():
            return _FLOW
        case tree.Choose():
            return _CHOOSE
        case tree.Binary(operator=operator):
            return _LEVELS[operator]
        case tree.Unary(operator=operator):
            return _NOT if operator == "not" else _UNARY
        case _:
            return _POST


def _open(node: tree.Expr, depth: int) -> Iterator[_Piece]:
    match node:
        case tree.Number(text=text):
            yield text
        case tree.Dim(sizes=sizes):
            yield "x".join(map(str, sizes))
        case tree.String(value=value):
            yield f'"{value}"'
        case tree.Name(id=name):
            yield name
        case tree.Block():
            yield _braces(node)
        case tree.Tuple(items=items):
            yield from _listed(items, depth)
        case tree.Flow(steps=steps):
            for i, step in enumerate(steps):
                if i:
                    yield from (_Break(depth), "-> ")
                yield from _expression(step, _CHOOSE, depth)
        case tree.List(items=items):
            yield "["
            yield from _listed(items, depth + 1)
            yield "]"
        case tree.MapNode(entries=entries):
            yield "["
            yield from _listed(entries, depth + 1)
            yield "]"
        case tree.Call(function=function, arguments=arguments):
            yield from _expression(function, _POST, depth)
            yield "("
            yield from _listed(arguments, depth + 1)
            yield ")"
        case tree.ItemNode(base=base, index=index):
            yield from _expression(base, _POST, depth)
            yield "["
            yield from _expression(index, _CHOOSE, depth + 1)
            yield "]"
        case tree.WithBlock(head=head, block=block):
            yield from _expression(head, _POST, depth)
            yield from (" ", _braces(block))
        case _:
            yield from _operation(node, depth)


def _operation(node: tree.Unary | tree.Binary | tree.Choose, depth: int) -> Iterator[_Piece]:
    match node:
        case tree.Unary(operator=operator, operand=operand):
            yield "not " if operator == "not" else "-"
            yield from _expression(operand, _level(node), depth)
        case tree.Binary(operator=operator, left=left, right=right):
            level = _level(node)
            loose_left = level not in (_COMPARE, _POWER)
            yield from _expression(left, level if loose_left else level + 1, depth)
            yield f" {operator} "
            yield from _expression(right, _UNARY if level == _POWER else level + 1, depth)
        case tree.Choose(then=then, test=test, other=other):
            yield from _expression(then, _OR, depth)
            yield " if "
            yield from _expression(test, _OR, depth)
            yield " else "
            yield from _expression(other, _CHOOSE, depth)


def _listed(items: Sequence[tree.Expr | tree.ArgumentNode | tree.MapEntry], depth: int) -> Iterator[_Piece]:
    for i, item in enumerate(items):
        if i:
            yield from (",", _Break(depth))
        match item:
            case tree.ArgumentNode(name=name, value=value):
                yield f"{name} = " if name else ""
                yield from _expression(value, _FLOW, depth + 1)
            case tree.MapEntry(key=key, value=value):
                yield from ["else"] if key is None else _expression(key, _FLOW, depth + 1)
                yield ": "
                yield from _expression(value, _FLOW, depth + 1)
            case _:
                yield from _expression(item, _FLOW, depth + 1)
