"""One number per run: the endpoint over its window of steps, and what stands for a failed run.

Knows step values, windows and the failure policy. Refuses to know row positions, to pad a
missing step with zero, and to drop a run because of how it ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cupel.analysis.completions import GENERATIONS, read_completions
from cupel.config import did_you_mean
from cupel.errors import DataError
from cupel.lab.store import RunRecord
from cupel.lab.study import Endpoint

Origin = Literal["observed", "carried_forward", "worst", "none"]
EVALUATION_PREFIX = "eval/"


class MetricMissing(DataError):
    """A run's files are sound but do not hold the metric that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A metric of one run by step; None is missing. `source` names the stream it was read from."""

    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The endpoint of one run.

    Attributes:
        value: the number, or None when the run has no outcome (yet).
        origin: `observed`; `carried_forward` or `worst` for a run that failed by its own doing;
            `none` for a run that is planned, running, missing or was stopped by the machine.
        steps: rows of the window that hold a value.
        missing: rows of the window that hold none.
        last_step: last step logged, None when nothing was.
        source: the stream read.
    """

    run: RunRecord
    value: float | None
    origin: Origin
    steps: int
    missing: int
    last_step: int | None
    source: str | None

    @property
    def failed(self) -> bool:
        """Say whether the run failed by its own doing."""
        return self.origin in ("carried_forward", "worst")


def is_finished(run: RunRecord) -> bool:
    """Say whether a run has come to its end; folders of earlier systems count as finished."""
    return run.status in ("done", "unknown")


def failed_by_itself(run: RunRecord) -> bool:
    """Say whether a run's failure is an outcome of the method.

    The machine's failures are none, and neither is a gate's refusal: it says that the run could
    not be trusted, not that the method did badly.
    """
    return run.status == "failed" and (run.failure or {}).get("kind") == "algorithmic"


def read_series(run: RunRecord, metric: str) -> Series:
    """Read a metric by step: `eval/<key>` from evaluations.jsonl, else from the training rows.

    Looks in metrics.jsonl, then emergence/steps.jsonl, then (for `correct_rate` and
    `mean_reward`) counts emergence/generations.jsonl, and says in `source` which it was.

    Raises:
        DataError: no stream holds the metric, or a value is no number.
    """
    if metric.startswith(EVALUATION_PREFIX):
        key = metric.removeprefix(EVALUATION_PREFIX)
        return _from_rows(run, "evaluations.jsonl", key)
    seen: list[str] = []
    for stream in ("metrics.jsonl", "emergence/steps.jsonl"):
        if not run.has(stream):
            continue
        rows = run.rows(stream)
        keys = {key for row in rows for key in row}
        if metric in keys or (metric == "correct_rate" and "correct_count" in keys):
            return _from_rows(run, stream, metric)
        seen.extend(sorted(keys))
    if run.has(GENERATIONS) and metric in ("correct_rate", "mean_reward"):
        return _from_completions(run, metric)
    hint = did_you_mean(metric, seen) if seen else "the run has written no steps"
    raise MetricMissing(f"{run.folder}: no metric '{metric}'; {hint}")


def _from_rows(run: RunRecord, stream: str, key: str) -> Series:
    rows = run.rows(stream)
    keys = sorted({name for row in rows for name in row})
    if rows and key not in keys and not (key == "correct_rate" and "correct_count" in keys):
        raise MetricMissing(f"{run.folder / stream}: no metric '{key}'; {did_you_mean(key, keys)}")
    by_step: dict[int, float | None] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{run.folder / stream}:{number}"
        step = row.get("step")
        if not isinstance(step, int) or isinstance(step, bool):
            raise DataError(f"{where}: step is {step!r}; expected a whole number")
        if step in by_step:
            raise DataError(f"{where}: step {step} comes twice")
        by_step[step] = _value(row, key, where)
    steps = sorted(by_step)
    return Series(steps=tuple(steps), values=tuple(by_step[step] for step in steps), source=stream)


def _value(row: dict[str, Any], key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None and key == "correct_rate" and key not in row:
        correct, total = row.get("correct_count"), row.get("total_count")
        return correct / total if correct is not None and total else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: {key} is {value!r}; expected a number or null")
    return float(value)


def _from_completions(run: RunRecord, metric: str) -> Series:
    completions = read_completions(run)
    if completions is None:
        raise MetricMissing(f"{run.folder / GENERATIONS}: holds no completions")
    values = completions.correct_C if metric == "correct_rate" else completions.reward_C
    steps, step_P = np.unique(completions.step_P, return_inverse=True)
    known = ~np.isnan(values)
    step_C, count_C = step_P[completions.prompt_C[known]], completions.count_C[known]
    total_S = np.bincount(step_C, weights=values[known] * count_C, minlength=len(steps))
    count_S = np.bincount(step_C, weights=count_C, minlength=len(steps))
    means = [t / n if n else None for t, n in zip(total_S.tolist(), count_S.tolist(), strict=True)]
    return Series(steps=tuple(steps.tolist()), values=tuple(means), source=GENERATIONS)


def window(over: str, steps: Sequence[int], *, evaluation: bool) -> Callable[[int], bool]:
    """Return the rule that says which steps a window holds, by step value.

    `last 20%` of training steps 0..19 is 16..19; of evaluations after 0, 10, ..., 100 updates it
    is those after more than 80. `steps 400:500` holds 400 up to and without 500.
    """
    if over == "all" or not steps:
        return lambda step: True
    first, last = min(steps), max(steps)
    if over == "last":
        return lambda step: step == last
    if over.startswith("steps "):
        start, stop = map(int, over.removeprefix("steps ").split(":"))
        return lambda step: start <= step < stop
    percent = int(over.removeprefix("last ").removesuffix("%"))
    span = max(last, 1) if evaluation else last - first + 1
    return lambda step: (last - step) * 100 < percent * span or step == last


def observe(run: RunRecord, endpoint: Endpoint) -> Outcome:
    """Return the endpoint of a finished run.

    Raises:
        DataError: the metric or the window holds no value; a finished run must have one.
    """
    series = read_series(run, endpoint.metric)
    inside = window(endpoint.over, series.steps, evaluation=_is_evaluation(endpoint))
    values = [v for s, v in zip(series.steps, series.values, strict=True) if inside(s)]
    found = [v for v in values if v is not None]
    if not found:
        logged = f"steps {series.steps[0]} to {series.steps[-1]}" if series.steps else "no step"
        raise MetricMissing(
            f"{run.folder}: {endpoint.metric} has no value over '{endpoint.over}'; "
            f"{series.source} holds {logged}"
        )
    return Outcome(
        run=run,
        value=math.fsum(found) / len(found),
        origin="observed",
        steps=len(found),
        missing=len(values) - len(found),
        last_step=series.steps[-1],
        source=series.source,
    )


def outcome_of_failure(
    run: RunRecord,
    endpoint: Endpoint,
    *,
    planned_steps: Sequence[int],
    failure: Literal["carry_forward", "worst"],
    failure_value: float,
) -> Outcome:
    """Return what stands for a run that failed by its own doing.

    `carry_forward` fills the unlogged steps of the planned window with the last logged value; a
    run that failed before it logged one takes `failure_value`.

    Raises:
        DataError: a stream of the run is damaged.
    """
    series = _series_or_nothing(run, endpoint.metric)
    logged = [v for v in series.values if v is not None]
    last_step = series.steps[-1] if series.steps else None
    if failure == "worst" or not logged:
        return Outcome(
            run=run,
            value=failure_value,
            origin="worst",
            steps=0,
            missing=0,
            last_step=last_step,
            source=series.source,
        )
    inside = window(
        endpoint.over, planned_steps or series.steps, evaluation=_is_evaluation(endpoint)
    )
    known = dict(zip(series.steps, series.values, strict=True))
    wanted = [step for step in (planned_steps or series.steps) if inside(step)]
    present = [value for step in wanted if (value := known.get(step)) is not None]
    carried = [logged[-1]] * sum(step not in known for step in wanted)
    filled = [*present, *carried] or [logged[-1]]
    return Outcome(
        run=run,
        value=math.fsum(filled) / len(filled),
        origin="carried_forward",
        steps=len(present),
        missing=len(carried),
        last_step=last_step,
        source=series.source,
    )


def outcomes(
    runs: Sequence[RunRecord],
    endpoint: Endpoint,
    *,
    failure: Literal["carry_forward", "worst"] = "carry_forward",
    failure_value: float = 0.0,
) -> list[Outcome]:
    """Return the endpoint of every run, in order; none is left out.

    The steps a failed run should have reached are those the finished runs have.

    Raises:
        DataError: no run is finished, or a finished run lacks the endpoint.
    """
    observed = {id(run): observe(run, endpoint) for run in runs if is_finished(run)}
    if not observed:
        states = ", ".join(sorted({run.status for run in runs})) or "there are none"
        raise DataError(f"no finished run to judge (states: {states}); run the study first")
    planned: set[int] = set()
    if any(failed_by_itself(run) for run in runs):
        for outcome in observed.values():
            planned.update(read_series(outcome.run, endpoint.metric).steps)
    results = []
    for run in runs:
        if id(run) in observed:
            results.append(observed[id(run)])
        elif failed_by_itself(run):
            results.append(
                outcome_of_failure(
                    run,
                    endpoint,
                    planned_steps=sorted(planned),
                    failure=failure,
                    failure_value=failure_value,
                )
            )
        else:
            results.append(_no_outcome(run))
    return results


def _no_outcome(run: RunRecord) -> Outcome:
    return Outcome(
        run=run, value=None, origin="none", steps=0, missing=0, last_step=None, source=None
    )


def _series_or_nothing(run: RunRecord, metric: str) -> Series:
    """Read what a failed run logged, which may be nothing at all."""
    stream = "evaluations.jsonl" if metric.startswith(EVALUATION_PREFIX) else "metrics.jsonl"
    if not run.has(stream) or not run.rows(stream):
        return Series(steps=(), values=(), source=stream)
    return read_series(run, metric)


def _is_evaluation(endpoint: Endpoint) -> bool:
    return endpoint.metric.startswith(EVALUATION_PREFIX)
