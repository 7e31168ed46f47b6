"""Turn emitted source into a module, the one way in which any of it is run."""

from __future__ import annotations

import hashlib
import linecache
import sys
from types import ModuleType
from typing import Any

from hvdsl.compiler.emit.syntax import word

PACKAGE = "hvdsl.emitted"


def load_module(source: str, name: str) -> ModuleType:
    """Execute emitted source as the module `hvdsl.emitted.NAME`, which replaces an earlier one of that name.

    The text is put into `linecache`, so that tracebacks and `inspect.getsource` show it though it lies in no
    file, and the module into `sys.modules`, so that `torch.compile` and `torch.export` find its classes. Objects of its
    classes can be copied, and pickled by who owns them: a pickle holds the text, so that it opens in any process that
    has hvdsl. hvdsl itself neither writes nor reads pickles.

    Raises:
        ValueError: if `name` is not made of letters, digits and underscores.
    """
    qualified = f"{PACKAGE}.{word(name)}"
    file = f"<{qualified} {hashlib.sha256(source.encode()).hexdigest()[:12]}>"  # an earlier one keeps its text
    module = ModuleType(qualified)
    module.__file__ = file
    # Without a modification time, `linecache.checkcache` keeps the entry.
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    code = compile(source, file, "exec")
    sys.modules[qualified] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[qualified]
        raise
    _loaded[file] = module
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == qualified:
            value.__reduce_ex__ = _reduce  # type: ignore[method-assign, assignment]  # a function of ours
            value._emitted = _EmittedClass(value, source, name)  # type: ignore[attr-defined]  # read by `_reduce`
    return module


_loaded: dict[str, ModuleType] = {}  # by file, which is a digest of the text: a pickle opens as classes that are there


class _EmittedClass:
    """A reference to an emitted class: the class itself in a copy, its text and name in a pickle."""

    def __init__(self, cls: type, source: str, module: str) -> None:
        self.cls, self.source, self.module = cls, source, module

    def __deepcopy__(self, memo: object) -> _EmittedClass:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _emitted_class, (self.source, self.module, self.cls.__name__)


def _emitted_class(source: str, module: str, name: str) -> _EmittedClass:
    file = f"<{PACKAGE}.{word(module)} {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
    reference: _EmittedClass = getattr(_loaded.get(file) or load_module(source, module), name)._emitted
    return reference


def _reduce(self: Any, protocol: object) -> tuple[Any, ...]:
    """How an object of an emitted class is copied and pickled: its class by reference, then what it holds.

    A compiled or recomputed `forward` belongs to the process that made it: a copy keeps it, as its own, and a pickle
    has the class's.
    """
    return _new, (type(self)._emitted,), vars(self)


def _new(reference: _EmittedClass) -> Any:
    return object.__new__(reference.cls)
