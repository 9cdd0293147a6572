"""Reading a file of rows while it grows: by byte offset, whole lines only, never from the start.

Knows bytes and lines. Refuses to wait, and to take a line whose newline is not there yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from cupel.errors import DataError

CHUNK = 1 << 20


class Lines:
    """A file of rows that another process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark: tuple[int, int, int] | None = None

    def has_changed(self) -> bool:
        """Say whether the file was written since the last call."""
        try:
            state = os.stat(self.path)
        except OSError:
            mark = None
        else:
            mark = (state.st_size, state.st_mtime_ns, state.st_ino)
        changed = mark != self._mark
        self._mark = mark
        return changed and mark is not None

    def forget(self) -> None:
        """Take the file as changed at the next look."""
        self._mark = None

    @property
    def size(self) -> int:
        """Bytes in the file; 0 when it is not there."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def span(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`, fewer where the file ends before."""
        with self.path.open("rb", buffering=0) as handle:
            return os.pread(handle.fileno(), end - start, start)

    def chunks(self, offset: int) -> Iterator[bytes]:
        """Yield what stands behind `offset`, in pieces of whole lines."""
        try:
            handle = self.path.open("rb", buffering=0)
        except FileNotFoundError:
            return
        with handle:
            wanted = CHUNK
            while data := os.pread(handle.fileno(), wanted, offset):
                end = data.rfind(b"\n") + 1
                if end:
                    yield data[:end]
                    offset += end
                    wanted = CHUNK
                elif len(data) < wanted:
                    return  # the last line is still being written
                else:
                    wanted *= 2


def parse(line: bytes, path: Path, offset: int) -> Mapping[str, Any]:
    """Return the row of a whole line.

    Raises:
        DataError: it is no JSON object, or has no whole number as its step.
    """
    where = f"{path} (line that ends at byte {offset})"
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where}: not strict JSON: {error}; rows before it were sent") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object; rows before it were sent")
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool):
        raise DataError(
            f"{where}: its step is {step!r}; every row needs a whole number 'step' to be followed"
        )
    return row
