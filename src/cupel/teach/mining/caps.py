"""Which candidates are kept: no duplicates, and no more than the caps allow.

Knows moments. Refuses to drop anything uncounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cupel.teach.records import Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is kept, in the order of the episodes, and how many candidates fell to which rule."""

    moments: tuple[Moment, ...]
    dropped: Mapping[str, int]


def select(
    candidates: Sequence[Moment],
    *,
    max_snapshots: int,
    max_per_task: int | None = None,
    max_per_type: int | None = None,
) -> Selection:
    """Leave out duplicates and what is beyond the caps; the nearest to an anchor come first.

    Two moments are duplicates when task, state and the student's action are the same, or when
    they are the same snapshot (then one row can only hold one of the actions).
    """
    caps = _Caps(most=max_snapshots, per_task=max_per_task, per_type=max_per_type)
    order = sorted(range(len(candidates)), key=lambda at: (abs(candidates[at].offset), at))
    kept = sorted(at for at in order if caps.admits(candidates[at]))
    return Selection(moments=tuple(candidates[at] for at in kept), dropped=dict(caps.dropped))


@dataclass(slots=True, kw_only=True)
class _Caps:
    """What has been admitted so far."""

    most: int
    per_task: int | None
    per_type: int | None
    admitted: int = 0
    seen: set[tuple[str, ...]] = field(default_factory=set)
    tasks: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dropped.update(dict.fromkeys(("duplicates", "over_task", "over_type", "over_max"), 0))

    def admits(self, moment: Moment) -> bool:
        names = {
            (moment.id,),
            (moment.task_id, moment.key_hash, moment.student_action),
        }
        reason = self._reason(moment, names)
        if reason is not None:
            self.dropped[reason] += 1
            return False
        self.seen |= names
        self.admitted += 1
        self.tasks[moment.task_id] += 1
        self.types[moment.failure_type] += 1
        return True

    def _reason(self, moment: Moment, names: set[tuple[str, ...]]) -> str | None:
        if names & self.seen:
            return "duplicates"
        if self.per_task is not None and self.tasks[moment.task_id] >= self.per_task:
            return "over_task"
        if self.per_type is not None and self.types[moment.failure_type] >= self.per_type:
            return "over_type"
        return "over_max" if self.admitted >= self.most else None
