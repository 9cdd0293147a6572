"""Choosing one value of a setting for each method from short probes, and saying how sure that is.

Pure: scored probes in, choices out. Knows means over probe seeds, their standard errors, the ends
of a grid and how to go beyond them. Refuses to let a value win whose probes did not all finish.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cupel.errors import DataError
from cupel.stats.intervals import Interval, mean_of, sd_of, student_interval
from cupel.stats.samples import FloatArray

Select = Literal["within_1se", "seed"]
Side = Literal["below", "above"]
State = Literal["scored", "diverged", "unscored"]

RESAMPLES = 10_000
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one probe showed; None is missing.

    Attributes:
        status: `ok` only for a probe that came to its end and has a score.
        failure: kind of the failure (`algorithmic`, `gate`, `infrastructure`), None without one.
        score: the declared endpoint, e.g. the correct rate over the last half of the steps.
        final_running_correct_rate: the cumulative rate in the last row.
    """

    algorithm: str
    value: float
    seed: int
    status: Literal["ok", "failed", "incomplete"]
    failure: str | None = None
    score: float | None = None
    final_correct_rate: float | None = None
    final_running_correct_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSummary:
    """One value of the grid for one algorithm, over its probe seeds.

    Attributes:
        state: `scored` when every probe is ok; `diverged` when one failed by the method's own
            doing; `unscored` when one is missing or was stopped by something else.
        mean, se, interval: of the score; se and interval need two seeds.
        running: mean of the final cumulative rates.
        rank_probability: share of bootstrap resamples of the seeds in which this value is best;
            None with a single seed.
        within_1se: whether it is in the set of values within one standard error of the best.
    """

    algorithm: str
    value: float
    state: State
    seeds: int
    mean: float | None = None
    se: float | None = None
    interval: Interval | None = None
    running: float | None = None
    rank_probability: float | None = None
    within_1se: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The value chosen for one algorithm.

    Attributes:
        value: None when no value of the grid could be scored.
        level: what it was chosen by: the mean score, or the mean final cumulative rate.
        edges: ends of the grid that the choice, or the set it was taken from, touches.
        values: every value of the grid, in grid order.
        warnings: what a reader must know before using the choice.
    """

    algorithm: str
    value: float | None
    level: float | None
    select: Select
    edges: tuple[Side, ...]
    values: tuple[ValueSummary, ...]
    warnings: tuple[str, ...]

    @property
    def grid(self) -> tuple[float, ...]:
        """The values tried, in ascending order."""
        return tuple(sorted(one.value for one in self.values))


def choose(probes: Sequence[Probe], *, select: Select, rng: np.random.Generator) -> list[Choice]:
    """Choose a value for every algorithm, in order of appearance.

    Under `within_1se` the choice is the middle, on the log scale, of the values whose mean score
    is within one standard error of the best; of two equally near the middle, the lower. With one
    probe seed the standard error is unknown: the best score wins, and a warning says so. Under
    `seed` the highest mean final cumulative rate wins, and of equals the first in the grid.

    Raises:
        DataError: two probes of an algorithm share value and seed.
    Source: Breiman et al. 1984, section 3.4.3 (the one-standard-error rule).
    """
    algorithms = dict.fromkeys(probe.algorithm for probe in probes)
    return [
        _choose_one([p for p in probes if p.algorithm == name], select=select, rng=rng)
        for name in algorithms
    ]


def extension(
    choices: Sequence[Choice], *, declared: Sequence[float], extend: int
) -> list[tuple[str, float]]:
    """Return the (algorithm, value) probes to add because a choice touches an end of its grid.

    The grid goes on by the ratio of its last two values, to three digits. Every algorithm gets
    the new value, so that grids stay equal, except one whose own end diverged or has no score:
    beyond it there is nothing to find, or nothing to build on. At most `extend` values are added
    at each end.
    """
    added: dict[tuple[str, float], None] = {}
    for side in ("below", "above"):
        wanted = dict.fromkeys(
            value
            for choice in choices
            if side in choice.edges
            and (value := _next_value(choice, side, declared=declared, extend=extend)) is not None
        )
        for value in wanted:
            for choice in choices:
                if value not in choice.grid and _is_open(choice, side):
                    added[(choice.algorithm, value)] = None
    return list(added)


def _choose_one(probes: Sequence[Probe], *, select: Select, rng: np.random.Generator) -> Choice:
    summaries = _summaries(probes, rng=rng)
    scored = [one for one in summaries if one.state == "scored"]
    name, warnings = probes[0].algorithm, []
    if not scored:
        text = f"{name}: no value of the grid could be scored; none is chosen"
        return _choice(name, None, None, select, (), summaries, [text])
    if select == "seed":
        best = max(scored, key=lambda one: -math.inf if one.running is None else one.running)
        chosen, near = best, [best]
    else:
        near = [one for one in scored if one.within_1se]
        chosen = _middle(near)
        if chosen.se is None:
            warnings.append(
                f"{name}: one probe seed, so the standard error is unknown; the best score was "
                "taken, and chance may have ranked it"
            )
    edges = _edges(summaries, near)
    warnings += [_edge_warning(chosen, summaries, side) for side in edges]
    level = chosen.running if select == "seed" else chosen.mean
    return _choice(name, chosen.value, level, select, edges, summaries, warnings)


def _edge_warning(chosen: ValueSummary, values: Sequence[ValueSummary], side: Side) -> str:
    beyond = any(
        one.value < chosen.value if side == "below" else one.value > chosen.value for one in values
    )
    what = "the values within one standard error of the best reach" if beyond else "the choice is"
    end = "lower" if side == "below" else "upper"
    return (
        f"{chosen.algorithm}: edge_of_grid: {what} the {end} end of the grid; a better value may "
        f"lie {side} it"
    )


def _choice(
    algorithm: str,
    value: float | None,
    level: float | None,
    select: Select,
    edges: tuple[Side, ...],
    values: Sequence[ValueSummary],
    warnings: Sequence[str],
) -> Choice:
    diverged = [one for one in values if one.state == "diverged"]
    if diverged:
        listed = ", ".join(repr(one.value) for one in diverged)
        warnings = [*warnings, f"{algorithm}: diverged at {listed}; these values cannot be chosen"]
    return Choice(
        algorithm=algorithm,
        value=value,
        level=level,
        select=select,
        edges=edges,
        values=tuple(values),
        warnings=tuple(warnings),
    )


def _summaries(probes: Sequence[Probe], *, rng: np.random.Generator) -> list[ValueSummary]:
    by_value: dict[float, list[Probe]] = {}
    for probe in probes:
        cell = by_value.setdefault(probe.value, [])
        if any(other.seed == probe.seed for other in cell):
            raise DataError(
                f"two probes of {probe.algorithm} at {probe.value!r} have seed {probe.seed}"
            )
        cell.append(probe)
    planned = {probe.seed for probe in probes}
    states = {value: _state(cell, planned) for value, cell in by_value.items()}
    scores = {
        value: np.array([_score(p) for p in sorted(cell, key=lambda p: p.seed)])
        for value, cell in by_value.items()
        if states[value] == "scored"
    }
    ranks = _rank_probabilities(scores, rng=rng)
    near = _near_best(scores)
    return [
        ValueSummary(
            algorithm=cell[0].algorithm,
            value=value,
            state=states[value],
            seeds=len(cell),
            mean=mean_of(scores[value]) if value in scores else None,
            se=_standard_error(scores.get(value)),
            interval=student_interval(scores[value]) if value in scores else None,
            running=_mean_running(cell),
            rank_probability=ranks.get(value),
            within_1se=value in near,
        )
        for value, cell in by_value.items()
    ]


def _state(cell: Sequence[Probe], planned: set[int]) -> State:
    if any(probe.failure == "algorithmic" for probe in cell):
        return "diverged"
    whole = {probe.seed for probe in cell} == planned
    return "scored" if whole and all(probe.status == "ok" for probe in cell) else "unscored"


def _score(probe: Probe) -> float:
    if probe.score is None or not math.isfinite(probe.score):
        raise DataError(
            f"probe of {probe.algorithm} at {probe.value!r}, seed {probe.seed}: score "
            f"{probe.score!r}; a probe that is ok has a finite one"
        )
    return probe.score


def _standard_error(scores_S: FloatArray | None) -> float | None:
    if scores_S is None or len(scores_S) < 2:
        return None
    return sd_of(scores_S) / math.sqrt(len(scores_S))


def _mean_running(cell: Sequence[Probe]) -> float | None:
    found = [p.final_running_correct_rate for p in cell]
    known = [value for value in found if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(cell) else None


def _near_best(scores: Mapping[float, FloatArray]) -> set[float]:
    """Return the values within one standard error of the best; the best alone with one seed."""
    if not scores:
        return set()
    means = {value: mean_of(scores_S) for value, scores_S in scores.items()}
    best = max(means, key=lambda value: means[value])
    error = _standard_error(scores[best])
    if error is None:
        return {best}
    reach = means[best] - error - _ROUNDING
    return {value for value, mean in means.items() if mean >= reach}


def _rank_probabilities(
    scores: Mapping[float, FloatArray], *, rng: np.random.Generator
) -> dict[float, float]:
    """Resample whole seeds: the probes of a seed share their problems, so they stay together."""
    if not scores or len(next(iter(scores.values()))) < 2:
        return {}
    scores_VS = np.array(list(scores.values()))
    seeds = scores_VS.shape[1]
    weights_BS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    means_BV = weights_BS @ scores_VS.T / seeds
    best_BV = means_BV >= means_BV.max(axis=1, keepdims=True) - _ROUNDING
    shares_V = (best_BV / best_BV.sum(axis=1, keepdims=True)).mean(axis=0)
    return {value: float(share) for value, share in zip(scores, shares_V, strict=True)}


def _middle(near: Sequence[ValueSummary]) -> ValueSummary:
    logs = [math.log(one.value) for one in near]
    middle = (min(logs) + max(logs)) / 2
    return min(near, key=lambda one: (round(abs(math.log(one.value) - middle), 9), one.value))


def _edges(values: Sequence[ValueSummary], near: Sequence[ValueSummary]) -> tuple[Side, ...]:
    """Say which ends are touched; a diverged value beyond is an answer, a missing one is none."""
    known = [one.value for one in values if one.state != "unscored"]
    sides: list[Side] = []
    if min(one.value for one in near) == min(known):
        sides.append("below")
    if max(one.value for one in near) == max(known):
        sides.append("above")
    return tuple(sides)


def _is_open(choice: Choice, side: Side) -> bool:
    end = (min if side == "below" else max)(choice.values, key=lambda one: one.value)
    return end.state == "scored"


def _next_value(
    choice: Choice, side: Side, *, declared: Sequence[float], extend: int
) -> float | None:
    grid = choice.grid
    beyond = [v for v in grid if (v < min(declared) if side == "below" else v > max(declared))]
    if len(grid) < 2 or len(beyond) >= extend or not _is_open(choice, side):
        return None
    end, neighbour = (grid[0], grid[1]) if side == "below" else (grid[-1], grid[-2])
    exact = end * (end / neighbour)
    rounded = (float(f"{exact:.{digits}g}") for digits in (3, 6, 12))
    return next((v for v in rounded if (v < end if side == "below" else v > end)), None)
