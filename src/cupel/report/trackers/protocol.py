"""The waist between following and a tracker: a run to show, and what every tracker can do.

Knows three verbs: say how far you have come, take a row, close. Refuses to know any tracker, and
to let one hold the run up: everything here happens in a process beside the training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Value = float | int | bool | str
TrackerName = Literal["wandb", "tensorboard", "trackio"]
TRACKERS: tuple[TrackerName, ...] = ("wandb", "tensorboard", "trackio")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """One run, as a tracker shows it.

    Attributes:
        folder: where the tracker may keep files of its own, in a folder named after it.
        name: what the tracker calls the run.
        run_id: the tracker's identity of the run; the same id continues the same run.
        group: the condition.
        tags: the condition and the seed.
        config: the settings of the run.
        predecessor: process id of the follower that had this run last, if it was on this machine.
    """

    folder: Path
    name: str
    run_id: str
    project: str
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    predecessor: int | None = None


class Tracker(Protocol):
    """A run that is open in a tracker. Steps ascend; a row is taken whole or not at all."""

    @property
    def last_step(self) -> int | None:
        """Step of the last row that an earlier follower brought here, read back from the tracker.

        What the tracker holds decides what is sent next, never what a follower remembers: it may
        have died between handing a row over and writing that down, or the other way round.
        """
        ...

    def log(self, step: int, values: Mapping[str, Value]) -> None:
        """Take one row."""
        ...

    def commit(self) -> None:
        """Hand on what was taken so far."""
        ...

    def close(self, *, failed: bool) -> None:
        """Hand everything on and end; `failed`: the run failed."""
        ...
