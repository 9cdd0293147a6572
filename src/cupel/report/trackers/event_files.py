"""TensorBoard's event files: records with their length and checksums, found whole or not at all.

Knows the framing (little-endian length, masked CRC-32C of it, data, masked CRC-32C of the data).
Refuses to know what an event means.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from google_crc32c import value as crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LARGEST = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """How far a file holds whole records: bytes, and the data of the last one."""

    size: int
    last: bytes | None


def record(data: bytes) -> bytes:
    """Return one framed record."""
    length = struct.pack("<Q", len(data))
    return length + _FOOTER.pack(_masked(length)) + data + _FOOTER.pack(_masked(data))


def records(path: Path) -> Iterator[bytes]:
    """Yield the data of every whole record; stops at the first that is torn."""
    with path.open("rb") as handle:
        while (length := _length(handle)) is not None:
            data = handle.read(length)
            if not _is_sound(data, length, handle.read(_FOOTER.size)):
                return
            yield data


def whole_records(path: Path) -> Whole:
    """Find where the whole records end; the data of all but the last are passed over unread."""
    size = path.stat().st_size
    start = end = 0
    with path.open("rb") as handle:
        while (length := _length(handle)) is not None:
            after = handle.tell() + length + _FOOTER.size
            if after > size:
                break
            start, end = end, after
            handle.seek(after)
        handle.seek(start)
        length = _length(handle)
        data = handle.read(length or 0)
        if length is not None and _is_sound(data, length, handle.read(_FOOTER.size)):
            return Whole(size=end, last=data)
    return _sound_prefix(path)


def cut(path: Path, size: int) -> None:
    """Cut a file to its whole records, so that it can be continued."""
    if path.stat().st_size > size:
        os.truncate(path, size)


def _sound_prefix(path: Path) -> Whole:
    size, last = 0, None
    for data in records(path):
        size += _HEADER.size + len(data) + _FOOTER.size
        last = data
    return Whole(size=size, last=last)


def _length(handle: BinaryIO) -> int | None:
    header = handle.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length, checksum = _HEADER.unpack(header)
    return int(length) if checksum == _masked(header[:8]) and length < _LARGEST else None


def _is_sound(data: bytes, length: int, footer: bytes) -> bool:
    return len(data) == length and footer == _FOOTER.pack(_masked(data))


def _masked(data: bytes) -> int:
    checksum = int(crc32c(data))
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF
