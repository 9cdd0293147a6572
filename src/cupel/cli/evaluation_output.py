"""What `cupel evaluate` prints: tables, or all facts as JSON.

Knows evaluations that were read back. Refuses to know how they were made.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupel.cli import console
from cupel.cli.tables import source_hash, table_text

if TYPE_CHECKING:
    from cupel.report.evaluation_tables import Evaluated
    from cupel.report.tables import Table
    from cupel.rlvr.evaluation_rates import By


def show(
    evaluated: Sequence[Evaluated],
    folders: Sequence[Path],
    *,
    by: Sequence[By],
    compared: bool,
    kind: str,
) -> None:
    """Print the tables, or all facts as JSON."""
    from cupel.report.evaluation_tables import curve_table, difference_table, group_table

    if kind == "json":
        console.print_json(_facts(evaluated, folders, compared=compared))
        return
    tables: list[Table] = [curve_table(evaluated)]
    tables += [group_table(one, part) for one in evaluated for part in by]
    if compared:
        a, b = evaluated
        kinds: tuple[By, ...] = ("all", *by)
        tables += [difference_table(a, b, part) for part in kinds]
    source = source_hash(_facts(evaluated, folders, compared=compared))
    console.line(table_text(tables, kind, source_sha256=source).rstrip())
    if compared:
        console.note(f"A = {evaluated[0].name}, B = {evaluated[1].name}; {_says()}")
    for folder in folders:
        console.note(f"rows: {shlex.quote(str(folder))}")


def _facts(
    evaluated: Sequence[Evaluated], folders: Sequence[Path], *, compared: bool
) -> dict[str, Any]:
    from cupel.rlvr.evaluation_rates import paired_differences, rate_rows

    facts: dict[str, Any] = {
        "evaluations": [
            {
                "name": one.name,
                "folder": folder,
                "step": one.step,
                "seed": one.seed,
                "rates": rate_rows(one.scores, one.pass_at, step=one.step),
            }
            for one, folder in zip(evaluated, folders, strict=True)
        ]
    }
    if compared:
        a, b = evaluated
        shared = [k for k in a.pass_at if k in b.pass_at]
        facts["differences"] = paired_differences(a.scores, b.scores, shared)
        facts["says"] = _says()
    return facts


def _says() -> str:
    from cupel.analysis.checkpoint import SAYS

    return SAYS
