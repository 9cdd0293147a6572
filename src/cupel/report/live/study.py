"""A study folder watched: after every look a view of it, made of what was kept and what is new.

Reads files whose size or time changed, rows from where it stopped. Refuses to write, and to read a
finished run twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cupel.errors import DataError
from cupel.lab.store import RunRecord, StudyRecord, is_run_folder, read_run, read_study
from cupel.report.live.rows import GrowingRows
from cupel.report.palette import inks
from cupel.report.tables import Endpoints, endpoints_of
from cupel.report.view import RunView, StudyView, run_view

Mark = tuple[tuple[int, int, int] | None, ...]

_STUDY_FILES = ("study.toml", "manifest.json", "plan.lock")
_RUN_FILES = ("run.json", "config.json", "result.json", "events.jsonl")
_ANALYSIS_FILES = ("analysis/significance.json", "analysis/litmus.json", "completions.html")
_FINISHED = ("done", "failed", "unknown")


class StudyWatch:
    """A study and its runs, looked at again and again.

    Raises:
        DataError: the folder is no study, or its manifest is damaged.
        ConfigError: its study.toml is not valid.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark: Mark = ()
        self._seen: Mark = ()
        self._record: StudyRecord = read_study(folder)
        self._runs: dict[Path, RunWatch] = {}
        self._ended: tuple[int, ...] = ()
        self._endpoints: Endpoints = {}
        self.look()

    def look(self) -> bool:
        """Look at every file; say whether anything that the report shows changed."""
        mark = marks(self.folder, _STUDY_FILES)
        changed = mark != self._mark
        if changed:
            self._record, self._mark = read_study(self.folder), mark
        seen = marks(self.folder, _ANALYSIS_FILES)
        changed, self._seen = changed or seen != self._seen, seen
        for run in self._record.runs:
            if run.folder not in self._runs:
                self._runs[run.folder] = RunWatch(run)
            changed = self._runs[run.folder].look(self._record.study.labels) or changed
        return changed

    def view(self) -> StudyView:
        """Return the study as it was at the last look."""
        runs = tuple(self._runs[run.folder].view for run in self._record.runs)
        record = replace(self._record, runs=tuple(run.record for run in runs))
        return StudyView(record=record, runs=runs, inks=inks(record.study.labels))

    def endpoints(self, view: StudyView) -> Endpoints:
        """Return the primary endpoint of the finished runs, anew only when one more ended."""
        ended = tuple(id(run.record) for run in view.runs if run.record.status in _FINISHED)
        if ended != self._ended:
            self._endpoints, self._ended = endpoints_of(view), ended
        return self._endpoints


class RunWatch:
    """One planned run: its state files, and its rows as they grow."""

    def __init__(self, record: RunRecord) -> None:
        self._planned = record
        self._mark: Mark | None = None
        self._metrics = GrowingRows(record.folder / "metrics.jsonl")
        self._evaluations = GrowingRows(record.folder / "evaluations.jsonl")
        self._problem: str | None = None
        self._record = record
        self.view: RunView = run_view(record, (), {})

    def look(self, labels: Sequence[str]) -> bool:
        """Look at the run's files; say whether anything changed."""
        mark = marks(self._planned.folder, _RUN_FILES)
        changed = mark != self._mark
        if changed:
            self._mark = mark
            self._read_state()
        grown = [rows.look() for rows in (self._metrics, self._evaluations)]
        if changed or any(grown):
            self.view = self._shown(labels)
            return True
        return False

    def _read_state(self) -> None:
        self._problem = None
        folder = self._planned.folder
        try:
            self._record = (
                read_run(folder)
                if is_run_folder(folder)
                else replace(self._planned, status="missing")
            )
        except DataError as error:
            self._problem = str(error)

    def _shown(self, labels: Sequence[str]) -> RunView:
        streams: Mapping[str, GrowingRows] = {
            "metrics.jsonl": self._metrics,
            "evaluations.jsonl": self._evaluations,
        }
        problems = [self._problem, *(rows.problem for rows in streams.values())]
        return run_view(
            self._record,
            labels,
            {name: rows.rows for name, rows in streams.items()},
            problems=[problem for problem in problems if problem is not None],
        )


def marks(folder: Path, names: Sequence[str]) -> Mark:
    """Return size, time and identity of files; None for one that is not there."""
    found: list[tuple[int, int, int] | None] = []
    for name in names:
        try:
            state = (folder / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(found)
