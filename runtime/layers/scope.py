"""A named place for modules, so that parameter names follow the spec's structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn


class Scope(nn.Module):
    """Holds modules by name, lists as `ModuleList`s, and computes nothing: `Scope(conv=[Conv2d(…)], q=Scope(…))`."""

    def __init__(self, **members: nn.Module | Sequence[nn.Module]) -> None:
        super().__init__()
        for name, member in members.items():
            self.add_module(name, member if isinstance(member, nn.Module) else nn.ModuleList(member))

    if TYPE_CHECKING:  # what a scope holds is known to the code that made it, not to its type

        def __getattr__(self, name: str) -> Any: ...
