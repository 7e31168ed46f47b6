"""Deep hierarchical VAEs as text: a language, a compiler to plain PyTorch, and one runtime.

`hvdsl.compile(spec)` gives source and graph, `hvdsl.build(spec)` an initialised `torch.nn.Module`. Importing
the package imports neither torch nor the compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvdsl.api import Compiled, build, compile

__all__ = ["Compiled", "build", "compile"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from hvdsl import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
