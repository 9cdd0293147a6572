"""What a study will take, from what a short probe of one run measured.

Pure. Knows ranges, and how runs fill workers. Refuses to know what a run spends its time on: the
recipe says that of one run, and this module adds the runs up.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cupel.errors import DataError

CONTENTION = 1.5
"""How much runs side by side may slow each other down through memory and caches, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A quantity: what to expect, and between which values it should lie."""

    low: float
    expected: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(
            low=self.low + other.low,
            expected=self.expected + other.expected,
            high=self.high + other.high,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One thing that a probe did, and how long it took.

    Attributes:
        what: the recipe's word for it, e.g. `start`, `step` or `evaluation`.
        counts: how much of it was done, by the recipe's own units.
    """

    what: str
    seconds: float
    counts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """What one run will take.

    Attributes:
        seconds: of the run, without importing its modules.
        tokens: sampled in all; `high` is the bound. None where the recipe samples none.
        assumptions: what the numbers rest on, in sentences.
    """

    seconds: Range
    tokens: Range | None
    assumptions: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEstimate:
    """What all runs of a study will take together.

    Attributes:
        seconds: wall time from the first run's start to the last one's end.
        memory_bytes: of as many runs as work at a time, each at the probe's peak.
    """

    runs: int
    workers: int
    seconds: Range
    tokens: Range | None
    memory_bytes: int
    assumptions: Sequence[str]


def estimate_study(
    runs: Sequence[RunEstimate],
    *,
    workers: int,
    cores: int,
    import_s: float,
    peak_bytes: int,
) -> StudyEstimate:
    """Add up the runs, in the order in which they are started.

    Expected and low take runs side by side as if each were alone, up to one a core; beyond that
    they share the cores. High lets two or more of them slow each other down by `CONTENTION`.

    Args:
        cores: runs that have cores of their own.
        import_s: seconds of starting a process and importing the modules, once for all runs.
        peak_bytes: memory of one run.

    Raises:
        DataError: there is no run.
    """
    if not runs:
        raise DataError("estimate_study: a study without runs takes no time; plan some")
    busy = min(workers, len(runs))
    shared = max(1.0, busy / cores)
    crowded = CONTENTION if busy > 1 else 1.0
    tokens = [run.tokens for run in runs if run.tokens is not None]
    total = tokens[0] if tokens else None
    for more in tokens[1:]:
        total = more if total is None else total + more
    together = "one run at a time"
    if busy > 1:
        together = (
            f"{busy} runs at a time, {min(busy, cores)} of them on cores of their own: as fast as "
            f"alone, but in the high value {crowded:g} x slower"
        )
    assumptions = dict.fromkeys([*(text for run in runs for text in run.assumptions), together])
    return StudyEstimate(
        runs=len(runs),
        workers=busy,
        seconds=Range(
            low=import_s + shared * makespan([run.seconds.low for run in runs], busy),
            expected=import_s + shared * makespan([run.seconds.expected for run in runs], busy),
            high=import_s + shared * crowded * makespan([run.seconds.high for run in runs], busy),
        ),
        tokens=total,
        memory_bytes=busy * peak_bytes,
        assumptions=tuple(assumptions),
    )


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return when the last of these jobs ends, each given to the first worker that is free.

    >>> makespan([3.0, 1.0, 1.0, 1.0], 2)
    3.0
    """
    free_at = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(free_at, free_at[0] + each)
    return max(free_at)
