"""Writing a run's rows: declared keys checked, strict JSON, one row a step, nothing written twice.

Knows the streams of one run folder and how far each has been written. Refuses to know what a row
means, and to let a value vanish: what is unhealthy is written down before the run is stopped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import orjson

from cupel.config import canonical_json, did_you_mean
from cupel.errors import AlgorithmicFailure, ConfigError, DataError
from cupel.lab.files import read_json, write_json
from cupel.lab.metrics import Metric, MetricSet
from cupel.lab.run_dir import MADE_WITH
from cupel.lab.store import EVENTS


class Recorder:
    """Appends rows to the streams of one run folder, one system call a call.

    Opening cuts every stream back to `offsets` (nothing, without them), so that a resumed run
    continues exactly where its checkpoint stood.

    Attributes:
        last_step: step of the last row of metrics.jsonl (or of the first declared stream).
        doing: what the run is busy with, in a few words, for the heartbeat, e.g. `sampling`.
    """

    def __init__(
        self,
        folder: Path,
        streams: Mapping[str, Sequence[Metric] | None],
        *,
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        self.folder = folder
        self.last_step: int | None = None
        self.doing = ""
        self._declared = {
            name: MetricSet(metrics) for name, metrics in streams.items() if metrics is not None
        }
        self._clock_stream = next(iter(self._declared), None)
        self._files: dict[str, BinaryIO] = {}
        self._sizes: dict[str, int] = {}
        self._last_steps: dict[str, int | None] = {}
        for name in dict.fromkeys([*streams, EVENTS]):
            self._open(name, (offsets or {}).get(name, 0))

    def log(self, stream: str, row: Mapping[str, Any]) -> None:
        """Append one row.

        A row with an unhealthy value is written, non-finite numbers as null, and then refused.

        Raises:
            ConfigError: an unknown stream, an undeclared key, a value that is not JSON, or a
                declared row without a step beyond the last one.
            AlgorithmicFailure: a value is not finite or outside its health limits.
        """
        self.log_many(stream, (row,))

    def log_many(self, stream: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append several rows at once; a reader sees all of them or, for a moment, the first few.

        Raises:
            ConfigError, AlgorithmicFailure: as `log`; the rows before the bad one are kept.
        """
        if stream not in self._files:
            raise ConfigError(
                f"recorder: no stream '{stream}'; {did_you_mean(stream, list(self._files))}"
            )
        lines: list[bytes] = []
        try:
            for row in rows:
                self._take(stream, row, lines)
        finally:
            self._append(stream, b"".join(lines))

    def event(self, message: str, *, step: int | None = None) -> None:
        """Note that something happened beside the plan: a skipped setting, a dropped row, ...

        Events are part of the record: they are cut back on resume like every stream.
        """
        self.log(EVENTS, {"step": self.last_step if step is None else step, "message": message})

    def made_with(self, facts: Mapping[str, Any]) -> None:
        """Keep what this attempt was made with outside this process, such as a server's version.

        It goes to made_with.json, newest last; an attempt that found the same adds nothing.
        """
        path = self.folder / MADE_WITH
        found = read_json(path)["attempts"] if path.is_file() else []
        if not found or canonical_json(found[-1]) != canonical_json(facts):
            write_json(path, {"attempts": [*found, dict(facts)]})

    def offsets(self) -> dict[str, int]:
        """Return how many bytes of every stream are written."""
        return dict(self._sizes)

    def sync(self) -> dict[str, int]:
        """Make what is written survive a power cut, and return the offsets."""
        for handle in self._files.values():
            os.fsync(handle.fileno())
        return self.offsets()

    def close(self) -> None:
        """Close the files; nothing is buffered."""
        for handle in self._files.values():
            handle.close()
        self._files.clear()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, name: str, offset: int) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("ab", buffering=0)
        size = handle.tell()
        if size < offset:
            handle.close()
            raise DataError(
                f"{path}: {size} bytes, but its checkpoint was taken at {offset}; "
                "the file was cut or replaced, so the run cannot be continued from there"
            )
        if size > offset:
            handle.truncate(offset)
        self._files[name] = handle
        self._sizes[name] = offset
        if name in self._declared:
            self._last_steps[name] = _last_step(path) if offset else None
            if name == self._clock_stream:
                self.last_step = self._last_steps[name]

    def _take(self, stream: str, row: Mapping[str, Any], lines: list[bytes]) -> None:
        """Check a row and add its line; an unhealthy row is added before it is refused."""
        where = f"{stream} step {row.get('step')}"
        metrics = self._declared.get(stream)
        failure: AlgorithmicFailure | None = None
        if metrics is not None:
            try:
                metrics.check(row, where=where)
            except AlgorithmicFailure as error:
                failure = error
            row = metrics.in_order(row)
            self._advance(stream, row.get("step"))
        try:
            text = _encode(row, where)
        except AlgorithmicFailure as error:
            failure = failure or error
            text = _encode(_null_where_not_finite(row), where)
        lines.append(text)
        if failure is not None:
            raise failure

    def _advance(self, stream: str, step: Any) -> None:
        last = self._last_steps[stream]
        if not isinstance(step, int | np.integer) or isinstance(step, bool):
            raise ConfigError(f"{stream}: a declared row needs an integer 'step', not {step!r}")
        if last is not None and step <= last:
            raise ConfigError(f"{stream}: step {step} after step {last}; one row a step, in order")
        self._last_steps[stream] = int(step)
        if stream == self._clock_stream:
            self.last_step = int(step)

    def _append(self, stream: str, data: bytes) -> None:
        handle, size = self._files[stream], self._sizes[stream]
        view = memoryview(data)
        try:
            while view:
                view = view[handle.write(view) :]
        except OSError:
            handle.truncate(size)  # a full disk leaves no half line behind
            raise
        self._sizes[stream] = size + len(data)


def _encode(row: Mapping[str, Any], where: str) -> bytes:
    try:
        text = json.dumps(
            row, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
        )
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}: text is not valid Unicode ({error.reason})") from None
    except TypeError as error:
        raise ConfigError(f"{where}: {error}; rows hold JSON values and numpy numbers") from None
    except ValueError:
        raise AlgorithmicFailure(f"{where}: the row holds a number that is not finite") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} cannot be written")


def _null_where_not_finite(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _null_where_not_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_null_where_not_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _last_step(path: Path) -> int | None:
    """Return the step of a file's last row, reading from its end."""
    with path.open("rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        window = 4096
        while True:
            handle.seek(max(0, size - window))
            tail = handle.read().rstrip(b"\n")
            line = tail[tail.rfind(b"\n") + 1 :]
            if len(line) < len(tail) or window >= size:
                break
            window *= 2
    try:
        return int(orjson.loads(line)["step"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: its last row cannot be read: {error}") from None
