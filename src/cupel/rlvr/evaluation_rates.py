"""From outcomes of held-out problems to rates with intervals, and to paired differences.

Pure. Knows counts by problem: the problem is the unit of every interval, because completions of
one problem are not independent. Refuses to compare evaluations of different problems, and to say
anything of the spread between training runs, which these rows do not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cupel.errors import DataError
from cupel.rlvr.grading import Outcome
from cupel.stats.clustered import clustered_mean
from cupel.stats.intervals import Interval, wilson
from cupel.stats.paired_proportions import newcombe_paired
from cupel.stats.pass_at_k import pass_at_k
from cupel.stats.proportions import mcnemar
from cupel.stats.samples import FloatArray

By = Literal["all", "subject", "level"]
ACCURACY, GREEDY = "accuracy", "greedy_accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemScore:
    """What became of one problem: a row of evaluation_problems.jsonl without its step.

    Attributes:
        greedy: outcome of greedy decoding; None when it was not measured.
    """

    problem_id: str
    subject: str | None
    level: str | None
    correct_count: int
    ungradable_count: int
    samples: int
    greedy: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One rate over problems.

    Attributes:
        low, high: 95 % interval for new problems; None where the problems do not vary or are
            fewer than two.
        method: `wilson` where every problem is right or wrong as a whole, else `clustered_t`.
        problems, completions: how many stand behind the value.
        ungradable_count: completions among them without a readable answer; they count as not
            correct.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    method: str | None
    problems: int
    completions: int
    ungradable_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Candidate rate minus baseline rate on the same problems.

    Attributes:
        p: McNemar's exact test where every problem is right or wrong as a whole, else Student's t
            on the problems' differences; None when nothing varies.
        only_baseline, only_candidate: problems that one alone has right; None where a problem is
            no yes or no.
    """

    metric: str
    baseline: float
    candidate: float
    delta: float
    low: float | None
    high: float | None
    method: str | None
    p: float | None
    problems: int
    only_baseline: int | None
    only_candidate: int | None


def score_of(row: Mapping[str, Any], *, where: str) -> ProblemScore:
    """Read a row of evaluation_problems.jsonl.

    Raises:
        DataError: a key is missing, or the counts do not fit each other.
    """
    names = ("problem_id", "subject", "level", "correct_count", "samples")
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(f"{where}: no {', '.join(missing)}; the row is of no evaluated problem")
    right, samples = row["correct_count"], row["samples"]
    if not isinstance(right, int) or not isinstance(samples, int) or not 0 <= right <= samples:
        raise DataError(f"{where}: correct_count {right!r} of samples {samples!r} is no count")
    return ProblemScore(
        problem_id=str(row["problem_id"]),
        subject=row["subject"],
        level=row["level"],
        correct_count=right,
        ungradable_count=int(row.get("ungradable_count", 0)),
        samples=samples,
        greedy=row.get("greedy"),
    )


def metrics_of(scores: Sequence[ProblemScore], pass_at: Sequence[int]) -> list[str]:
    """Return the names of the rates that these rows can give, in the order of the tables."""
    greedy = [GREEDY] if all(score.greedy is not None for score in scores) else []
    return [ACCURACY, *greedy, *(f"pass@{k}" for k in sorted(pass_at))]


def values_of(scores: Sequence[ProblemScore], metric: str) -> FloatArray:
    """Return one rate's value for every problem.

    Raises:
        DataError: greedy decoding was not measured, or k exceeds the samples of a problem.
    """
    right_Q = np.array([score.correct_count for score in scores], dtype=np.int64)
    samples_Q = np.array([score.samples for score in scores], dtype=np.int64)
    if metric == ACCURACY:
        return right_Q / samples_Q
    if metric == GREEDY:
        if any(score.greedy is None for score in scores):
            raise DataError("greedy_accuracy: greedy decoding was not measured on every problem")
        return np.array([float(score.greedy == "correct") for score in scores])
    return pass_at_k(right_Q, samples_Q, int(metric.removeprefix("pass@")))


def rates(
    scores: Sequence[ProblemScore], pass_at: Sequence[int], *, alpha: float = 0.05
) -> list[Rate]:
    """Return every rate of these problems, each with its interval.

    Raises:
        DataError: there is no problem, or k exceeds the samples of a problem.
    """
    if not scores:
        raise DataError("rates: no problem was evaluated; a rate of nothing does not exist")
    return [_rate(scores, metric, alpha) for metric in metrics_of(scores, pass_at)]


def groups(scores: Sequence[ProblemScore], by: By) -> dict[str | None, list[ProblemScore]]:
    """Return the problems of every subject or level, sorted; None: the source does not say.

    >>> groups([], "subject")
    {}
    """
    found: dict[str | None, list[ProblemScore]] = {}
    for score in scores:
        label = None if by == "all" else score.subject if by == "subject" else score.level
        found.setdefault(label, []).append(score)
    return {label: found[label] for label in sorted(found, key=_place)}


