"""W&B's offline files: the rows that really reached the disk, read back from the run's log.

Knows the framing of a `.wandb` file (a LevelDB log: blocks of 32 KiB, chunks with checksum, length
and kind) and W&B's own records in it. Refuses to mend a file: what is torn ends the reading.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_MAGIC = b":W&B"
_BLOCK = 32 * 1024
_IDENT_BYTES = 7
_CHUNK = struct.Struct("<IHB")
_ENDS_RECORD = (1, 4)
"""Kinds of chunk that end a record: a whole one, and the last of several."""


def offline_files(folder: Path, run_id: str) -> list[Path]:
    """Return the files of one run, in the order in which they were begun."""
    return sorted(folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))


def offline_rows(folder: Path, run_id: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one run from all its files; `_step` is the step it was logged at."""
    for path in offline_files(folder, run_id):
        for record in _records(path):
            if record.WhichOneof("record_type") == "history":
                row = {item.key or "/".join(item.nested_key): item for item in record.history.item}
                yield {key: json.loads(item.value_json) for key, item in row.items()}


def last_step(folder: Path, run_id: str) -> int | None:
    """Return the highest step of a run, or None where no row reached the disk."""
    steps = [
        record.history.step.num
        for path in offline_files(folder, run_id)
        for record in _records(path)
        if record.WhichOneof("record_type") == "history"
    ]
    return max(steps, default=None)


def _records(path: Path) -> Iterator[Record]:
    for data in _payloads(path.read_bytes()):
        yield Record.FromString(data)


def _payloads(data: bytes) -> Iterator[bytes]:
    if not data.startswith(_MAGIC):
        return
    at, parts = _IDENT_BYTES, b""
    while True:
        if _BLOCK - at % _BLOCK < _CHUNK.size:
            at += _BLOCK - at % _BLOCK
        if at + _CHUNK.size > len(data):
            return
        checksum, length, kind = _CHUNK.unpack_from(data, at)
        body = data[at + _CHUNK.size : at + _CHUNK.size + length]
        if len(body) < length or zlib.crc32(bytes([kind]) + body) != checksum:
            return
        at += _CHUNK.size + length
        parts += body
        if kind in _ENDS_RECORD:
            yield parts
            parts = b""
