"""Tables as text: markdown for reading, CSV for machines, rows of words for a terminal.

Pure. Knows formats; refuses to know where a table came from. CSV keeps the units of the files and
full precision; markdown and the terminal show percent.
"""

from __future__ import annotations

import csv
import io

from cupel.report.formats import (
    MISSING,
    difference_text,
    duration_text,
    value_text,
)
from cupel.report.tables import Cell, Column, Estimate, Table


def shown_rows(table: Table) -> list[list[str]]:
    """Return the table's cells as words, one list a row."""
    return [
        [cell_text(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]


def cell_text(cell: Cell, column: Column) -> str:
    """Return one cell as words: an estimate with its interval and n, a missing one as a dash."""
    if cell is None:
        return MISSING
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Estimate):
        return _estimate_text(cell, column)
    return _number_text(cell, column)


def _estimate_text(cell: Estimate, column: Column) -> str:
    mean = _number_text(cell.mean, column)
    if cell.low is None or cell.high is None:
        return f"{mean} (n = {cell.n})"
    low, high = _number_text(cell.low, column), _number_text(cell.high, column)
    return f"{mean} [{low}, {high}] (n = {cell.n})"


def _number_text(value: float | int, column: Column) -> str:
    if column.unit == "duration":
        return duration_text(float(value))
    if column.unit == "count":
        return str(value)
    if column.signed:
        return difference_text(float(value), column.unit)
    return value_text(float(value), column.unit)


def markdown_table(table: Table) -> str:
    """Return the table in GitHub's markdown, numbers to the right."""
    heads = [column.name for column in table.columns]
    rule = [":---" if column.unit == "text" else "---:" for column in table.columns]
    lines = [heads, rule, *shown_rows(table)]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def _escape(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def csv_text(table: Table) -> str:
    """Return the table as CSV: an estimate becomes four columns, a missing value an empty field."""
    estimated = [
        any(isinstance(row[place], Estimate) for row in table.rows)
        for place in range(len(table.columns))
    ]
    heads: list[str] = []
    for column, wide in zip(table.columns, estimated, strict=True):
        suffixes = ("", " low95", " high95", " n") if wide else ("",)
        heads += [column.name + suffix for suffix in suffixes]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(heads)
    for row in table.rows:
        fields: list[str] = []
        for cell, wide in zip(row, estimated, strict=True):
            fields += _csv_fields(cell, wide=wide)
        writer.writerow(fields)
    return sink.getvalue()


def _csv_fields(cell: Cell, *, wide: bool) -> list[str]:
    if isinstance(cell, Estimate):
        numbers = (cell.mean, cell.low, cell.high, cell.n)
        return ["" if number is None else repr(number) for number in numbers]
    text = "" if cell is None else cell if isinstance(cell, str) else repr(cell)
    return [text, "", "", ""] if wide else [text]
