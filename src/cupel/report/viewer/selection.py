"""Which groups of completions a page shows, when it cannot show them all.

Pure. Knows steps, groups and sizes. Refuses to look at rewards or text: what is shown never
depends on how a completion came out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The completions of one problem at one step of one run.

    Attributes:
        group: its place in the step. size: how many completions it has.
        detailed: whether every token of it was recorded.
        weight: bytes of its rows on disk.
    """

    step: int
    group: int
    size: int
    detailed: bool
    weight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A cell of a run, by the run's place."""

    run: int
    cell: Cell


def choose(
    runs: Sequence[Sequence[Cell]], *, limit: int, most_weight: int | None = None
) -> list[Chosen]:
    """Return whole groups of all runs in order of priority, up to `limit` completions and a weight.

    Runs take turns. Within a run groups whose tokens were recorded come before the others; the
    last step comes first, then the first, then steps that halve the gaps; two groups a step at a
    time. The first group is taken whatever its size.
    """
    queues = [by_priority(cells) for cells in runs]
    chosen: list[Chosen] = []
    total = weight = 0
    for turn in range(max((len(queue) for queue in queues), default=0)):
        for run, queue in enumerate(queues):
            if turn >= len(queue):
                continue
            cell = queue[turn]
            heavy = most_weight is not None and weight + cell.weight > most_weight
            if chosen and (heavy or total + cell.size > limit):
                return chosen
            chosen.append(Chosen(run=run, cell=cell))
            total, weight = total + cell.size, weight + cell.weight
    return chosen


def by_priority(cells: Sequence[Cell]) -> list[Cell]:
    """Return a run's cells, the most telling first, as `choose` says."""
    keys: dict[Cell, tuple[int, int, int, int]] = {}
    for tier, detailed in enumerate((True, False)):
        steps: Mapping[int, list[Cell]] = defaultdict(list)
        for cell in cells:
            if cell.detailed == detailed:
                steps[cell.step].append(cell)
        order = sorted(steps)
        for rank, place in enumerate(spread(len(order))):
            for nth, cell in enumerate(sorted(steps[order[place]], key=lambda one: one.group)):
                keys[cell] = (tier, nth // 2, rank, nth)
    return sorted(keys, key=lambda cell: keys[cell])


def spread(count: int) -> list[int]:
    """Return 0 .. count - 1: the last, the first, then the middles of ever smaller gaps.

    >>> spread(5)
    [4, 0, 2, 1, 3]
    """
    if count <= 1:
        return list(range(count))
    order = [count - 1, 0]
    gaps = [(0, count - 1)]
    while gaps:
        wider = []
        for low, high in gaps:
            middle = (low + high) // 2
            if middle not in (low, high):
                order.append(middle)
                wider += [(low, middle), (middle, high)]
        gaps = wider
    return order
