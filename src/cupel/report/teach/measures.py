"""The numbers behind the teaching figures and tables, each with its interval and its n.

Pure but for the results it is handed. Knows quadrants, formats and contrasts with BASE. Refuses to
stand in for an interval that no file holds, and to pick a winner on the data it is shown on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cupel.errors import DataError
from cupel.report.teach.results import (
    MissingInput,
    Row,
    TeachResults,
    episodes_beside,
    number,
    only,
    read_table,
)
from cupel.stats.clustered import clustered_mean
from cupel.teach.evaluation.judging import EpisodeRow
from cupel.teach.evaluation.tables import BASE, Evidence, identity_of, successes
from cupel.teach.evaluation.transfer import paired
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.records import FORMATS

SUPERVISIONS = (*FORMATS, "best")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number, its 95 % interval where there is one, and how many things are behind it."""

    value: float | None
    lo: float | None = None
    hi: float | None = None
    n: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval, or None."""
        return None if self.lo is None or self.hi is None else (self.lo, self.hi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One labelled moment, as far as it is labelled.

    Attributes:
        ELP: the gain read on rollouts that did not choose the format, or where values are exact
            the largest net gain; `biased` tells the largest of noisy gains.
    """

    task: str
    quadrant: str
    U: float | None
    L: float | None
    ELP: float | None
    biased: bool
    route: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPoint:
    """A trained model between what it gained and what it lost."""

    model: str
    train_quadrant: str
    supervision: str
    gain: Measure
    drop: Measure


def labelled_of(row: Row) -> Labelled:
    """Read what is shown of a row of labeled_snapshots.jsonl."""
    leverage, test = row.get("leverage") or {}, row.get("cpt") or {}
    split, exact = number(test, "ELP_split"), test.get("n_per_condition", 0) is None
    return Labelled(
        task=str(row.get("task_id") or (row.get("snapshot") or {}).get("task_id", "")),
        quadrant=str(row.get("quadrant", "UNASSIGNED")),
        U=number(row, "U"),
        L=number(leverage, "L_local"),
        ELP=split if split is not None else number(test, "ELP_net"),
        biased=split is None and not exact and number(test, "ELP_net") is not None,
        route=test.get("route_net"),
    )


def mean_of(values: Sequence[tuple[str, float | None]]) -> Measure:
    """Return the mean of (task, value) pairs with its interval, clustered by task."""
    known = [(task, value) for task, value in values if value is not None]
    if not known:
        return Measure(value=None, n=0)
    numbers = np.array([value for _, value in known])
    tasks = np.unique([task for task, _ in known], return_inverse=True)[1]
    if tasks.max() == 0:
        return Measure(value=float(numbers.mean()), n=len(known))
    found = clustered_mean(numbers, tasks)
    ends = (None, None) if found.interval is None else (found.interval.low, found.interval.high)
    return Measure(value=found.mean, lo=ends[0], hi=ends[1], n=len(known))


def measure(
    row: Row | None, value: str, *, lo: str = "lo", hi: str = "hi", n: str = "n"
) -> Measure:
    """Return a number of a row with the interval and n that stand beside it."""
    count = number(row, n)
    return Measure(
        value=number(row, value),
        lo=number(row, lo),
        hi=number(row, hi),
        n=None if count is None else int(count),
    )


def gain_on_tasks(overall: Sequence[Row], model: str) -> Measure:
    """Return a model's success on test tasks less BASE's; without interval if none is stored."""
    row, base = only(overall, model=model), only(overall, model=BASE)
    if number(row, "delta_success") is not None:
        return measure(row, "delta_success", lo="delta_lo", hi="delta_hi", n="delta_n")
    mine, theirs = number(row, "success_rate"), number(base, "success_rate")
    if mine is None or theirs is None:
        return Measure(value=None)
    return Measure(value=mine - theirs, n=measure(row, "success_rate").n)


