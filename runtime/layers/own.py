"""Uses of a shared module with some roles of their own: weights in common, gains and biases apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from hvdsl.runtime.layers.init import Fill, Init, Layer


class Own(nn.Module):
    """Calls a shared module with parameters of its own in the place of the module's, in every layer that has them.

    What belongs to a layer `conv.0` of the shared module is `conv.0` here too. The module itself stays where it is
    declared: its parameters are none of this one's.

    Args:
        shared: the module, complete.
        roles: names of parameters: `gain`, `bias`, …
    """

    def __init__(self, shared: nn.Module, *roles: str) -> None:
        super().__init__()
        self._shared = (shared,)  # in a tuple it is no submodule
        for path, layer in shared.named_modules():
            if isinstance(layer, Layer):
                own = [role for role, _ in layer.named_parameters(recurse=False) if role in roles]
                if own:
                    self._place(path, OwnRoles(layer, own))

    @property
    def shared(self) -> nn.Module:
        """The module that is called, which is no part of this one."""
        return self._shared[0]

    def _place(self, path: str, roles: OwnRoles) -> None:
        *above, last = path.split(".")
        holder: nn.Module = self
        for name in above:
            if name not in dict(holder.named_children()):
                holder.add_module(name, nn.Module())
            holder = holder.get_submodule(name)
        holder.add_module(last, roles)

    def forward(self, *args: Any) -> Any:
        """What the shared module makes of the arguments, with these parameters."""
        return functional_call(self.shared, dict(self.named_parameters()), args)


class OwnRoles(Layer):
    """Parameters in the place of those that one layer has for the same roles; they start by the layer's rules."""

    def __init__(self, layer: Layer, roles: list[str]) -> None:
        super().__init__()
        self._layer, self.roles = (layer,), roles
        for role in roles:
            self.register_parameter(role, nn.Parameter(torch.empty_like(getattr(layer, role))))

    @property
    def layer(self) -> Layer:
        """The layer of the shared module, which is no part of this one."""
        return self._layer[0]

    def initial(self, fill: Fill) -> None:
        def fill_own(role: str, init: Init, fan: int) -> None:
            if role in self.roles:
                fill(role, init, fan)

        with self.in_place() as layer:
            layer.initial(fill_own)

    @contextmanager
    def in_place(self) -> Iterator[Layer]:
        """The layer with these parameters in the place of its own, while the block lasts."""
        layer = self.layer
        kept = {role: getattr(layer, role) for role in self.roles}
        try:
            for role in self.roles:
                setattr(layer, role, getattr(self, role))
            yield layer
        finally:
            for role, parameter in kept.items():
                setattr(layer, role, parameter)
