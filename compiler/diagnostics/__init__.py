"""Every diagnostic code, one module per hundred; each exports `CODES`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from hvdsl.grammar.diagnostics import Code


@cache
def all_codes() -> Mapping[str, Code]:
    """Return every code by its id, the grammar's too. The modules are imported on the first call."""
    modules = ["hvdsl.grammar.diagnostic_codes", *(f"{__name__}.{m.name}" for m in iter_modules(__path__))]
    found: dict[str, Code] = {}
    for name in modules:
        for code in getattr(import_module(name), "CODES", ()):
            if found.setdefault(code.id, code) is not code:
                raise RuntimeError(f"two codes are called {code.id}")
    return MappingProxyType(dict(sorted(found.items())))
