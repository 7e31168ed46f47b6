"""A file that runs with torch alone: the emitted module, with the runtime definitions that it uses put into it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hvdsl.compiler.emit.runtime_index import PACKAGE, module_source, tree
from hvdsl.compiler.emit.syntax import camel

Key = tuple[str, str]  # a runtime module, below `hvdsl.runtime`, and a name that it defines

ALWAYS: tuple[Key, ...] = (
    ("ground.noise", "SampleNoise"),
    ("latents", "Source"),
    ("layers", "initialize"),
)  # to run any model
TO_DRAW: tuple[Key, ...] = (
    ("priors.protocol", "StepwisePrior"),
    ("priors.sampling", "Sampled"),
    ("priors.sampling", "draw_codes"),
    ("priors.sampling", "greedy"),
)  # to draw code maps from priors and their steps
ERRORS = "hvdsl.errors"


def standalone(text: str, steps: str = "") -> str:
    """Put the runtime's definitions in the place of the imports from it.

    Definitions keep their text, comments included, and the order in which importing would run them. A name that the
    model or another definition has already gets its module's name behind it. The model and its priors are initialised
    when they are constructed.

    Args:
        text: A module that `emit` or `emit_priors` wrote.
        steps: What `emit_steps` wrote for the same model, to go into the same file.
    """
    texts = [text, steps] if steps else [text]
    imports, closure = _Imports(), _Closure()
    wanted = list(ALWAYS + TO_DRAW if steps else ALWAYS)
    body: list[ast.stmt] = []
    for statement in [s for t in texts for s in ast.parse(t).body]:
        if isinstance(statement, ast.ImportFrom) and (module := _runtime(statement.module)) is not None:
            wanted += [(module, alias.name) for alias in statement.names]
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            imports.add(statement, {alias.asname or alias.name for alias in statement.names})
        else:
            body.append(statement)
    for key in wanted:
        closure.add(key)
    names = closure.names({name for s in body for name in _bound(s)})
    for module in closure.modules:
        for statement, used in _outside_imports(module, closure.used(module)):
            imports.add(statement, used)
    definitions = [closure.text(key, names) for key in closure.ordered()]
    initialize = names[closure.add(("layers", "initialize"))]
    code = [_without_header(_initialised(text, initialize)), *map(_without_header, texts[1:])]
    header = ast.get_docstring(ast.parse(text), clean=False) or ""
    note = "It needs nothing but torch: what it uses of hvdsl's runtime stands first."
    return "\n".join(
        [f'"""{header}{note}', '"""', "", *imports.lines(), "", "", "\n\n\n".join([*definitions, *code]), ""]
    )


def _without_header(text: str) -> str:
    """A module's text from its first definition on."""
    first = next(s for s in ast.parse(text).body if not isinstance(s, ast.Expr | ast.Import | ast.ImportFrom))
    return "\n".join(text.splitlines()[first.lineno - 1 :])


def _initialised(text: str, initialize: str) -> str:
    """Let the model and its priors take a seed and start from it."""
    statements = ast.parse(text).body
    tables = [s.value for s in statements if isinstance(s, ast.Assign) and set(_bound(s)) & {"Model", "PRIORS"}]
    whole = {name for table in tables for name in _names(table)}
    lines = text.splitlines()
    classes = [s for s in statements if isinstance(s, ast.ClassDef) and s.name in whole]
    for statement in reversed(classes):
        constructor = next(m for m in statement.body if isinstance(m, ast.FunctionDef) and m.name == "__init__")
        start, stop = constructor.lineno - 1, constructor.end_lineno or constructor.lineno
        lines[start] = lines[start].replace("(self)", "(self, seed: int = 0)")
        lines.insert(stop, f"        {initialize}(self, seed)")
    return "\n".join(lines)


def _runtime(module: str | None) -> str | None:
    """The runtime module that an import names, or None for any other."""
    if module == ERRORS:
        return ERRORS
    if module is None or not (module == PACKAGE or module.startswith(PACKAGE + ".")):
        return None
    return module[len(PACKAGE) + 1 :]


