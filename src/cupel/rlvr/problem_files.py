"""Rows and columns of JSONL and parquet files, read strictly: damage is named by file and row.

Knows JSON objects a line and parquet tables. Refuses to know what a problem is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cupel.config import did_you_mean
from cupel.errors import DataError, MissingExtraError

Rows = list[tuple[str, dict[str, Any]]]
"""Rows with the place each stands at, for messages."""


def read_rows(path: Path, max_examples: int | None) -> Rows:
    """Return the rows of a file, JSONL or, by its suffix, parquet; blank lines are passed over.

    Raises:
        DataError: the file is missing, unreadable, or a line is not a JSON object (names it).
        MissingExtraError: a parquet file without the pyarrow library.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path, max_examples)
    rows: Rows = []
    try:
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                if max_examples is not None and len(rows) == max_examples:
                    break
                if line.strip():
                    where = f"{path} line {number}"
                    rows.append((where, _object(line, where)))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; mend problems.path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return rows


def _read_parquet(path: Path, max_examples: int | None) -> Rows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError(f"{path}: reading parquet", "data") from None
    try:
        table = parquet.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; mend problems.path") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from None
    count = table.num_rows if max_examples is None else max_examples
    rows = table.slice(0, count).to_pylist()
    return [(f"{path} row {number}", row) for number, row in enumerate(rows, start=1)]


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def column(row: Mapping[str, Any], field: str, setting: str, where: str) -> str:
    """Return a column as text.

    Args:
        setting: the config key that names the column, for the message.
        where: file and line or row, opens the message.

    Raises:
        DataError: the column is missing, empty, or neither text nor a number.
    """
    if field not in row:
        raise DataError(
            f"{where}: no column '{field}'; {did_you_mean(field, sorted(row))} "
            f"Set problems.{setting}"
        )
    value = row[field]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{where}: column '{field}' is {value!r}; expected text or a number")
    if not str(value).strip():
        raise DataError(f"{where}: column '{field}' is empty; mend or drop the row")
    return str(value)