def rate_rows(
    scores: Sequence[ProblemScore], pass_at: Sequence[int], *, step: int
) -> list[dict[str, Any]]:
    """Return the rows of evaluation_rates.jsonl: every rate, over all, by subject, by level."""
    kinds: tuple[By, ...] = ("all", "subject", "level")
    return [
        {
            "step": step,
            "by": by,
            "group": label,
            "metric": rate.metric,
            "value": rate.value,
            "low": rate.low,
            "high": rate.high,
            "interval": rate.method,
            "unit": "problem",
            "problems": rate.problems,
            "completions": rate.completions,
            "ungradable_count": rate.ungradable_count,
        }
        for by in kinds
        for label, members in groups(scores, by).items()
        for rate in rates(members, pass_at)
    ]


def paired_differences(
    baseline: Sequence[ProblemScore],
    candidate: Sequence[ProblemScore],
    pass_at: Sequence[int],
    *,
    alpha: float = 0.05,
) -> list[Difference]:
    """Compare two evaluations of the same problems, problem by problem.

    Raises:
        DataError: the problems differ.
    Source: Miller 2024 (arXiv:2411.00640), paired differences; McNemar 1947; Newcombe 1998.
    """
    first = {score.problem_id: score for score in baseline}
    second = {score.problem_id: score for score in candidate}
    refuse_other_problems(list(first), list(second))
    pairs = [(first[name], second[name]) for name in first]
    names = metrics_of([score for pair in pairs for score in pair], pass_at)
    return [_difference([b for b, _ in pairs], [c for _, c in pairs], m, alpha) for m in names]


def refuse_other_problems(baseline: Sequence[str], candidate: Sequence[str]) -> None:
    """Refuse two lists of problem ids that do not name the same problems.

    Raises:
        DataError: says how many each has, and how many they share.
    """
    first, second = set(baseline), set(candidate)
    if first != second:
        raise DataError(
            f"the problems differ: {len(first)} against {len(second)}, {len(first & second)} in "
            "both; evaluate both on the same ones, e.g. with --problems N and "
            "--set problems.source=..."
        )


def _rate(scores: Sequence[ProblemScore], metric: str, alpha: float) -> Rate:
    values_Q = values_of(scores, metric)
    right = sum(score.correct_count for score in scores)
    samples = sum(score.samples for score in scores)
    lost = sum(score.ungradable_count for score in scores)
    if metric == GREEDY:
        samples, lost = len(scores), sum(score.greedy == "ungradable" for score in scores)
    interval = _interval(values_Q, alpha)
    return Rate(
        metric=metric,
        value=right / samples if metric == ACCURACY else float(np.mean(values_Q)),
        low=max(0.0, interval.low) if interval is not None else None,
        high=min(1.0, interval.high) if interval is not None else None,
        method=interval.method if interval is not None else None,
        problems=len(scores),
        completions=samples,
        ungradable_count=lost,
    )


def _interval(values_Q: FloatArray, alpha: float) -> Interval | None:
    if _is_yes_or_no(values_Q):
        return wilson(int(values_Q.sum()), len(values_Q), alpha=alpha)
    if len(values_Q) < 2:
        return None
    return clustered_mean(values_Q, np.arange(len(values_Q)), alpha=alpha).interval


def _difference(
    baseline: Sequence[ProblemScore],
    candidate: Sequence[ProblemScore],
    metric: str,
    alpha: float,
) -> Difference:
    b_Q, c_Q = values_of(baseline, metric), values_of(candidate, metric)
    interval: Interval | None = None
    p: float | None = None
    only_b = only_c = None
    if _is_yes_or_no(b_Q) and _is_yes_or_no(c_Q):
        only_b, only_c = int((b_Q > c_Q).sum()), int((c_Q > b_Q).sum())
        both = int((b_Q * c_Q).sum())
        neither = len(b_Q) - both - only_b - only_c
        interval = newcombe_paired(both, only_b, only_c, neither, alpha=alpha)
        p = mcnemar(only_b, only_c).p
    elif len(b_Q) > 1:
        found = clustered_mean(c_Q - b_Q, np.arange(len(b_Q)), alpha=alpha)
        interval, p = found.interval, found.p
    return Difference(
        metric=metric,
        baseline=float(np.mean(b_Q)),
        candidate=float(np.mean(c_Q)),
        delta=float(np.mean(c_Q - b_Q)),
        low=max(-1.0, interval.low) if interval is not None else None,
        high=min(1.0, interval.high) if interval is not None else None,
        method=interval.method if interval is not None else None,
        p=p,
        problems=len(b_Q),
        only_baseline=only_b,
        only_candidate=only_c,
    )


def _is_yes_or_no(values_Q: FloatArray) -> bool:
    return bool(np.isin(values_Q, (0.0, 1.0)).all())


def _place(label: str | None) -> tuple[bool, float, str]:
    """Sort numbers by size before words, and what is not given last."""
    if label is None:
        return True, 0.0, ""
    number = float(label) if label.isascii() and label.isdigit() else float("inf")
    return False, number, label
