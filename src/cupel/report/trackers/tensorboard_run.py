"""A run in TensorBoard: one event file beside the run's rows, one event a row.

Knows scalars and the event file. Refuses text that changes from row to row: TensorBoard's scalars
are numbers, and 32 bit wide. A row is one record, so a kill leaves it whole or not at all.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from cupel.errors import MissingExtraError
from cupel.report.trackers.protocol import TrackedRun, Value

try:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    from cupel.report.trackers.event_files import cut, record, whole_records
except ImportError:
    raise MissingExtraError("following with TensorBoard", "tensorboard") from None

FOLDER = "tensorboard"
_CONFIG = "config/text_summary"
_DT_STRING = 7


class TensorBoardRun:
    """The event file of one run, continued where it stands."""

    def __init__(self, run: TrackedRun) -> None:
        folder = run.folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{run.run_id}.{socket.gethostname()}"
        found = sorted(folder.glob(f"events.out.tfevents.{run.run_id}.*"))
        path = found[0] if found else path
        self._last_step = _continue_file(path)
        self._pending: list[bytes] = []
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if path.stat().st_size == 0:
            self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
            self._write(_config_event(run))
            self.commit()

    @property
    def last_step(self) -> int | None:
        """Step of the last row in the event file."""
        return self._last_step

    def log(self, step: int, values: Mapping[str, Value]) -> None:
        """Add one event with every number of the row."""
        event = Event(step=step, wall_time=time.time())
        add = event.summary.value.add
        for name, value in values.items():
            if not isinstance(value, str):
                add(tag=name, simple_value=value)
        self._write(event)

    def commit(self) -> None:
        """Append what was taken to the file."""
        data = memoryview(b"".join(self._pending))
        self._pending.clear()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self, *, failed: bool) -> None:
        """Append the rest; TensorBoard does not know how a run ended."""
        self.commit()
        os.close(self._descriptor)

    def _write(self, event: Event) -> None:
        self._pending.append(record(event.SerializeToString()))


def _continue_file(path: Path) -> int | None:
    """Cut off what a kill left of the last record, and return the last row's step."""
    if not path.is_file():
        return None
    whole = whole_records(path)
    cut(path, whole.size)
    if whole.last is None:
        return None
    event = Event.FromString(whole.last)
    tags = [value.tag for value in event.summary.value[:1]]
    return int(event.step) if event.HasField("summary") and tags != [_CONFIG] else None


def _config_event(run: TrackedRun) -> Event:
    """Return the settings as a text that TensorBoard shows beside the curves."""
    text = json.dumps(dict(run.config), indent=2, ensure_ascii=False, default=str)
    about = f"group: {run.group}, tags: {', '.join(run.tags)}\n\n"
    value = Summary.Value(tag=_CONFIG)
    value.metadata.plugin_data.plugin_name = "text"
    value.tensor.dtype = _DT_STRING
    value.tensor.tensor_shape.dim.add(size=1)
    value.tensor.string_val.append(f"{about}```\n{text}\n```".encode())
    return Event(wall_time=time.time(), step=0, summary=Summary(value=[value]))
