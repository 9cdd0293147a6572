"""Progress of runs, bars for a person, plain lines for a pipe.

Knows what an executor tells, and what a run folder says: run.json, heartbeat.json and the last row
of metrics.jsonl. Refuses to touch a run.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from cupel.cli import console
from cupel.errors import CupelError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cupel.lab.executors.base import Progress as Event

POLL_S = 0.25
PLAIN_EVERY_S = 10.0
TAIL_BYTES = 16_384
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


def run_state(folder: Path, *, name: str | None = None) -> RunState:
    """Read where a run stands; `planned` before there is anything, `unknown` for
    the rows of an earlier system.

    Raises:
        DataError: one of its files is damaged.
    """
    from cupel.lab.run_dir import RunFolder

    run = RunFolder(folder)
    shown = name or folder.name
    if not (folder / "run.json").is_file():
        row = last_row(folder / "metrics.jsonl")
        status = "unknown" if row else "planned"  # rows of an earlier system carry no status
        return RunState(
            name=shown, status=status, step=row.get("step"), correct_rate=row.get("correct_rate")
        )
    state, beat = run.state(), run.heartbeat()
    row = last_row(folder / "metrics.jsonl")
    costs = run.config().get("costs", {}) if (folder / "config.json").is_file() else {}
    failure = state.get("failure") or {}
    return RunState(
        name=shown,
        status="done" if run.is_complete else state["status"],
        step=row.get("step"),
        steps=int(costs["steps"]) if "steps" in costs else None,
        doing=beat.doing if beat is not None else "",
        correct_rate=row.get("correct_rate"),
        failure=f"{failure['kind']}: {failure['message']}" if failure else None,
        beat_age_s=time.time() - beat.time if beat is not None else None,
    )


def last_row(path: Path) -> dict[str, Any]:
    """Return the last complete row of a JSONL file, reading its end only; {} without one."""
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - TAIL_BYTES))
            lines = handle.read().split(b"\n")
    except OSError:
        return {}
    complete = lines[1:-1] if size > TAIL_BYTES else lines[:-1]
    if not complete:
        return {}
    try:
        row = json.loads(complete[-1])
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


class View(Protocol):
    """What shows the states of all runs."""

    def update(self, states: Sequence[RunState]) -> None:
        """Show the states."""
        ...

    def close(self) -> None:
        """Leave the screen in order."""
        ...


class Board:
    """The states of all runs of one execution, and the view that shows them."""

    def __init__(self, states: Sequence[RunState]) -> None:
        self._states = {state.name: state for state in states}
        self._view: View = BarsView() if console.is_terminal() else LinesView()
        self._view.update(states)

    def hear(self, event: Event) -> None:
        """Take what an executor tells."""
        before = self._states.get(event.run, RunState(name=event.run, status="planned"))
        row = event.row or {}
        self.show(
            replace(
                before,
                status=event.status,
                step=event.step if event.step is not None else before.step,
                steps=event.total if event.total is not None else before.steps,
                correct_rate=row.get("correct_rate", before.correct_rate),
                failure=event.message or None,
            )
        )

    def show(self, state: RunState) -> None:
        """Take the new state of one run."""
        self._states[state.name] = state
        self._view.update(list(self._states.values()))

    def state(self, name: str) -> RunState | None:
        """Return what is known of a run."""
        return self._states.get(name)

    def close(self) -> None:
        """Leave the screen in order."""
        self._view.close()


class FolderWatch:
    """Feeds a board from run folders while a block runs, for runs inside this process."""

    def __init__(self, board: Board, folders: Mapping[str, Path]) -> None:
        self._board = board
        self._folders = dict(folders)
        self._ended: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self._board.close()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_S):
            self._look()

    def _look(self) -> None:
        for name in sorted(self._folders.keys() - self._ended):
            try:
                state = run_state(self._folders[name], name=name)
            except CupelError:  # a damaged file is told by whoever reads the result
                continue
            if state.status == "done":
                self._ended.add(name)
            if state != self._board.state(name):
                self._board.show(state)


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
