"""The processes that train one model together, and what they must agree on.

Knows which process this is, sums, and a stream of items that all of them draw alike. Refuses to
know models. One process is the ordinary case: nothing is sent, and nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cupel.arc.items import Item, ItemStream
from cupel.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those that train together."""

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates and writes."""
        return self.index == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value on the first one, [] on the others."""
        if self.count == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.count if self.is_first else None
        dist.gather_object(value, gathered)
        return gathered or []

    def share(self, value: Any) -> Any:
        """Return the first process's value on all of them."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def counts(self, own: int, device: torch.device) -> list[int]:
        """Return every process's number, in order, on all of them."""
        if self.count == 1:
            return [own]
        numbers = torch.zeros(self.count, dtype=torch.int64, device=device)
        numbers[self.index] = own
        dist.all_reduce(numbers)
        return [int(number) for number in numbers.tolist()]

    def slots(self, global_batch_size: int) -> int:
        """Return this process's share of the slots.

        Raises:
            ConfigError: they cannot be shared out evenly.
        """
        if global_batch_size % self.count:
            raise ConfigError(
                f"global_batch_size = {global_batch_size} cannot be shared by {self.count} "
                f"processes; use a multiple of {self.count}"
            )
        return global_batch_size // self.count


def current_ranks() -> Ranks:
    """Return where this process stands, as torch.distributed says; alone without it."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(index=dist.get_rank(), count=dist.get_world_size())


class SharedStream:
    """The one item stream, drawn alike in every process, of which each keeps its own part.

    Slots are numbered through all processes, so the items handed out are those that one process
    with all the slots would hand out.
    """

    def __init__(self, stream: ItemStream, ranks: Ranks, device: torch.device) -> None:
        self.stream = stream
        self._ranks = ranks
        self._device = device
        self._own: list[Item] = []

    def announce(self, n: int, side: int) -> None:
        """Say how many items this process wants; every process must, at every update."""
        counts = self._ranks.counts(n, self._device)
        items = self.stream.take(sum(counts), side)
        first = sum(counts[: self._ranks.index])
        self._own = items[first : first + n]

    def take(self, n: int, side: int) -> list[Item]:
        """Return the items announced."""
        own, self._own = self._own[:n], self._own[n:]
        return own
