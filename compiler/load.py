"""Turn emitted source into a module, the one way in which any of it is run."""

from __future__ import annotations

import hashlib
import linecache
import sys
from types import ModuleType

from hvdsl.compiler.emit.names import identifier

PACKAGE = "hvdsl.emitted"


def load(source: str, name: str) -> ModuleType:
    """Execute emitted source as the module `hvdsl.emitted.NAME`, which replaces an earlier one of that name.

    The text is put into `linecache`, so that tracebacks and `inspect.getsource` show it though it lies in no
    file, and the module into `sys.modules`, so that `torch.compile` and `torch.export` find its classes.

    Raises:
        ValueError: if `name` is no identifier.
    """
    qualified = f"{PACKAGE}.{identifier(name)}"
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
    return module
