"""Progress of runs: from an executor's events, or from their folders, to a view.

Knows what an executor tells, and what a run folder says: run.json, heartbeat.json and the last row
of metrics.jsonl. Refuses to touch a run.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cupel.cli import console
from cupel.cli.views import BarsView, LinesView, RunState, View
from cupel.errors import CupelError

if TYPE_CHECKING:
    from cupel.lab.executors.base import Progress as Event

POLL_S = 0.25
TAIL_BYTES = 16_384


def run_state(folder: Path, *, name: str | None = None) -> RunState:
    """Read where a run stands.

    `planned` before there is anything; `unknown` for rows of an earlier system.

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


class Board:
    """The states of all runs of one execution, and the view that shows them."""

    def __init__(self, states: Sequence[RunState]) -> None:
        self._states = {state.name: state for state in states}
        self._view: View = BarsView() if console.is_progress_shown() else LinesView()
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
