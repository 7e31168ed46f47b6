"""Every diagnostic code, by its id."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from hvdsl.grammar.diagnostics import Code


def codes() -> dict[str, Code]:
    """Return all codes in the order of their ids."""
    package = import_module("hvdsl.compiler.codes")
    names = ["hvdsl.grammar.codes"]
    names += [f"hvdsl.compiler.codes.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    found: list[Code] = [code for name in names for code in import_module(name).CODES]
    return {code.id: code for code in sorted(found, key=lambda code: code.id)}
