"""One run's rows on their way to one tracker: backfill, tail, and going back after a resume.

Knows the order that makes it exact: read the rows, hand them over, commit, write the ledger, write
the state. Killed anywhere in between, the next follower asks the tracker how far it came and goes
on behind that step. Refuses to send a step twice: a tracker's history only grows, so a row that a
resumed run writes again is compared with the one that was sent, and the difference is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cupel.errors import DataError
from cupel.report.trackers.evaluations import Evaluations
from cupel.report.trackers.ledger import Entry, Ledger, digest
from cupel.report.trackers.names import Names
from cupel.report.trackers.protocol import TrackedRun, Tracker
from cupel.report.trackers.source import Lines, parse
from cupel.report.trackers.state import FollowerState

Open = Callable[[TrackedRun], Tracker]


@dataclass(slots=True, kw_only=True)
class Rewritten:
    """What became of rows that a resumed run wrote again after they had been sent.

    Attributes:
        same: as they were sent.
        timing: different in timings only, as every resumed run is.
        other: different in results: the tracker shows an earlier attempt there.
        repeated: rows whose step stands earlier in the same file already.
    """

    same: int = 0
    timing: int = 0
    other: int = 0
    repeated: int = 0


class RunFollower:
    """Sends one run to one tracker."""

    def __init__(
        self,
        run: TrackedRun,
        state: FollowerState,
        open_tracker: Open,
        *,
        metrics: Path,
        names: Names,
        evaluation_names: Names | None = None,
    ) -> None:
        self.run = run
        self.sent = 0
        self.rewritten = Rewritten()
        self._state = state
        self._names = names
        self._lines = Lines(metrics)
        self._ledger = Ledger(state.ledger_path)
        self._replaced: dict[int, Entry] = {}
        self._tracker = open_tracker(run)
        state.sign()
        self.last_step = self._tracker.last_step
        self._go_to_last_step()
        self._evaluations = Evaluations(metrics.parent, evaluation_names, after=self.last_step)

    def poll(self) -> int:
        """Send what is new; return how many rows.

        Raises:
            DataError: a whole line is no row; what stands before it was sent.
        """
        before = self.sent
        if self._lines.has_changed():
            self._go_back_where_rewritten()
            try:
                for data in self._lines.chunks(self._ledger.end):
                    self._evaluations.read()
                    self._send(data)
            except DataError:
                if self._is_as_read():
                    raise
                self._lines.forget()  # cut and written again while it was read: look once more
        return self.sent - before

    def finish(self) -> None:
        """Send the evaluations behind the last step of a run that has ended."""
        self._evaluations.read()
        for step, values in self._evaluations.left():
            if self.last_step is None or step > self.last_step:
                self._tracker.log(step, {"step": step, **values})
                self.last_step = step
                self.sent += 1
        self._tracker.commit()
        self._save()

    def close(self, *, ended: str | None, failed: bool = False) -> None:
        """Hand the rest on and let go of the run; `ended` says how the run itself ended."""
        try:
            self._tracker.close(failed=failed)
            self._save(ended=ended)
        finally:
            self._ledger.close()
            self._state.close()

    def _go_to_last_step(self) -> None:
        """Forget ledger entries of rows that never reached the tracker."""
        last = -1 if self.last_step is None else self.last_step
        reached = self._ledger.count_through(last)
        if reached < len(self._ledger):
            self._ledger.cut(reached)
        self._save()

    def _go_back_where_rewritten(self) -> None:
        """Cut the ledger to the rows that are still in the file as they were read."""
        while not self._is_as_read():
            entry = self._ledger[len(self._ledger) - 1]
            self._replaced[entry.step] = entry
            self._ledger.cut(len(self._ledger) - 1)

    def _is_as_read(self) -> bool:
        """Say whether the last row that was dealt with still stands where it stood."""
        count = len(self._ledger)
        if not count:
            return True
        start = self._ledger[count - 2].end if count > 1 else 0
        entry = self._ledger[count - 1]
        return digest(self._lines.span(start, entry.end)) == entry.line

    def _send(self, data: bytes) -> None:
        entries: list[Entry] = []
        offset = self._ledger.end
        high = self._ledger[len(self._ledger) - 1].step if len(self._ledger) else -1
        begin = 0
        try:
            while begin < len(data):
                end = data.index(b"\n", begin) + 1
                line = data[begin:end]
                row = parse(line, self._lines.path, offset + end)
                step: int = row["step"]
                self.rewritten.repeated += step <= high
                high = max(high, step)
                values = digest(orjson.dumps(self._names.reproducible(row)))
                entry = Entry(offset + end, high, digest(line), values)
                self._hand_over(step, row, entry)
                entries.append(entry)
                begin = end
        finally:
            self._tracker.commit()
            self._ledger.append(entries)
            self._save()

    def _hand_over(self, step: int, row: Mapping[str, Any], entry: Entry) -> None:
        """Send a row, or, where its step was sent before, compare it with what was sent."""
        if self.last_step is not None and step <= self.last_step:
            self._compare(step, entry)
            return
        self._tracker.log(step, self._names.values(row) | self._evaluations.taken_by(step))
        self.last_step = step
        self.sent += 1

    def _compare(self, step: int, entry: Entry) -> None:
        sent = self._replaced.pop(step, None)
        if sent is None:
            return  # handed over by a follower that was killed before it wrote that down
        if sent.line == entry.line:
            self.rewritten.same += 1
        elif sent.values == entry.values:
            self.rewritten.timing += 1
        else:
            self.rewritten.other += 1

    def _save(self, **more: Any) -> None:
        self._state.save(
            offset=self._ledger.end, last_step=self.last_step, rows=len(self._ledger), **more
        )
