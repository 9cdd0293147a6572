"""Scores of actions that were computed before, in one sqlite file and in memory.

Knows keys of bytes and arrays of float64. Refuses to guess: an entry that is not what was written
is an error that names the file. What lies here can always be computed again, so deleting the file
costs time only. Several processes may share a file; the first to write an entry keeps it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cupel.errors import DataError

Scores = NDArray[np.float64]

APPLICATION = 0x43505443
FORMAT = 1
BUSY_S = 60.0
_AT_ONCE = 500


def key_of(space: str, prompt: str, completions: Sequence[str]) -> bytes:
    """Return the key of one state's scores: 16 bytes over the space and all texts.

    Args:
        space: hash of everything the scores depend on besides the texts.
    """
    parts = (space, prompt, *completions)
    lengths = ",".join(str(len(part)) for part in parts)
    text = f"{lengths}:{''.join(parts)}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class DistributionCache:
    """Arrays by key; kept in memory, and in a file where there is one."""

    def __init__(self, path: Path | None, *, memory_entries: int = 2_000_000) -> None:
        """Open or make the file; without one, memory only.

        Raises:
            DataError: the file is damaged, of another program, or cannot be opened.
        """
        self.path = path
        self._memory: dict[bytes, Scores] = {}
        self._most = memory_entries
        self._file: sqlite3.Connection | None = None
        if path is not None:
            with self._named_errors():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
                self._prepare(self._file)

    def get_many(self, keys: Sequence[bytes]) -> list[Scores | None]:
        """Return each key's array (read-only), None where there is none.

        Raises:
            DataError: an entry is damaged.
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self._memory]
        found = self._read(missing) if self._file is not None and missing else {}
        self._remember(found)
        return [found[key] if key in found else self._memory.get(key) for key in keys]

    def put_many(self, entries: Mapping[bytes, Scores]) -> None:
        """Keep arrays; a key that is there already keeps what it has.

        Raises:
            DataError: the file cannot be written.
        """
        arrays = {key: _frozen(np.array(value, np.float64)) for key, value in entries.items()}
        self._remember(arrays)
        if self._file is None or not arrays:
            return
        rows = [(key, array.tobytes(), _check(key, array)) for key, array in arrays.items()]
        with self._named_errors():
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?)", rows)
            self._file.execute("COMMIT")

    def __len__(self) -> int:
        """Return the number of entries, those in the file included."""
        if self._file is None:
            return len(self._memory)
        with self._named_errors():
            return int(self._file.execute("SELECT COUNT(*) FROM scores").fetchone()[0])

    def close(self) -> None:
        """Close the file; the memory stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _prepare(self, file: sqlite3.Connection) -> None:
        owner = file.execute("PRAGMA application_id").fetchone()[0]
        version = file.execute("PRAGMA user_version").fetchone()[0]
        empty = file.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty and (owner, version) != (APPLICATION, FORMAT):
            raise DataError(
                f"{self.path}: a database of another program or version; name another file as "
                "the cache"
            )
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = NORMAL")
        file.execute("BEGIN IMMEDIATE")
        file.execute(
            "CREATE TABLE IF NOT EXISTS scores "
            "(key BLOB PRIMARY KEY, scores BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"
        )
        file.execute(f"PRAGMA application_id = {APPLICATION}")
        file.execute(f"PRAGMA user_version = {FORMAT}")
        file.execute("COMMIT")

    def _read(self, keys: list[bytes]) -> dict[bytes, Scores]:
        assert self._file is not None
        found: dict[bytes, Scores] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            with self._named_errors():
                rows = self._file.execute(
                    f"SELECT key, scores, crc FROM scores WHERE key IN ({marks})", some
                ).fetchall()
            for key, data, crc in rows:
                found[key] = self._decoded(key, data, crc)
        return found

    def _decoded(self, key: bytes, data: bytes, crc: int) -> Scores:
        array = np.frombuffer(data, np.float64) if len(data) % 8 == 0 else np.empty(0)
        if not len(array) or _check(key, array) != crc:
            raise DataError(
                f"{self.path}: entry {key.hex()} is damaged; delete the file: what it holds is "
                "computed again"
            )
        return array

    def _remember(self, entries: Mapping[bytes, Scores]) -> None:
        for key, array in entries.items():
            self._memory.setdefault(key, array)
        while len(self._memory) > self._most:
            del self._memory[next(iter(self._memory))]

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"{self.path}: cannot be used as a cache of scores ({error}); delete the file, or "
                "name another"
            ) from None


def _check(key: bytes, array: Scores) -> int:
    return zlib.crc32(array.tobytes(), zlib.crc32(key))


def _frozen(array: Scores) -> Scores:
    array.setflags(write=False)
    return array
