"""Tables of a study as data: what stands in each cell, with its count and interval.

Pure but for the run rows it is handed. Cells hold numbers in the units of the files (rates in
[0, 1]); turning them into words is `markdown`'s work. Refuses to print a mean without the number
of runs behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from scipy import stats

from cupel.analysis.endpoint import Outcome, observe, outcomes
from cupel.errors import DataError
from cupel.report.evidence import Evidence
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

    In a study whose finished runs do not all hold the endpoint, each run stands for itself; those
    without it, and those that are still running, are absent.
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
            if record.status == "running":
                continue
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
    metric, key = view.record.study.endpoint.metric, held_out_key(view)
    columns = (
        Column(name="condition"),
        Column(name="seed", unit="count"),
        Column(name="status"),
        Column(name="attempts", unit="count"),
        Column(name="steps", unit="count"),
        Column(name=f"{metric} ({view.record.study.endpoint.over})", unit=unit_of(metric)),
        Column(name="held-out before", unit=unit_of(key)),
        Column(name="held-out after", unit=unit_of(key)),
        Column(name="ungradable", unit="count"),
        Column(name="time", unit="duration"),
        Column(name="reason"),
    )
    rows = tuple(_run_row(run, endpoints, key) for run in view.runs)
    table = Table(title="Runs", columns=columns, rows=rows)
    optional = {"held-out before", "held-out after", "ungradable", "time", "reason"}
    return without_empty(table, optional)


def _run_row(run: RunView, endpoints: Endpoints, key: str) -> tuple[Cell, ...]:
    before, after = held_out(run, key)
    return (
        run.condition,
        run.seed,
        run.status,
        run.attempts,
        len(run.rows),
        _endpoint(run, endpoints),
        before,
        after,
        total(run, "ungradable_count", whole=True),
        run_time(run),
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
    metric, key = view.record.study.endpoint.metric, held_out_key(view)
    columns = (
        Column(name="condition"),
        Column(name="runs done", unit="text"),
        Column(name=f"{metric} ({view.record.study.endpoint.over})", unit=unit_of(metric)),
        Column(name="held-out before", unit=unit_of(key)),
        Column(name="held-out after", unit=unit_of(key)),
        Column(name="gain", unit=unit_of(key), signed=True),
        Column(name="tokens per second", unit="tokens/s"),
        Column(name="step time", unit="s"),
    )
    rows = []
    for label in view.labels:
        runs = view.of(label)
        held = [held_out(run, key) for run in runs]
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
    table = Table(title="Conditions", columns=columns, rows=tuple(rows))
    return without_empty(table, {column.name for column in columns[3:]})


def without_empty(table: Table, optional: AbstractSet[str]) -> Table:
    """Leave out those of the optional columns in which no row has a value."""
    kept = [
        place
        for place, column in enumerate(table.columns)
        if column.name not in optional or any(row[place] is not None for row in table.rows)
    ]
    return Table(
        title=table.title,
        columns=tuple(table.columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
    )


def contrast_table(evidence: Evidence) -> Table:
    """Return one row a contrast, with everything the analysis says of it in numbers."""
    columns = (
        Column(name="metric"),
        Column(name="baseline"),
        Column(name="candidate"),
        Column(name="family"),
        Column(name="verdict"),
        Column(name="effect", unit=""),
        Column(name="low95", unit=""),
        Column(name="high95", unit=""),
        Column(name="p", unit=""),
        Column(name="p, Holm", unit=""),
        Column(name="seeds", unit="count"),
    )
    rows = tuple(
        (
            each.metric,
            each.baseline,
            each.candidate,
            each.family,
            each.verdict,
            each.delta,
            each.low,
            each.high,
            each.p,
            each.p_holm,
            each.n_seeds,
        )
        for each in evidence.contrasts
    )
    return Table(title="Contrasts", columns=columns, rows=rows)


def held_out_key(view: StudyView) -> str:
    """Return the evaluation shown before and after training: the endpoint's, else accuracy."""
    metric = view.record.study.endpoint.metric
    return metric if metric.startswith("eval/") else "eval/accuracy"


def held_out(run: RunView, key: str = "eval/accuracy") -> tuple[float | None, float | None]:
    """Return a held-out measure before the first update and at the end of a finished run.

    Before is the evaluation at step 0; after is the last one, of a complete run only. The only
    evaluation of a run that did no step is before.
    """
    name = key.removeprefix("eval/")
    rows = [row for row in run.evaluations if isinstance(row.get(name), int | float)]
    if not rows:
        return None, None
    first, last = rows[0], rows[-1]
    before = float(first[name]) if first.get("step") == 0 else None
    done = run.status == "done" and last.get("step") != 0
    return before, float(last[name]) if done else None


def run_time(run: RunView) -> float | None:
    """Return the seconds a run spent in its steps; where no step is timed, from begin to end.

    The latter only of a run that was begun once: between two attempts nothing runs.
    """
    spent = total(run, "step_time_s")
    record = run.record
    if spent is not None or record.attempts != 1 or not (record.started_at and record.ended_at):
        return spent
    begun, ended = (datetime.fromisoformat(at) for at in (record.started_at, record.ended_at))
    return (ended - begun).total_seconds()


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
