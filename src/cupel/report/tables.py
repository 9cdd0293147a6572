"""Tables of a study as data: what stands in each cell, with its count and interval.

Pure but for the run rows it is handed. Cells hold numbers in the units of the files (rates in
[0, 1]); turning them into words is `markdown`'s work. Refuses to print a mean without the number
of runs behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from cupel.analysis.endpoint import Outcome, observe, outcomes
from cupel.errors import DataError
from cupel.report.view import RunView, StudyView, unit_of

Endpoints = Mapping[Path, Outcome]
"""The primary endpoint of every run by its folder; a run without one may be absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over runs with its 95 % t-interval; the interval is None below 3 runs."""

    mean: float
    low: float | None
    high: float | None
    n: int


Cell = str | int | float | Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's heading, its unit, and whether its cells are differences."""

    name: str
    unit: str = "text"
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns and rows of equal length."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def endpoints_of(view: StudyView) -> Endpoints:
    """Return the primary endpoint of every run, failed ones by the declared policy.

    In a study whose finished runs do not all hold the endpoint, each run stands for itself, and
    those without it are absent.
    """
    study = view.record.study
    records = [run.record for run in view.runs if run.problem is None]
    try:
        found = outcomes(
            records,
            study.endpoint,
            failure=study.decision.failure,
            failure_value=study.decision.failure_value,
        )
    except DataError:
        found = []
        for record in records:
            with suppress(DataError):
                found.append(observe(record, study.endpoint))
    return {outcome.run.folder: outcome for outcome in found}


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """Return the mean of the values that exist, or None when none does.

    >>> estimate([0.1, None, 0.3])
    Estimate(mean=0.2, low=None, high=None, n=2)
    """
    present = np.array([value for value in values if value is not None], dtype=np.float64)
    if present.size == 0:
        return None
    mean = float(present.mean())
    if present.size < 3:
        return Estimate(mean=mean, low=None, high=None, n=int(present.size))
    error = float(present.std(ddof=1)) / float(np.sqrt(present.size))
    half = float(stats.t.ppf(0.975, present.size - 1)) * error
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=int(present.size))


def run_table(view: StudyView, endpoints: Endpoints) -> Table:
    """Return one row for every planned run, whatever became of it."""
    metric = view.record.study.endpoint.metric
    columns = (
        Column(name="condition"),
        Column(name="seed", unit="count"),
        Column(name="status"),
        Column(name="steps", unit="count"),
        Column(name=f"{metric} ({view.record.study.endpoint.over})", unit=unit_of(metric)),
        Column(name="held-out before", unit="rate"),
        Column(name="held-out after", unit="rate"),
        Column(name="ungradable", unit="count"),
        Column(name="time", unit="duration"),
        Column(name="reason"),
    )
    rows = tuple(_run_row(run, endpoints) for run in view.runs)
    return Table(title="Runs", columns=columns, rows=rows)


def _run_row(run: RunView, endpoints: Endpoints) -> tuple[Cell, ...]:
    before, after = held_out(run)
    return (
        run.condition,
        run.seed,
        run.status,
        len(run.rows),
        _endpoint(run, endpoints),
        before,
        after,
        total(run, "ungradable_count", whole=True),
        total(run, "step_time_s"),
        _reason(run, endpoints),
    )


def _endpoint(run: RunView, endpoints: Endpoints) -> float | None:
    outcome = endpoints.get(run.record.folder)
    return outcome.value if outcome is not None else None


def _reason(run: RunView, endpoints: Endpoints) -> str | None:
    outcome = endpoints.get(run.record.folder)
    if run.reason is None or outcome is None or not outcome.failed:
        return run.reason
    words = {"carried_forward": "last value carried forward", "worst": "worst value taken"}
    return f"{run.reason} (endpoint: {words[outcome.origin]})"


def condition_table(view: StudyView, endpoints: Endpoints) -> Table:
    """Return one row a condition: each cell a mean over its runs, with n and interval."""
    metric = view.record.study.endpoint.metric
    columns = (
        Column(name="condition"),
        Column(name="runs done", unit="text"),
        Column(name=f"{metric} ({view.record.study.endpoint.over})", unit=unit_of(metric)),
        Column(name="held-out before", unit="rate"),
        Column(name="held-out after", unit="rate"),
        Column(name="gain", unit="rate", signed=True),
        Column(name="tokens per second", unit="tokens/s"),
        Column(name="step time", unit="s"),
    )
    rows = []
    for label in view.labels:
        runs = view.of(label)
        held = [held_out(run) for run in runs]
        done = sum(run.status == "done" for run in runs)
        rows.append(
            (
                label,
                f"{done} of {len(runs)}",
                estimate([_endpoint(run, endpoints) for run in runs]),
                estimate([before for before, _ in held]),
                estimate([after for _, after in held]),
                estimate(
                    [
                        after - before
                        for before, after in held
                        if before is not None and after is not None
                    ]
                ),
                estimate([median(run, "tokens_per_second") for run in runs]),
                estimate([median(run, "step_time_s") for run in runs]),
            )
        )
    return Table(title="Conditions", columns=columns, rows=tuple(rows))


def held_out(run: RunView) -> tuple[float | None, float | None]:
    """Return held-out accuracy before the first update and at the end of a finished run.

    Before is the evaluation at step 0; after is the last one, of a complete run only.
    """
    rows = [row for row in run.evaluations if isinstance(row.get("accuracy"), int | float)]
    if not rows:
        return None, None
    first, last = rows[0], rows[-1]
    before = float(first["accuracy"]) if first.get("step") == 0 else None
    done = run.status == "done" and last is not first
    return before, float(last["accuracy"]) if done else None


def median(run: RunView, key: str) -> float | None:
    """Return the median of a key over a run's steps, or None when it was never logged."""
    values = run.curve(key).values_T
    present = values[np.isfinite(values)]
    return float(np.median(present)) if present.size else None


def total(run: RunView, key: str, *, whole: bool = False) -> float | int | None:
    """Return the sum of a key over a run's steps, or None when it was never logged."""
    values = run.curve(key).values_T
    present = values[np.isfinite(values)]
    if not present.size:
        return None
    return int(present.sum()) if whole else float(present.sum())
