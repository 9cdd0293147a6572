"""Which part of a policy's weights this process holds: all of them, as a rule.

Knows what a policy asks about its parameters when processes may hold parts of them. Refuses to
know how parts come together; `cupel.policy.shards` does, for several processes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor


class Layout(Protocol):
    """How parameters lie in the processes; methods that say so are called by all of them."""

    together: bool
    """Whether every pass through the model is one that all processes make."""
    dtype: torch.dtype | None
    """Number format in which divided parameters compute; None where nothing is divided."""

    def divides(self, parameter: Tensor) -> bool:
        """Whether each process holds a part of this parameter only."""
        ...

    def own(self, parameter: Tensor) -> Tensor:
        """Return what this process holds of a parameter, in the same memory."""
        ...

    def part(self, parameter: Tensor, whole: Tensor) -> Tensor:
        """Return this process's part of a tensor that is shaped as the parameter is."""
        ...

    def whole(self, parameter: Tensor, own: Tensor) -> Tensor:
        """Return the tensor whose parts the processes hold; all of them call."""
        ...

    def weight(self, parameter: Tensor) -> Tensor:
        """Return a whole parameter in the format it computes in; all processes call."""
        ...

    def passes(self, own: int) -> int:
        """Return how many passes to make when this process needs `own`; all processes call."""
        ...

    def settle(self) -> None:
        """Let go of gathered weights after passes."""
        ...

    def gathered(self) -> AbstractContextManager[None]:
        """Hold all weights inside the block, so that passes need nobody; all processes call."""
        ...

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the sum of a number that divided parameters have in each process."""
        ...


class Replicated:
    """Each process holds everything."""

    together = False
    dtype: torch.dtype | None = None

    def divides(self, parameter: Tensor) -> bool:
        """Return False."""
        return False

    def own(self, parameter: Tensor) -> Tensor:
        """Return the parameter."""
        return parameter

    def part(self, parameter: Tensor, whole: Tensor) -> Tensor:
        """Return the whole."""
        return whole

    def whole(self, parameter: Tensor, own: Tensor) -> Tensor:
        """Return what is given."""
        return own

    def weight(self, parameter: Tensor) -> Tensor:
        """Return the parameter."""
        return parameter.detach()

    def passes(self, own: int) -> int:
        """Return `own`: nobody waits."""
        return own

    def settle(self) -> None:
        """Do nothing."""

    def gathered(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the number."""
        return tensor


REPLICATED = Replicated()
