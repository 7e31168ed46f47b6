"""Numbers that change with the step, as scalars where they are used."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class Scheduled:
    """Gives a step's numbers to tensors without a copy from the host.

    Usually each is a fresh scalar, filled where it is used. Once they are held, a number keeps its tensor, and only
    `refill` changes what is in it: what was captured with that tensor then sees the numbers of the step at hand.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] | None = None

    def __call__(self, name: str, value: float, like: Tensor) -> Tensor:
        """The number as a scalar of the type of `like`, where it is."""
        if self._held is None:
            return like.new_full((), value)
        if name not in self._held:
            self._held[name] = like.new_full((), value)
        return self._held[name]

    def hold(self) -> None:
        """From now on every number keeps its tensor."""
        self._held = {} if self._held is None else self._held

    def refill(self, values: Mapping[str, float]) -> None:
        """Put the numbers of a step into the tensors that are held."""
        for name, tensor in (self._held or {}).items():
            tensor.fill_(values[name])
