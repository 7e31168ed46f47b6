"""What emitted classes are made of: the mark of a recipe, and named places that keep parameter names the spec's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn


class Recipe(nn.Module):
    """Base class of a spec's `cell`, `group` or `shared` instance: what is recomputed, or compiled, as one.

    It computes nothing. A hand-written model whose parts are to be checkpointed or compiled derives them from it.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Scope(nn.Module):
    """Holds modules by name, lists as `ModuleList`s, and computes nothing: `Scope(conv=[Conv2d(…)], q=Scope(…))`."""

    def __init__(self, **members: nn.Module | Sequence[nn.Module]) -> None:
        super().__init__()
        for name, member in members.items():
            self.add_module(name, member if isinstance(member, nn.Module) else nn.ModuleList(member))

    if TYPE_CHECKING:  # what a scope holds is known to the code that made it, not to its type

        def __getattr__(self, name: str) -> Any: ...
