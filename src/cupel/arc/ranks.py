"""What processes that train one model together must agree on: slots, and one stream of items.

Knows how slots are shared out. Refuses to know models, and how processes talk.
"""

from __future__ import annotations

import torch

from cupel.arc.items import Item, ItemStream
from cupel.errors import ConfigError
from cupel.lab.ranks import Ranks


def own_slots(ranks: Ranks, global_batch_size: int) -> int:
    """Return this process's share of the slots.

    Raises:
        ConfigError: they cannot be shared out evenly.
    """
    if global_batch_size % ranks.count:
        raise ConfigError(
            f"global_batch_size = {global_batch_size} cannot be shared by {ranks.count} "
            f"processes; use a multiple of {ranks.count}"
        )
    return global_batch_size // ranks.count


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
        counts = self._counts(n)
        items = self.stream.take(sum(counts), side)
        first = sum(counts[: self._ranks.index])
        self._own = items[first : first + n]

    def take(self, n: int, side: int) -> list[Item]:
        """Return the items announced."""
        own, self._own = self._own[:n], self._own[n:]
        return own

    def _counts(self, own: int) -> list[int]:
        """Return every process's number, in order, on all of them."""
        if self._ranks.count == 1:
            return [own]
        numbers = torch.zeros(self._ranks.count, dtype=torch.int64, device=self._device)
        numbers[self._ranks.index] = own
        self._ranks.sum(numbers)
        return [int(number) for number in numbers.tolist()]
