"""How progress is drawn: bars for a person, plain lines for a pipe.

Knows the states of runs, as words and numbers. Refuses to know where they come from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cupel.cli import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_EVERY_S = 10.0
STALE_S = 60.0
"""A running run whose heartbeat is older than this is called stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands, as its folder says."""

    name: str
    status: str
    step: int | None = None
    steps: int | None = None
    doing: str = ""
    correct_rate: float | None = None
    failure: str | None = None
    beat_age_s: float | None = None

    @property
    def steps_done(self) -> int:
        """Steps that are recorded; the first step is number 0."""
        return 0 if self.step is None else self.step + 1

    @property
    def stale(self) -> bool:
        """Whether a running run has not been heard of for a while."""
        return self.status == "running" and (self.beat_age_s or 0.0) > STALE_S

    def words(self) -> str:
        """Return where the run stands in a few words."""
        total = "" if self.steps is None else f"/{self.steps}"
        parts = [f"step {self.steps_done}{total}"]
        if self.correct_rate is not None:
            parts.append(f"correct_rate {self.correct_rate:.3f}")
        if self.status == "running" and self.doing:
            parts.append(self.doing)
        return ", ".join(parts)


class View(Protocol):
    """What shows the states of all runs."""

    def update(self, states: Sequence[RunState]) -> None:
        """Show the states."""
        ...

    def close(self) -> None:
        """Leave the screen in order."""
        ...


class LinesView:
    """One line when a run starts or ends, and one every ten seconds for each running run.

    The failure of a run that is alone is told by its command, once.
    """

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._next_s = time.monotonic() + PLAIN_EVERY_S

    def update(self, states: Sequence[RunState]) -> None:
        """Print what changed."""
        ended = sum(state.status in ("done", "failed") for state in states)
        tick = time.monotonic() >= self._next_s
        if tick:
            self._next_s = time.monotonic() + PLAIN_EVERY_S
        for state in states:
            changed = self._shown.get(state.name) != state.status
            first = state.name not in self._shown
            self._shown[state.name] = state.status
            if first and state.status != "running":
                continue
            if changed and state.status == "running":
                console.note(f"{state.name}: started")
            elif changed and state.status == "done":
                console.note(f"[{ended}/{len(states)}] {state.name}: done, {state.words()}")
            elif changed and state.status == "failed" and len(states) > 1:
                console.note(f"[{ended}/{len(states)}] {state.name}: failed, {state.failure}")
            elif tick and state.status == "running":
                console.note(f"{state.name}: {state.words()}")

    def close(self) -> None:
        """Nothing to tidy."""


class BarsView:
    """A bar for each running run, and one over all runs when there are several."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._overall: TaskID | None = None
        self._bars.start()

    def update(self, states: Sequence[RunState]) -> None:
        """Move the bars; a run that ended leaves the screen, a failed one leaves a line."""
        if len(states) > 1:
            self._update_overall(states)
        for state in states:
            task = self._tasks.get(state.name)
            if state.status == "running" and task is None:
                task = self._bars.add_task(state.name, total=state.steps, words="")
                self._tasks[state.name] = task
            if task is None:
                continue
            self._bars.update(task, completed=state.steps_done, words=state.words())
            if state.status in ("done", "failed"):
                self._end(state, task, alone=len(states) == 1)

    def close(self) -> None:
        """Stop drawing."""
        self._bars.stop()

    def _end(self, state: RunState, task: TaskID, *, alone: bool) -> None:
        if alone:
            return
        self._bars.remove_task(task)
        del self._tasks[state.name]
        if state.status == "failed":
            self._bars.console.print(f"{state.name}: failed, {state.failure}", markup=False)

    def _update_overall(self, states: Sequence[RunState]) -> None:
        ended = sum(state.status in ("done", "failed") for state in states)
        failed = sum(state.status == "failed" for state in states)
        words = f"{ended}/{len(states)} runs" + (f", {failed} failed" if failed else "")
        if self._overall is None:
            self._overall = self._bars.add_task("all runs", total=None, words=words)
        known = [state.steps for state in states if state.steps is not None]
        total = sum(known) if len(known) == len(states) else len(states)
        done = sum(s.steps_done for s in states) if len(known) == len(states) else ended
        self._bars.update(self._overall, total=total, completed=done, words=words)
