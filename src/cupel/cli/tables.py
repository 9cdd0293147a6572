"""The formats of a table on the command line: for reading, for a paper, for a machine.

Knows names of formats and how several tables stand one after another. Refuses to know what the
tables say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cupel.cli import console
from cupel.cli.app import Stop

if TYPE_CHECKING:
    from cupel.report.tables import Table

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

FORMATS = ("table", "markdown", "csv", "latex", "json")
format_option = click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How to print; latex needs the booktabs package.",
)


def format_flags(command: CommandT) -> CommandT:
    """Decorate a command with --json, --csv, --latex and --markdown."""
    for kind in reversed(FORMATS[1:]):
        command = click.option(f"--{kind}", f"as_{kind}", is_flag=True, help=f"Print {kind}.")(
            command
        )
    return command


def chosen(**flags: bool) -> str:
    """Return the format whose flag was given, `table` when none was.

    Raises:
        Stop: two were given.
    """
    given = [name.removeprefix("as_") for name, is_on in flags.items() if is_on]
    if len(given) > 1:
        raise Stop(f"--{given[0]} and --{given[1]}: choose one format")
    return given[0] if given else "table"


def source_hash(value: Any) -> str:
    """Return the SHA-256 of data as canonical JSON."""
    from cupel.config import canonical_json

    return hashlib.sha256(canonical_json(console.plain(value)).encode()).hexdigest()


def table_text(tables: Sequence[Table], kind: str, *, source_sha256: str) -> str:
    """Return tables as text in a format other than json."""
    from cupel.report.latex import latex_table
    from cupel.report.markdown import csv_text, markdown_table, shown_rows

    if kind == "latex":
        return "\n".join(latex_table(table, source_sha256=source_sha256) for table in tables)
    if kind == "csv":
        return "\n".join(csv_text(table) for table in tables)
    if kind == "markdown":
        parts = [f"**{table.title}**\n\n{markdown_table(table)}\n" for table in tables]
        return "\n".join(parts)
    parts = []
    for table in tables:
        names = [column.name for column in table.columns]
        lines = console.plain_table(names, shown_rows(table), title=table.title)
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
