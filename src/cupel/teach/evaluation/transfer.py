"""Comparisons of models on the same starts: paired, clustered by task, corrected over a family.

Pure. Knows values by start and the task of each start. Refuses to compare what was not measured
on both sides, and to treat failure states of one task as independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cupel.stats.clustered import clustered_mean
from cupel.stats.intervals import clopper_pearson, wilson
from cupel.stats.multiplicity import holm
from cupel.stats.permutation import sign_flip_floor
from cupel.stats.proportions import mcnemar

By = Mapping[str, float]
"""A value by start: 1.0 or 0.0 for a success, a probability, a mean over training seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A mean over starts with its 95 % interval; all None where nothing was measured.

    Attributes:
        n: starts; clusters: their tasks.
    """

    n: int
    clusters: int
    mean: float | None
    lo: float | None
    hi: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A model less BASE on the starts that both have.

    Attributes:
        lo, hi, p: Student's t clustered by task. Where every difference is the same there is no
            error to estimate: the interval is then the exact bound on the share of tasks that
            could differ from it (successes only, else None), and p is 1 for no difference at all,
            otherwise the smallest that so many tasks can give by sign flips.
        p_mcnemar: exact, on successes alone, as if starts were independent; None for values that
            are no successes.
    """

    n: int
    clusters: int
    delta: float | None
    lo: float | None
    hi: float | None
    p: float | None
    p_mcnemar: float | None


NOTHING = Paired(n=0, clusters=0, delta=None, lo=None, hi=None, p=None, p_mcnemar=None)
"""The contrast where nothing was measured on both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagonal:
    """Own quadrant less other quadrants, pooled over the matrix.

    Attributes:
        columns: quadrants evaluated on that have models of their own and of others.
        balanced: every quadrant is a column and trained equally many models, so that neither an
            easy column nor a strong model enters the contrast.
    """

    columns: int
    n: int
    clusters: int
    diagonal: float | None
    off_diagonal: float | None
    delta: float | None
    lo: float | None
    hi: float | None
    p: float | None
    balanced: bool


def rate(values: By, task_of: Mapping[str, str], *, binary: bool = True) -> Rate:
    """Return the mean of values in [0, 1] with its interval, clustered by task.

    With one start a task and values of 0 and 1 the interval is Wilson's; so it is, over tasks,
    where nothing varies.
    """
    starts = sorted(values)
    n, tasks = len(starts), {task_of[start] for start in starts}
    if not starts:
        return Rate(n=0, clusters=0, mean=None, lo=None, hi=None)
    given = [values[start] for start in starts]
    mean = math.fsum(given) / n
    whole = binary and _are_successes(given)
    if whole and len(tasks) == n:
        interval = wilson(int(sum(given)), n)
        return Rate(n=n, clusters=n, mean=mean, lo=interval.low, hi=interval.high)
    if len(tasks) > 1:
        found = clustered_mean(given, _numbers([task_of[start] for start in starts])).interval
        if found is not None:
            lo, hi = max(0.0, found.low), min(1.0, found.high)
            return Rate(n=n, clusters=len(tasks), mean=mean, lo=lo, hi=hi)
    if whole and mean in (0.0, 1.0):
        interval = wilson(round(mean * len(tasks)), len(tasks))
        return Rate(n=n, clusters=len(tasks), mean=mean, lo=interval.low, hi=interval.high)
    return Rate(n=n, clusters=len(tasks), mean=mean, lo=None, hi=None)


def paired(model: By, base: By, task_of: Mapping[str, str]) -> Paired:
    """Compare a model with BASE on the starts that both have."""
    starts = sorted(set(model) & set(base))
    differences = [model[start] - base[start] for start in starts]
    n, clusters = len(starts), len({task_of[start] for start in starts})
    if not starts:
        return NOTHING
    delta = math.fsum(differences) / n
    lo = hi = p = None
    if clusters > 1:
        found = clustered_mean(differences, _numbers([task_of[start] for start in starts]))
        if found.interval is not None:
            lo, hi, p = found.interval.low, found.interval.high, found.p
        else:
            if _are_successes([*model.values(), *base.values()]):
                lo, hi = _bound_of_equals(differences[0], clusters)
            p = 1.0 if differences[0] == 0 else sign_flip_floor(clusters)
    return Paired(
        n=n,
        clusters=clusters,
        delta=delta,
        lo=lo,
        hi=hi,
        p=p,
        p_mcnemar=_mcnemar([model[s] for s in starts], [base[s] for s in starts]),
    )


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p-values; what was not tested is no member of the family."""
    at = [number for number, p in enumerate(p_values) if p is not None]
    found: list[float | None] = [None] * len(p_values)
    if at:
        kept = [p for p in p_values if p is not None]
        for number, p in zip(at, holm(kept).tolist(), strict=True):
            found[number] = p
    return found


