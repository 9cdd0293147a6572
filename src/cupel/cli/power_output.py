"""How a power table leaves the command line: printed, written, drawn.

Knows rows of numbers, formats and figures. Refuses to compute power.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.source import comma_list
from cupel.cli.tables import FORMATS, chosen, format_flags, source_hash, table_text

if TYPE_CHECKING:
    from cupel.report.power_figure import PowerCurve

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def output_options(command: CommandT) -> CommandT:
    """Decorate a command with --figure and the flags of the formats."""
    figure = click.option(
        "--figure",
        type=click.Path(path_type=Path),
        help="Draw the power curve into this .png, .svg or .pdf file.",
    )
    return figure(format_flags(command))


def number_list(given: Sequence[str], *, flag: str) -> list[float]:
    """Read numbers given as `.01,.02`, or one at a time.

    Raises:
        Stop: one is not a finite number.
    """
    numbers = []
    for word in given:
        for part in comma_list(word, flag=flag):
            try:
                number = float(part)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise Stop(f"{flag}: '{part}' is not a number; write e.g. {flag} .01,.02")
            numbers.append(number)
    return numbers


def deliver(
    rows: Sequence[Mapping[str, console.Cell]],
    *,
    facts: Mapping[str, Any],
    rows_name: str,
    title: str,
    notes: Sequence[str],
    curves: Callable[[], Sequence[PowerCurve]],
    size_label: str,
    figure: Path | None,
    **flags: bool,
) -> None:
    """Print the rows in the chosen format, and draw the curves where a figure was asked for.

    Raises:
        Stop: two formats were chosen.
        UsageError: the figure's file has another ending than .png, .svg or .pdf.
        MissingExtraError: a figure was asked for and matplotlib is not installed.
    """
    kind = chosen(**flags)
    if figure is not None:
        from cupel.report.power_figure import write_power_figure

        write_power_figure(
            figure,
            curves(),
            size_label=size_label,
            wanted=float(facts.get("power", 0.8)),
            alpha=float(facts["alpha"]),
        )
        console.note(f"wrote {figure}")
    data = {**facts, rows_name: [dict(row) for row in rows]}
    if kind == "json":
        console.print_json(data)
    elif kind == FORMATS[0]:
        console.line(title)
        names = [name.replace("_", " ") for name in rows[0]]
        console.table(names, [list(row.values()) for row in rows])
        for note in notes:
            console.line(note)
    else:
        console.line(_written(rows, kind, title, source_hash(data)).rstrip())
        if kind != "csv":
            for note in notes:
                console.line(f"% {note}" if kind == "latex" else f"\n{note}")


def _written(rows: Sequence[Mapping[str, console.Cell]], kind: str, title: str, digest: str) -> str:
    """Return the rows as markdown, CSV or LaTeX; CSV keeps full precision."""
    from cupel.report.tables import Column, Table

    numeric = {
        name: all(row[name] is None or isinstance(row[name], int | float) for row in rows)
        for name in rows[0]
    }
    columns = tuple(
        Column(
            name=name if kind == "csv" else name.replace("_", " "),
            unit="count" if is_number else "text",
        )
        for name, is_number in numeric.items()
    )
    cells = tuple(
        tuple(value if kind == "csv" else _shown(value) for value in row.values()) for row in rows
    )
    return table_text([Table(title=title, columns=columns, rows=cells)], kind, source_sha256=digest)


def _shown(value: console.Cell) -> str | None:
    return None if value is None else console.show(value)
