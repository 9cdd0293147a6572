"""Evaluations of checkpoints as tables: every rate with its interval and the problems behind it.

Pure. Knows rates and differences of `cupel.rlvr.evaluation_rates`. Refuses to show a rate without
its n, and to leave ungradable completions out of sight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cupel.report.formats import p_text
from cupel.report.tables import Cell, Column, Estimate, Table
from cupel.rlvr.evaluation_rates import (
    By,
    Difference,
    ProblemScore,
    Rate,
    groups,
    metrics_of,
    paired_differences,
    rates,
)

NAMES: Mapping[str, str] = {"greedy_accuracy": "greedy accuracy"}
NOT_GIVEN = "not given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One evaluation that was read back.

    Attributes:
        step: updates that the weights had.
        seed: of its samples.
    """

    name: str
    step: int
    seed: int
    scores: Sequence[ProblemScore]
    pass_at: tuple[int, ...]


def curve_table(evaluations: Sequence[Evaluated]) -> Table:
    """Return one row an evaluation: all its rates over all problems."""
    shown = _shared_metrics(evaluations)
    rows = tuple(
        (one.name, one.step, *_rate_cells(rates(one.scores, one.pass_at), shown))
        for one in evaluations
    )
    columns = (Column(name="evaluated"), Column(name="step", unit="count"), *_columns(shown))
    return Table(title=_title("Held-out problems"), columns=columns, rows=rows)


def group_table(evaluation: Evaluated, by: By) -> Table:
    """Return one row a subject or level of one evaluation."""
    shown = metrics_of(evaluation.scores, evaluation.pass_at)
    rows = tuple(
        (_label(label), *_rate_cells(rates(members, evaluation.pass_at), shown))
        for label, members in groups(evaluation.scores, by).items()
    )
    return Table(
        title=_title(f"{evaluation.name} by {by}"),
        columns=(Column(name=by), *_columns(shown)),
        rows=rows,
    )


def difference_table(baseline: Evaluated, candidate: Evaluated, by: By = "all") -> Table:
    """Return what the candidate has right beyond the baseline, on the same problems.

    Raises:
        DataError: the problems differ.
    """
    pass_at = tuple(k for k in baseline.pass_at if k in candidate.pass_at)
    theirs, ours = groups(baseline.scores, by), groups(candidate.scores, by)
    rows: list[tuple[Cell, ...]] = []
    for label in dict.fromkeys([*theirs, *ours]):
        b, c = theirs.get(label, []), ours.get(label, [])
        found = paired_differences(b, c, pass_at)
        first = {rate.metric: rate for rate in rates(b, pass_at)}
        second = {rate.metric: rate for rate in rates(c, pass_at)}
        head = () if by == "all" else (_label(label),)
        rows += [(*head, *_difference_cells(d, first[d.metric], second[d.metric])) for d in found]
    columns = (
        *(() if by == "all" else (Column(name=by),)),
        Column(name="rate"),
        Column(name="A", unit="rate"),
        Column(name="B", unit="rate"),
        Column(name="B − A", unit="rate", signed=True),
        Column(name="p"),
        Column(name="only A right", unit="count"),
        Column(name="only B right", unit="count"),
    )
    title = _title(f"B − A{'' if by == 'all' else f' by {by}'}, problem by problem")
    return Table(title=title, columns=columns, rows=tuple(rows))


def _shared_metrics(evaluations: Sequence[Evaluated]) -> list[str]:
    names = [metrics_of(one.scores, one.pass_at) for one in evaluations]
    return list(dict.fromkeys(name for own in names for name in own))


def _columns(metrics: Sequence[str]) -> list[Column]:
    named = [Column(name=NAMES.get(metric, metric), unit="rate") for metric in metrics]
    return [*named, Column(name="ungradable")]


def _rate_cells(found: Sequence[Rate], metrics: Sequence[str]) -> list[Cell]:
    by_name = {rate.metric: rate for rate in found}
    accuracy = by_name["accuracy"]
    lost = f"{accuracy.ungradable_count} of {accuracy.completions} completions"
    return [*(_estimate(by_name.get(metric)) for metric in metrics), lost]


def _difference_cells(found: Difference, baseline: Rate, candidate: Rate) -> list[Cell]:
    return [
        NAMES.get(found.metric, found.metric),
        _estimate(baseline),
        _estimate(candidate),
        Estimate(mean=found.delta, low=found.low, high=found.high, n=found.problems),
        p_text(found.p),
        found.only_baseline,
        found.only_candidate,
    ]


def _estimate(rate: Rate | None) -> Estimate | None:
    if rate is None:
        return None
    return Estimate(mean=rate.value, low=rate.low, high=rate.high, n=rate.problems)


def _label(label: str | None) -> str:
    return NOT_GIVEN if label is None else label


def _title(what: str) -> str:
    return f"{what} [95 % interval for new problems] (n = problems)"
