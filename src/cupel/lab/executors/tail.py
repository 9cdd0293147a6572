"""Following a file that grows: only what is new is read, and only whole lines count."""

from __future__ import annotations

from typing import Any

import orjson

from cupel.lab.run_dir import RunFolder


class Tail:
    """Follows a run's metrics.jsonl, reading only what is new."""

    def __init__(self, run: RunFolder) -> None:
        self._path = run.path / "metrics.jsonl"
        self._offset = 0

    def last_row(self) -> dict[str, Any] | None:
        """Return the last complete row written since the last call, if any."""
        try:
            with self._path.open("rb") as handle:
                size = handle.seek(0, 2)
                if size < self._offset:
                    self._offset = 0  # a new attempt has cut the file
                if size == self._offset:
                    return None
                handle.seek(self._offset)
                data = handle.read(size - self._offset)
        except OSError:
            return None
        end = data.rfind(b"\n")
        if end < 0:
            return None
        self._offset += end + 1
        line = data[data.rfind(b"\n", 0, end) + 1 : end]
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        return row if isinstance(row, dict) else None
