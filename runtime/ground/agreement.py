"""What processes that compute as one agree on, for those who must not know how many there are."""

from __future__ import annotations

from torch import Tensor


class Agreement:
    """The agreement of a process with itself: what layers and quantizers hold until training hands them another.

    Training on several processes hands in its `World`, which sums over all of them.
    """

    @property
    def leads(self) -> bool:
        """Whether this process is the one whose own choice counts for all."""
        return True

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes; it may be computed in place."""
        return values