def gain_on_panel(folder: Path, model: str) -> Measure:
    """Return a model's success on the failure panel less BASE's, paired, clustered by task.

    All failure states weigh alike. Without episodes.jsonl there is the figure of
    per_quadrant_results.csv, and no interval.
    """
    episodes = episodes_beside(folder)
    if episodes is not None:
        return _paired_gain(episodes, model)
    rows = read_table(folder / "per_quadrant_results.csv")
    mine, theirs = ([r for r in rows if r["model"] == name] for name in (model, BASE))
    values = [_pooled(each) for each in (mine, theirs)]
    if values[0] is None or values[1] is None:
        return Measure(value=None)
    n = sum(int(row["n"] or 0) for row in mine)
    return Measure(value=values[0] - values[1], n=n)


def _paired_gain(episodes: Sequence[EpisodeRow], model: str) -> Measure:
    evidence = Evidence(rows=tuple(episodes), retention=frozenset(), asked=0)
    found = paired(
        successes(evidence.of(model, "snapshots")),
        successes(evidence.of(BASE, "snapshots")),
        evidence.task_of,
    )
    return Measure(value=found.delta, lo=found.lo, hi=found.hi, n=found.n)


def _pooled(rows: Sequence[Row]) -> float | None:
    known = [(row["n"], row["success_rate"]) for row in rows if row["success_rate"] is not None]
    total = sum(n for n, _ in known)
    return sum(n * value for n, value in known) / total if total else None


def model_points(folder: Path) -> list[ModelPoint]:
    """Return gain on tasks and retention drop of every trained model of an evaluation."""
    overall = read_table(folder / "overall_task_results.csv")
    retention = read_table(folder / "retention_results.csv")
    points = []
    for name in dict.fromkeys(row["model"] for row in overall if row["model"] != BASE):
        quadrant, supervision = identity_of(name)
        points.append(
            ModelPoint(
                model=name,
                train_quadrant=quadrant,
                supervision=supervision if quadrant != "all" else "baseline",
                gain=gain_on_tasks(overall, name),
                drop=measure(only(retention, model=name), "retention_drop"),
            )
        )
    return points


def transfer_cell(matrix: Sequence[Row], model: str, quadrant: str) -> Row | None:
    """Return the row of a model in a quadrant, or None where it was not evaluated."""
    return only(matrix, model=model, eval_quadrant=quadrant)


def chosen_formats(
    supervision: str, matrix: Sequence[Row], results: TeachResults
) -> Mapping[str, str]:
    """Return the format to show for each training quadrant that has one.

    `best` is the format with the highest success on test tasks: other episodes than those of the
    matrix, so that choosing does not flatter what is shown.

    Raises:
        DataError: the supervision is unknown.
        MissingInput: no model of that supervision was evaluated.
    """
    if supervision not in SUPERVISIONS:
        raise DataError(
            f"supervision '{supervision}' is unknown; allowed: {', '.join(SUPERVISIONS)}"
        )
    there = {
        (row["train_quadrant"], row["supervision"])
        for row in matrix
        if row["train_quadrant"] in QUADRANTS
    }
    wanted = FORMATS if supervision == "best" else (supervision,)
    found = {q: [f for f in wanted if (q, f) in there] for q in QUADRANTS}
    if not any(found.values()):
        raise MissingInput(f"transfer_matrix.csv: no model trained with {' or '.join(wanted)}")
    if supervision != "best":
        return {quadrant: formats[0] for quadrant, formats in found.items() if formats}
    overall = results.table("overall_task_results.csv")

    def success(quadrant: str, supervised: str) -> float:
        value = number(only(overall, model=f"{quadrant}_{supervised}"), "success_rate")
        return -1.0 if value is None else value

    return {
        quadrant: max(formats, key=lambda each, of=quadrant: success(of, each))  # type: ignore[misc]
        for quadrant, formats in found.items()
        if formats
    }