def _bound(statement: ast.stmt) -> list[str]:
    """Names that a top-level statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [t.id for t in statement.targets if isinstance(t, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


def _names(statement: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


@dataclass(slots=True)
class _Imports:
    """Imports from outside the runtime, merged."""

    plain: set[str] = field(default_factory=set)
    named: dict[str, set[str]] = field(default_factory=dict)

    def add(self, statement: ast.Import | ast.ImportFrom, used: set[str]) -> None:
        for alias in statement.names:
            if (alias.asname or alias.name.split(".")[0]) not in used and (alias.asname or alias.name) not in used:
                continue
            name = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            if isinstance(statement, ast.Import):
                self.plain.add(name)
            else:
                self.named.setdefault(statement.module or "", set()).add(name)

    def lines(self) -> list[str]:
        future = ["from __future__ import annotations", ""]
        standard = [line for line in self._lines() if not _is_torch(line)]
        torch = [line for line in self._lines() if _is_torch(line)]
        return [*future, *standard, *([""] if standard else []), *torch]

    def _lines(self) -> Iterator[str]:
        for module in sorted(self.plain):
            yield f"import {module}"
        for module in sorted(self.named):
            if module != "__future__":
                yield f"from {module} import {', '.join(sorted(self.named[module], key=_isort))}"


def _is_torch(line: str) -> bool:
    return line.split()[1].split(".")[0] == "torch"


def _isort(name: str) -> tuple[int, str]:
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name


def _outside_imports(module: str, used: set[str]) -> Iterator[tuple[ast.Import | ast.ImportFrom, set[str]]]:
    for statement in tree(module).body:
        if isinstance(statement, ast.Import) or (
            isinstance(statement, ast.ImportFrom) and not _runtime(statement.module)
        ):
            yield statement, used


class _Closure:
    """Definitions of the runtime, with all that they refer to."""

    def __init__(self) -> None:
        self.modules: list[str] = []  # each after those that it imports from
        self._seen: set[str] = set()
        self._definitions: dict[Key, ast.stmt] = {}
        self._home: dict[Key, Key] = {}  # a name as imported -> where it is defined

    def add(self, key: Key) -> Key:
        """Take in a definition; returns where it really stands, after following imports.

        Raises:
            KeyError: if the runtime has no such name.
        """
        if key in self._home:
            return self._home[key]
        module, name = key
        self._visit(module)
        for statement in tree(module).body:
            if name in _bound(statement):
                self._home[key] = key
                self._definitions[key] = statement
                for other in _names(statement):
                    if other != name and self._known(module, other):
                        self.add((module, other))
                return key
            if isinstance(statement, ast.ImportFrom) and (origin := _runtime(statement.module)) is not None:
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        self._home[key] = self.add((origin, alias.name))
                        return self._home[key]
        raise KeyError(f"{PACKAGE}.{module} has no {name}")

    def _visit(self, module: str) -> None:
        """Note the module after all that it imports from, as importing it would."""
        if module in self._seen:
            return
        self._seen.add(module)
        for statement in tree(module).body:
            if isinstance(statement, ast.ImportFrom) and (origin := _runtime(statement.module)):
                self._visit(origin)
        self.modules.append(module)

    def _known(self, module: str, name: str) -> bool:
        """Whether a name of a module is defined in the runtime."""
        for statement in tree(module).body:
            if name in _bound(statement):
                return True
            imported = statement.names if isinstance(statement, ast.ImportFrom) and _runtime(statement.module) else []
            if any((alias.asname or alias.name) == name for alias in imported):
                return True
        return False

    def used(self, module: str) -> set[str]:
        return {n for (m, _), statement in self._definitions.items() if m == module for n in _names(statement)}

    def ordered(self) -> list[Key]:
        order = {id(s): i for m in self.modules for i, s in enumerate(tree(m).body)}
        keys = sorted(self._definitions, key=lambda k: (self.modules.index(k[0]), order[id(self._definitions[k])]))
        return list({id(self._definitions[k]): k for k in reversed(keys)}.values())[::-1]

    def names(self, taken: set[str]) -> dict[Key, str]:
        """What each definition is called in the file."""
        taken = set(taken)
        names = {}
        for module, name in self.ordered():
            free = name
            while free in taken:
                place = module.split(".")[-1]
                free = f"{camel(place)}{free}" if free[0].isupper() else f"{free}_{place}"
            taken.add(free)
            names[module, name] = free
        return names

    def text(self, key: Key, names: Mapping[Key, str]) -> str:
        """The definition as the runtime has it, under its new name where it got one."""
        module, _ = key
        statement = self._definitions[key]
        decorators = statement.decorator_list if isinstance(statement, ast.FunctionDef | ast.ClassDef) else []
        start = min([statement.lineno, *(d.lineno for d in decorators)])
        lines = module_source(module).splitlines()[start - 1 : statement.end_lineno]
        renamed = {n: names[home] for (m, n), home in self._home.items() if m == module and names.get(home, n) != n}
        places = [
            (node.lineno, node.col_offset, node.id, renamed[node.id])
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and node.id in renamed
        ]
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name in renamed:
            column = lines[statement.lineno - start].index(f" {statement.name}") + 1
            places.append((statement.lineno, column, statement.name, renamed[statement.name]))
        for line, column, old, new in sorted(places, reverse=True):
            raw = lines[line - start].encode()
            lines[line - start] = (raw[:column] + new.encode() + raw[column + len(old) :]).decode()
        return "\n".join(lines)
