"""Evaluations that ride on the row of their step, so that a tracker shows them on the same axis.

Knows that an evaluation is written before the row of its step. Refuses to send one by itself
before the run has ended, because the row of its step is still to come.
"""

from __future__ import annotations

from pathlib import Path

from cupel.report.trackers.names import Names, evaluated
from cupel.report.trackers.protocol import Value
from cupel.report.trackers.source import Lines, parse

FILE = "evaluations.jsonl"


class Evaluations:
    """The evaluations of a run that no row has taken along yet."""

    def __init__(self, folder: Path, names: Names | None, *, after: int | None) -> None:
        self._lines = Lines(folder / FILE)
        self._names = names
        self._offset = 0
        self._after = -1 if after is None else after
        self._waiting: dict[int, dict[str, Value]] = {}

    def read(self) -> None:
        """Read what is new; a file that was cut back is read again."""
        if self._names is None or not self._lines.has_changed():
            return
        if self._lines.size < self._offset:
            self._offset = 0
        for data in self._lines.chunks(self._offset):
            for line in data.splitlines():
                row = parse(line, self._lines.path, self._offset)
                if row["step"] > self._after:
                    self._waiting[row["step"]] = evaluated(self._names, row)
            self._offset += len(data)

    def taken_by(self, step: int) -> dict[str, Value]:
        """Return what the row of this step takes along."""
        self._after = step
        taken: dict[str, Value] = {}
        for due in sorted(due for due in self._waiting if due <= step):
            taken |= self._waiting.pop(due)
        return taken

    def left(self) -> list[tuple[int, dict[str, Value]]]:
        """Return what no row took: evaluations beyond the last step of an ended run."""
        left = sorted(self._waiting.items())
        self._waiting.clear()
        return left