def diagonal(
    values: Mapping[str, By],
    own: Mapping[str, str],
    quadrant_of: Mapping[str, str],
    task_of: Mapping[str, str],
) -> Diagonal:
    """Ask whether models do better where they were trained than elsewhere.

    In every column (quadrant evaluated on), the mean of the models trained on it less the mean of
    the others; then the mean over columns. BASE cancels within a column. The error is that of a
    linear contrast of cell means with residuals summed by task.

    Args:
        values: success by start, by model.
        own: the quadrant that each model was trained on; others are left out.
        quadrant_of: of every start.

    Source: Liang & Zeger 1986 (clustered error), Student's t on one fewer than the tasks.
    """
    cells = _cells({name: values[name] for name in own if name in values}, quadrant_of)
    columns = _columns(cells, own)
    weights = _weights(cells, own, columns)
    means = {key: math.fsum(cells[key].values()) / len(cells[key]) for key in weights}
    parts = {key: weight * means[key] for key, weight in weights.items()}
    inside = math.fsum(part for key, part in parts.items() if weights[key] > 0)
    outside = -math.fsum(part for key, part in parts.items() if weights[key] < 0)
    residuals: dict[str, float] = {}
    for key, weight in weights.items():
        for start, value in cells[key].items():
            part = weight * (value - means[key]) / len(cells[key])
            residuals[task_of[start]] = residuals.get(task_of[start], 0.0) + part
    error, clusters = _clustered_error(residuals), len(residuals)
    half = float(stats.t.isf(0.025, clusters - 1)) * error if error else 0.0
    delta = inside - outside
    trained = [sum(quadrant == column for quadrant in own.values()) for column in columns]
    return Diagonal(
        columns=len(columns),
        n=sum(len(cells[key]) for key in weights),
        clusters=clusters,
        diagonal=inside if columns else None,
        off_diagonal=outside if columns else None,
        delta=delta if columns else None,
        lo=delta - half if error else None,
        hi=delta + half if error else None,
        p=float(2 * stats.t.sf(abs(delta) / error, clusters - 1)) if error else None,
        balanced=len(set(trained)) == 1 and set(own.values()) == set(columns),
    )


def _columns(cells: Iterable[tuple[str, str]], own: Mapping[str, str]) -> list[str]:
    """Return the quadrants that models of their own and of others were evaluated on."""
    kinds: dict[str, set[bool]] = {}
    for name, column in cells:
        kinds.setdefault(column, set()).add(own[name] == column)
    return sorted(column for column, kind in kinds.items() if len(kind) == 2)


def _weights(
    cells: Iterable[tuple[str, str]], own: Mapping[str, str], columns: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Return each cell's weight in the contrast; they sum to 0 in every column."""
    weights: dict[tuple[str, str], float] = {}
    for column in columns:
        here = [key for key in cells if key[1] == column]
        n_own = sum(own[name] == column for name, _ in here)
        for name, _ in here:
            share = 1 / n_own if own[name] == column else -1 / (len(here) - n_own)
            weights[name, column] = share / len(columns)
    return weights


def _clustered_error(residuals: Mapping[str, float]) -> float:
    """Return the standard error from residuals summed by task; 0.0 where nothing varies."""
    g = len(residuals)
    if g < 2:
        return 0.0
    error = math.sqrt(g / (g - 1) * math.fsum(each * each for each in residuals.values()))
    return error if error > 1e-12 else 0.0


def _cells(
    values: Mapping[str, By], quadrant_of: Mapping[str, str]
) -> dict[tuple[str, str], dict[str, float]]:
    """Return the values of every (model, quadrant evaluated on) that has any."""
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for name, by_start in values.items():
        for start, value in by_start.items():
            if start in quadrant_of:
                cells.setdefault((name, quadrant_of[start]), {})[start] = value
    return cells


def _are_successes(values: Iterable[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)


def _bound_of_equals(difference: float, clusters: int) -> tuple[float, float]:
    """Return what a difference that is the same in all tasks leaves possible.

    At most a share u of all tasks could be otherwise (Clopper-Pearson, 0 of so many), by one
    success each where nothing differed, by two where everything did.

    >>> [round(end, 3) for end in _bound_of_equals(0.0, 100)]
    [-0.036, 0.036]
    """
    u = clopper_pearson(0, clusters).high
    if difference == 0:
        return -u, u
    return (1 - 2 * u, 1.0) if difference > 0 else (-1.0, 2 * u - 1)


def _mcnemar(model: Sequence[float], base: Sequence[float]) -> float | None:
    if not _are_successes([*model, *base]):
        return None
    pairs = list(zip(model, base, strict=True))
    return mcnemar(
        sum(b > m for m, b in pairs),
        sum(m > b for m, b in pairs),
    ).p


def _numbers(tasks: Iterable[str]) -> np.ndarray:
    """Return one integer a task."""
    return np.unique(np.array(list(tasks)), return_inverse=True)[1].astype(np.int64)
