"""How JSON reaches the disk and comes back: strict, and atomic where a reader may be looking.

Knows bytes, renames and error messages. Refuses to know what any file means.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from cupel.config import canonical_json
from cupel.errors import DataError

_NEWLINE = 0x0A


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        DataError: the file is missing, unreadable, malformed, holds NaN, or is no object.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=_refuse, parse_float=_finite)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: not strict JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {_kind(value)}")
    return value


def read_json_lines(path: Path, *, still_written: bool = False) -> list[dict[str, Any]]:
    """Read one JSON object a line.

    Args:
        still_written: leave out a last line without its newline, because its writer is at work.

    Raises:
        DataError: names the file and the line that is malformed, truncated, holds NaN, or is no
            object.
    """
    data = read_lines(path)
    return parse_json_lines(path, data[: data.rfind(b"\n") + 1] if still_written else data)


def read_lines(path: Path) -> bytes:
    """Read the bytes of a file of lines.

    Raises:
        DataError: the file is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def parse_json_lines(path: Path, data: bytes) -> list[dict[str, Any]]:
    """Parse what `read_lines` read; raises as `read_json_lines` does."""
    rows = []
    lines = data.rstrip().split(b"\n") if data.strip() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            torn = number == len(lines) and data[-1] != _NEWLINE
            what = "truncated (no newline at its end)" if torn else "not strict JSON"
            raise DataError(f"{path}:{number}: {what}: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected a JSON object, found {_kind(row)}")
        rows.append(row)
    return rows


def write_atomically(path: Path, data: bytes, *, fsync: bool = False) -> None:
    """Replace a file so that a reader sees the old bytes or the new ones, never a part.

    Args:
        fsync: also survive a power cut, at the price of a few milliseconds.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as handle:
        handle.write(data)
        if fsync:
            handle.flush()
            os.fsync(handle.fileno())
    os.replace(temporary, path)
    if fsync:
        sync_folder(path.parent)


def write_json(path: Path, value: Mapping[str, Any], *, fsync: bool = False) -> None:
    """Write an object as indented strict JSON, atomically.

    Raises:
        ConfigError: a value is not JSON or not finite.
    """
    write_atomically(path, json_bytes(value), fsync=fsync)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return indented strict JSON, key order kept, with a newline at its end.

    Raises:
        ConfigError: a value is not JSON or not finite.
    """
    canonical_json(value)  # orjson would turn NaN into null; this refuses it
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # an integer beyond 64 bits, such as a generator's state
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
