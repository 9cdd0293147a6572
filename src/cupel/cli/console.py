"""What reaches the screen: tables, JSON, facts and warnings.

Knows whether a person or a pipe reads. Refuses to know what is printed. Results go to stdout,
notes and warnings to stderr, so that `--json` can always be piped.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.table import Table

Cell = str | float | int | bool | None

MISSING = "–"
"""How a missing value is shown; it is never a zero."""


def is_terminal() -> bool:
    """Say whether a person reads stdout."""
    return _is_screen(sys.stdout)


def is_progress_shown() -> bool:
    """Say whether a person sees what moves on stderr: not where it goes to a file, as by nohup."""
    return _is_screen(sys.stderr)


def _is_screen(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def line(text: str = "") -> None:
    """Print one line of a result."""
    click.echo(text)


def note(text: str) -> None:
    """Print one line beside the result."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """Print a warning beside the result."""
    click.echo(f"{click.style('warning', fg='yellow', bold=True)}: {text}", err=True)


def print_json(value: Any) -> None:
    """Print strict JSON: finite numbers only, keys in their own order."""
    click.echo(json_text(value), nl=False)


def json_text(value: Any) -> str:
    """Return strict, indented JSON with a newline at its end."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return dataclasses, mappings, paths and numpy scalars as plain JSON data."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) or value is None:
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return value


def show(value: Cell) -> str:
    """Format one cell: four significant digits, and a dash for what is missing."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str | None = None
) -> None:
    """Print a table: boxed for a person, aligned plain text for a pipe."""
    if is_terminal():
        _rich_table(columns, rows, title)
    else:
        for text in plain_table(columns, rows, title=title):
            click.echo(text)


def plain_table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str | None = None
) -> list[str]:
    """Return the lines of an aligned table; numbers stand right, words left."""
    cells = [[show(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    right = [_is_numeric([row[i] for row in rows]) for i in range(len(columns))]

    def join(row: Sequence[str]) -> str:
        parts = zip(row, widths, right, strict=True)
        return "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in parts).rstrip()

    lines = [title] if title else []
    return [*lines, join(columns), *(join(row) for row in cells)]


def _is_numeric(values: Sequence[Cell]) -> bool:
    given = [value for value in values if value is not None]
    return bool(given) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in given
    )


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], title: str | None) -> None:
    from rich.console import Console

    view = rich_table(columns, rows, title)
    Console(highlight=False, markup=False).print(view)


def rich_table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], title: str | None = None
) -> Table:
    """Return a boxed table for a person; numbers stand right, words left."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    view = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for i, name in enumerate(columns):
        numeric = _is_numeric([row[i] for row in rows])
        view.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        view.add_row(*(Text(show(value)) for value in row))
    return view
