"""A file of rows that another process writes: what is new is read, the rest is kept.

Knows bytes, offsets and whole lines. Refuses to take a line whose newline is not there yet, and to
keep rows of a file that was cut back and written anew: then it begins again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.lab.files import parse_json_lines

_KEPT_BYTES = 1024
"""Bytes before the offset that must still be there for the file to count as continued."""


class GrowingRows:
    """The rows of one file, as far as they are complete.

    Attributes:
        rows: what was read so far; the list is replaced, never shortened, when the file was cut.
        problem: why the file cannot be read further, or None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Mapping[str, Any]] = []
        self.problem: str | None = None
        self._offset = 0
        self._tail = b""
        self._mark: tuple[int, int, int] | None = None

    def look(self) -> bool:
        """Read what was appended since the last look; say whether the rows changed."""
        mark = self._stat()
        if mark == self._mark:
            return False
        self._mark = mark
        if mark is None:
            return self._begin_again()
        with self.path.open("rb") as handle:
            begun = not self._continues(handle.fileno(), mark[0]) and self._begin_again()
            handle.seek(self._offset)
            data = handle.read()
        return self._take(data[: data.rfind(b"\n") + 1]) or begun

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            state = self.path.stat()
        except OSError:
            return None
        return state.st_size, state.st_mtime_ns, state.st_ino

    def _continues(self, descriptor: int, size: int) -> bool:
        """Say whether what was read before is still there: a resumed run cuts and rewrites."""
        if size < self._offset or self.problem is not None:
            return False
        before = os.pread(descriptor, len(self._tail), self._offset - len(self._tail))
        return before == self._tail

    def _begin_again(self) -> bool:
        had = bool(self.rows) or self.problem is not None
        self.rows, self.problem, self._offset, self._tail = [], None, 0, b""
        return had

    def _take(self, data: bytes) -> bool:
        if not data:
            return False
        try:
            self.rows.extend(parse_json_lines(self.path, data))
        except DataError as error:
            self.problem = str(error)
            return True
        self._offset += len(data)
        self._tail = (self._tail + data)[-_KEPT_BYTES:]
        return True
