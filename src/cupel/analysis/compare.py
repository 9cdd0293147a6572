"""The plain comparison: what each condition counted and reached, without a verdict.

Knows counts, means and intervals of run endpoints; a failed run is a row. Refuses to test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cupel.analysis.contrast import ends
from cupel.analysis.endpoint import MetricMissing, read_series
from cupel.analysis.evidence import Evidence, Settings, data_notes, read_arms, run_row
from cupel.lab.store import RunRecord
from cupel.lab.study import Endpoint
from cupel.stats.intervals import mean_of, sd_of, student_interval

SCHEMA = "cupel.comparison/1"
COUNTED = ("total_generations", "correct", "correct_rate", "mean_reward", "training_steps")


def compare_runs(
    baseline_run_dirs: Sequence[Path | str],
    candidate_run_dirs: Sequence[Path | str],
    *,
    endpoint: Endpoint | None = None,
) -> dict[str, Any]:
    """Compare two arms: counts, rates, and the endpoint of every run.

    Raises:
        DataError: a folder is mistyped or damaged, or no run is finished.
    """
    arms = read_arms(baseline_run_dirs, candidate_run_dirs)
    conditions = {arms.baseline: arms.baseline_runs, arms.candidate: arms.candidate_runs}
    settings = Settings(endpoint=endpoint or Endpoint())
    evidence = Evidence(arms.runs, settings)
    return comparison_report(conditions, evidence, baseline=arms.baseline, candidate=arms.candidate)


def comparison_report(
    conditions: Mapping[str, Sequence[RunRecord]],
    evidence: Evidence,
    *,
    baseline: str | None,
    candidate: str | None,
) -> dict[str, Any]:
    """Compare any number of conditions; `delta` is candidate minus baseline where both are named.

    Raises:
        DataError: no run is finished, or a file is damaged.
    """
    settings = evidence.settings
    rows = [_condition(label, runs, evidence) for label, runs in conditions.items()]
    arms = {row["condition"]: {name: row[name] for name in COUNTED} for row in rows}
    report: dict[str, Any] = {"schema": SCHEMA, "endpoint": settings.endpoint.metric}
    report["over"] = settings.endpoint.over
    if baseline is not None and candidate is not None:
        b, c = arms[baseline], arms[candidate]
        report |= {
            "baseline": {"label": baseline, **b},
            "candidate": {"label": candidate, **c},
            "delta": {
                name: c[name] - b[name] if b[name] is not None and c[name] is not None else None
                for name in ("correct_rate", "mean_reward")
            },
        }
    report["conditions"] = rows
    report["runs"] = [run_row(run, evidence) for run in evidence.runs]
    report["notes"] = data_notes(evidence)
    return report


def _condition(label: str, runs: Sequence[RunRecord], evidence: Evidence) -> dict[str, Any]:
    found = [evidence.outcome(run, evidence.settings.endpoint) for run in runs]
    values = np.array([one.value for one in found if one.value is not None])
    interval = student_interval(values) if len(values) > 1 else None
    return {
        "condition": label,
        **_counted(runs, evidence),
        "runs": len(runs),
        "finished": sum(one.origin == "observed" for one in found),
        "failed": sum(run.status == "failed" for run in runs),
        "endpoint": {
            "n": len(values),
            "unit": "run",
            "mean": mean_of(values) if len(values) else None,
            "sd": sd_of(values) if len(values) > 1 else None,
            "ci95": ends(interval),
            "ci_method": interval.method if interval is not None else None,
        },
    }


def _counted(runs: Sequence[RunRecord], evidence: Evidence) -> dict[str, Any]:
    tallies = [one for run in runs if (one := evidence.logged(run).tally) is not None]
    correct, total = sum(one.correct for one in tallies), sum(one.total for one in tallies)
    ungradable = sum(one.ungradable for one in tallies)
    rewards = [_rewards(run, evidence) for run in runs]
    weight = sum(number for number, _ in rewards)
    return {
        "total_generations": total,
        "correct": correct,
        "ungradable": ungradable,
        "correct_rate": correct / total if total else None,
        "mean_reward": math.fsum(total for _, total in rewards) / weight if weight else None,
        "training_steps": sum(_steps(run) for run in runs),
    }


def _rewards(run: RunRecord, evidence: Evidence) -> tuple[int, float]:
    """Return number and sum of a run's rewards: of completions, else of steps."""
    completions = evidence.logged(run).completions
    if completions is not None:
        kept = ~np.isnan(completions.reward_C)
        counts = completions.count_C[kept]
        return int(counts.sum()), math.fsum((completions.reward_C[kept] * counts).tolist())
    try:
        values = [value for value in read_series(run, "mean_reward").values if value is not None]
    except MetricMissing:
        return 0, 0.0
    return len(values), math.fsum(values)


def _steps(run: RunRecord) -> int:
    for stream in ("metrics.jsonl", "emergence/steps.jsonl"):
        if run.has(stream):
            return len(run.rows(stream))
    return 0
