"""Which rows of a metrics file have been dealt with: 32 bytes a row, appended, never rewritten.

Knows where each row ended, the highest step so far, and two hashes: of the row's bytes, and of
what a resumed run must write again. From them it follows, without reading the file again, where
to go on and whether a rewritten row is still the row that was sent. Refuses to know what was sent:
the tracker knows that.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

_ENTRY = struct.Struct("<Qq8s8s")


class Entry(NamedTuple):
    """One row: where it ends in the file, the highest step so far, and its two hashes."""

    end: int
    step: int
    line: bytes
    values: bytes


def digest(data: bytes) -> bytes:
    """Return the hash that an entry keeps."""
    return blake2b(data, digest_size=8).digest()


class Ledger:
    """The entries of one run and tracker, on disk."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._count = os.fstat(self._descriptor).st_size // _ENTRY.size
        self.cut(self._count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Entry:
        data = os.pread(self._descriptor, _ENTRY.size, index * _ENTRY.size)
        return Entry._make(_ENTRY.unpack(data))

    @property
    def end(self) -> int:
        """Where the last row that was dealt with ends."""
        return self[self._count - 1].end if self._count else 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries."""
        data = b"".join(_ENTRY.pack(*entry) for entry in entries)
        os.pwrite(self._descriptor, data, self._count * _ENTRY.size)
        self._count += len(entries)

    def cut(self, count: int) -> None:
        """Forget all but the first `count` entries."""
        os.ftruncate(self._descriptor, count * _ENTRY.size)
        self._count = count

    def count_through(self, step: int) -> int:
        """Return how many entries have a step of at most `step`."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self[middle].step <= step:
                low = middle + 1
            else:
                high = middle
        return low

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
