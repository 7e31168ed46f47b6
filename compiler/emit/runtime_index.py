"""What the runtime offers, read from its source text: nothing here imports torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

PACKAGE = "hvdsl.runtime"
ERRORS = "hvdsl.errors"  # the one module below the runtime that its definitions use
PUBLIC = (
    "layers",
    "distributions",
    "quantizers",
    "latents",
    "likelihoods",
    "priors",
)  # where emitted code may import from


@cache
def module_source(module: str) -> str:
    """The text of a runtime module: `layers.convolution`, or a package's `__init__` for `layers`.

    Raises:
        FileNotFoundError: if there is none.
    """
    root = files("hvdsl" if module == ERRORS else PACKAGE)
    steps = module.removeprefix("hvdsl.").split(".")
    plain = root.joinpath(*steps[:-1], f"{steps[-1]}.py")
    return (plain if plain.is_file() else root.joinpath(*steps, "__init__.py")).read_text(encoding="utf-8")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(module_source(module))


@cache
def exports() -> Mapping[str, str]:
    """Every public name of the runtime that emitted code may use, with the module to import it from."""
    modules: dict[str, str] = {}
    for module in reversed(PUBLIC):
        for name in public(module):
            modules[name] = f"{PACKAGE}.{module}"
    return MappingProxyType(modules)


def public(module: str) -> list[str]:
    """`__all__` of a module where it has one, else what it defines without a leading underscore."""
    names: list[str] = []
    for statement in tree(module).body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in statement.targets
        ):
            listed = ast.literal_eval(statement.value)
            return [str(name) for name in listed]
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign):
            names += [t.id for t in statement.targets if isinstance(t, ast.Name)]
    return [n for n in names if not n.startswith("_")]


@cache
def result_type(name: str) -> str:
    """The type of what a public function or class makes: `zeros` an `Init`, a class itself.

    Raises:
        KeyError: if the runtime has no such name.
    """
    module = exports()[name].removeprefix(PACKAGE + ".")
    for statement in _definitions(module):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return name
        if (
            isinstance(statement, ast.FunctionDef)
            and statement.name == name
            and isinstance(statement.returns, ast.Name)
        ):
            return statement.returns.id
    raise KeyError(name)


def _definitions(module: str) -> list[ast.stmt]:
    """Definitions of a module, and of the modules that a package's `__init__` takes its names from."""
    statements = list(tree(module).body)
    for statement in tree(module).body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(PACKAGE + "." + module):
            statements += tree((statement.module or "").removeprefix(PACKAGE + ".")).body
    return statements


def parameters(cls: str) -> dict[str, ast.expr | None]:
    """The parameters of a runtime class's constructor, be it inherited, with their defaults as syntax.

    Raises:
        KeyError: if the runtime has no such class. One without a constructor takes nothing.
    """
    module = exports()[cls].removeprefix(PACKAGE + ".")
    for statement in _definitions(module):
        if isinstance(statement, ast.ClassDef) and statement.name == cls:
            for member in statement.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    return _defaults(member.args)
            base = next((b.id for b in statement.bases if isinstance(b, ast.Name) and b.id in exports()), None)
            return parameters(base) if base is not None else {}
    raise KeyError(cls)


def _defaults(args: ast.arguments) -> dict[str, ast.expr | None]:
    positional = [*args.posonlyargs, *args.args][1:]
    without = len(positional) - len(args.defaults)
    defaults: dict[str, ast.expr | None] = {a.arg: None for a in positional[:without]}
    defaults |= {a.arg: d for a, d in zip(positional[without:], args.defaults, strict=True)}
    return defaults | {a.arg: d for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)}
