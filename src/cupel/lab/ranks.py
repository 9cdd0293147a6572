"""The processes that run one run together, as the lab and its recipes see them.

Knows which of them writes, and how they agree on a value. Refuses to know how they talk: one
process is the ordinary case, nothing is sent, and nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Ranks(Protocol):
    """This process among those that run together; every method is called by all of them."""

    @property
    def index(self) -> int:
        """This process's number, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder."""
        ...

    def sum(self, tensor: Any) -> None:
        """Replace a tensor by its sum over all processes, in place."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value on the first one, [] on the others."""
        ...

    def all_gather(self, value: Any) -> list[Any]:
        """Return every process's value, in order, on all of them."""
        ...

    def share(self, value: Any) -> Any:
        """Return the first process's value on all of them."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """One process."""

    index: int = 0
    count: int = 1
    is_first: bool = True

    def sum(self, tensor: Any) -> None:
        """Leave the tensor: it is the sum."""

    def gather(self, value: Any) -> list[Any]:
        """Return the one value."""
        return [value]

    def all_gather(self, value: Any) -> list[Any]:
        """Return the one value."""
        return [value]

    def share(self, value: Any) -> Any:
        """Return the value."""
        return value


ALONE = Alone()
