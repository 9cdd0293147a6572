"""Tables as HTML: cards on a phone, sortable and filterable where a script runs, always as CSV.

Pure. The CSV is a data: link in the page, so it can be saved without script and without network;
it keeps the units of the files. Refuses to round what is exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from cupel.report.charts import breakable
from cupel.report.formats import THIN
from cupel.report.markdown import cell_text, csv_text
from cupel.report.tables import Cell, Column, Estimate, Table

_LONG = 22
"""Longest condition that is kept on one line."""


def html_table(table: Table, *, name: str, status: str | None = None, wide: bool = False) -> str:
    """Return a table with a link to its CSV.

    Args:
        name: file name of the CSV, and the table's id, without spaces.
        status: the column whose words mark its rows; its table also gets filters.
        wide: let the table scroll sideways instead of turning into cards.
    """
    heads = "".join(_head(column) for column in table.columns)
    names = [column.name for column in table.columns]
    rows = []
    for row in table.rows:
        kind = str(row[names.index(status)]) if status is not None else ""
        cells = (
            _cell(cell, column, status) for cell, column in zip(row, table.columns, strict=True)
        )
        label = f' data-c="{escape(str(row[0]))}"' if status is not None else ""
        rows.append(f'<tr class="{escape(kind)}"{label}>{"".join(cells)}</tr>')
    tools = _tools(table, name, names.index(status) if status is not None else None)
    shape = "plain" if wide else "cards"
    sheet = (
        f'<table class="{shape} sortable" id="table-{name}"><caption class="hid">'
        f"{escape(table.title)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    if wide:
        sheet = (
            f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(table.title)}">'
            f"{sheet}</div>"
        )
    return tools + sheet


def csv_link(text: str, name: str) -> str:
    """Return a link that saves text as a CSV file."""
    return (
        f'<a class="csv" download="{escape(name)}.csv" '
        f'href="data:text/csv;charset=utf-8,{quote(text)}">CSV</a>'
    )


def _tools(table: Table, name: str, status: int | None) -> str:
    if status is None:
        return f'<div class="tools">{csv_link(csv_text(table), name)}</div>'
    choices = (("status", [row[status] for row in table.rows]), ("condition", _first(table)))
    selects = "".join(
        f'<label class="js">{what}<select data-filter="{what}"><option value="">all</option>'
        + "".join(f"<option>{escape(str(each))}</option>" for each in dict.fromkeys(found))
        + "</select></label>"
        for what, found in choices
    )
    sorts = "".join(
        f'<option value="{place}">{escape(column.name)}</option>'
        for place, column in enumerate(table.columns)
    )
    return (
        f'<div class="tools" data-table="table-{name}" role="search" aria-label="Filter the runs">'
        '<label class="js grow">find<input type="search" data-filter="text" '
        'placeholder="any word of a row"></label>'
        f'{selects}<label class="js narrow">sort by<select data-sort>'
        f'<option value="">plan</option>{sorts}</select></label>'
        f'<output class="js" aria-live="polite"></output>{csv_link(csv_text(table), name)}</div>'
    )


def _first(table: Table) -> Sequence[Cell]:
    return [row[0] for row in table.rows]


def _head(column: Column) -> str:
    side = "" if column.unit == "text" else ' class="r"'
    return f'<th scope="col"{side}>{escape(column.name)}</th>'


def _cell(cell: Cell, column: Column, status: str | None) -> str:
    css = "why" if column.name == "reason" else "" if column.unit == "text" else "r"
    if cell is None and column.name == "reason":
        css, shown = "why gone", ""
    else:
        shown = _shown(cell, column)
    if column.name == status:
        shown = f'<span class="st {shown}">{shown}</span>'
    raw = cell.mean if isinstance(cell, Estimate) else cell
    value = f' data-v="{raw!r}"' if isinstance(raw, int | float) else ""
    return f'<td class="{css}" data-name="{escape(column.name)}"{value}>{shown}</td>'


def _shown(cell: Cell, column: Column) -> str:
    if isinstance(cell, Estimate):
        mean, low, high = (
            cell_text(value, column) if value is not None else None
            for value in (cell.mean, cell.low, cell.high)
        )
        span = f"{low.partition(THIN)[0]} to {high}" if low is not None else "no interval"
        count = f"n&nbsp;=&nbsp;{cell.n}"
        return f"<span><b>{escape(str(mean))}</b> <small>{escape(span)}, {count}</small></span>"
    text = cell_text(cell, column)
    return breakable(text) if column.name == "condition" and len(text) > _LONG else escape(text)
