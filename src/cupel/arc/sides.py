"""Which canvas side takes the next step.

Knows how far each side is in its pass over the data. Refuses to keep state: the choice depends on
the seed, the number of the update and the position of the item stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cupel.lab.randomness import Randomness


class Progress(Protocol):
    """What an item stream tells about its sides."""

    sides: tuple[int, ...]
    epoch_size: dict[int, int]

    def progress(self, side: int) -> float:
        """Return the passes over a side so far."""
        ...


def live_work(items: Progress) -> Mapping[int, float]:
    """Return, by side, the items that are still owed to the pass all sides have in common.

        owed(side) = max(0, floor(min progress) + 1 - progress(side)) · items a pass

    So no side runs ahead into the next pass by more than what is in its slots.
    """
    progress = {side: items.progress(side) for side in items.sides}
    end = int(min(progress.values())) + 1
    return {side: max(0.0, end - progress[side]) * items.epoch_size[side] for side in items.sides}


def choose_side(items: Progress, randomness: Randomness, update: int) -> int:
    """Draw a side with probability proportional to its live work."""
    work = live_work(items)
    if len(work) == 1:
        return next(iter(work))
    threshold = float(randomness.uniforms("arc.side", [(update,)], 1)[0, 0]) * sum(work.values())
    for side, owed in work.items():
        threshold -= owed
        if threshold < 0:
            return side
    return max(work, key=lambda side: work[side])
