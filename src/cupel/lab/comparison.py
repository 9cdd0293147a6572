"""Whether two runs wrote the same record, to the byte, apart from what the machine decides.

Knows which keys a recipe declared as machine-dependent. Refuses tolerances: equal or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cupel.lab.files import read_json_lines
from cupel.lab.metrics import Metric
from cupel.lab.store import RunRecord, read_run


def strip_timing(
    rows: Iterable[Mapping[str, Any]], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Return the rows without the keys declared with `reproducible=False`."""
    return _without(rows, [metric.name for metric in metrics if not metric.reproducible])


def comparable_bytes(run: RunRecord | Path | str) -> dict[str, bytes]:
    """Return every stream of a run as bytes, machine-dependent keys left out, by stream name.

    Raises:
        DataError: the folder holds no run, or a stream is damaged.
    """
    record = run if isinstance(run, RunRecord) else read_run(run)
    machine_keys = record.config.get("machine_keys", {})
    comparable = {}
    for stream in record.streams:
        path = record.folder / stream
        data = path.read_bytes()
        if machine_keys.get(stream):
            rows = _without(read_json_lines(path), machine_keys[stream])
            data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        comparable[stream] = data
    return comparable


def differing_streams(first: RunRecord | Path | str, second: RunRecord | Path | str) -> list[str]:
    """Return the names of the streams in which two runs differ; empty when they are the same.

    Raises:
        DataError: a folder holds no run, or a stream is damaged.
    """
    one, other = comparable_bytes(first), comparable_bytes(second)
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _without(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    left_out = set(keys)
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows]
