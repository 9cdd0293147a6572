"""A comparison as tables: one of the sets of runs, one of the runs, failed ones included.

Pure. Knows the data that `compare_runs` and `compare_sets` return; refuses to compute anything
that is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cupel.report.tables import Cell, Column, Estimate, Table
from cupel.report.view import unit_of

_ORIGINS = {"carried_forward": "last value carried forward", "worst": "worst value taken"}


def comparison_tables(report: Mapping[str, Any]) -> tuple[Table, Table]:
    """Return a row for every set of runs, and a row for every run."""
    return _sets(report), _runs(report)


def _sets(report: Mapping[str, Any]) -> Table:
    metric = report["endpoint"]
    columns = (
        Column(name="runs of"),
        Column(name="finished"),
        Column(name=f"{metric}, {report['over']}", unit=unit_of(metric)),
        Column(name="correct rate, all steps", unit="rate"),
        Column(name="mean reward, all steps", unit=""),
        Column(name="completions", unit="count"),
        Column(name="ungradable", unit="count"),
    )
    rows = [
        (
            row["condition"],
            f"{row['finished']} of {row['runs']}"
            + (f", {row['failed']} failed" if row["failed"] else ""),
            _estimate(row["endpoint"]),
            _estimate(row["per_run"]["correct_rate"]),
            _estimate(row["per_run"]["mean_reward"]),
            row["total_generations"],
            row["ungradable"],
        )
        for row in report["conditions"]
    ]
    title = "Mean over n runs [95 % t-interval over runs]"
    return Table(title=title, columns=columns, rows=tuple(rows))


def _estimate(found: Mapping[str, Any]) -> Estimate | None:
    if found["mean"] is None:
        return None
    low, high = found["ci95"] or (None, None)
    return Estimate(mean=found["mean"], low=low, high=high, n=found["n"])


def _runs(report: Mapping[str, Any]) -> Table:
    metric = report["endpoint"]
    columns = (
        Column(name="run"),
        Column(name="condition"),
        Column(name="seed", unit="count"),
        Column(name="status"),
        Column(name=f"{metric}, {report['over']}", unit=unit_of(metric)),
        Column(name="values", unit="count"),
        Column(name="reason"),
    )
    rows = [
        (
            run["folder"],
            run["condition"],
            run["seed"],
            run["status"],
            run["value"],
            run["steps"] if run["value"] is not None else None,
            _reason(run),
        )
        for run in report["runs"]
    ]
    return Table(title="Runs", columns=columns, rows=tuple(rows))


def _reason(run: Mapping[str, Any]) -> Cell:
    message = str(run["failure"].get("message")) if run["failure"] else None
    taken = _ORIGINS.get(run["origin"])
    return "; ".join(part for part in (message, taken) if part is not None) or None
