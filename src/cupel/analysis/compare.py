"""The plain comparison: what each set of runs counted and reached, without a verdict.

Knows counts, means and intervals over runs; a failed run is a row. Refuses to test, and to take
completions for the unit of an interval.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cupel.analysis.contrast import ends
from cupel.analysis.endpoint import MetricMissing, read_series
from cupel.analysis.evidence import (
    Evidence,
    Settings,
    data_notes,
    input_hashes,
    read_arms,
    run_row,
)
from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.lab.store import (
    RunRecord,
    StudyRecord,
    find_runs,
    is_run_folder,
    is_study_folder,
    read_run,
    read_study,
)
from cupel.lab.study import Endpoint
from cupel.stats.intervals import mean_of, sd_of, student_interval

SCHEMA = "cupel.comparison/1"
_SEED = re.compile(r"_s\d+$")
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


def compare_sets(
    paths: Sequence[Path | str], *, endpoint: Endpoint | None = None
) -> dict[str, Any]:
    """Compare any two or more sets of runs, of Cupel or of an earlier system.

    A study folder gives one set a condition (alone, it is compared as it declares); run folders
    are collected by condition, or by their name without the seed; any other folder is one set of
    the runs in it.

    Args:
        endpoint: default: what all studies given declare, else that of `compare_runs`.

    Raises:
        DataError: fewer than two sets, a folder that is mistyped, named twice or damaged, or no
            run is finished.
    """
    if len(paths) == 1 and is_study_folder(Path(paths[0])):
        return _compare_study(read_study(paths[0]), endpoint)
    sets: dict[str, list[RunRecord]] = {}
    declared: list[Endpoint | None] = []
    for path in map(Path, paths):
        found, of_study = _sets_at(path)
        declared.append(of_study)
        for label, runs in found.items():
            sets.setdefault(label, []).extend(runs)
    _refuse_twice(sets)
    if len(sets) < 2:
        held = ", ".join(sets) or "none"
        raise DataError(f"a comparison needs two sets of runs or more; found: {held}")
    agreed = declared[0] if declared and all(one == declared[0] for one in declared) else None
    runs = [run for of_set in sets.values() for run in of_set]
    evidence = Evidence(runs, Settings(endpoint=endpoint or agreed or Endpoint()))
    return comparison_report(sets, evidence, baseline=None, candidate=None)


def _compare_study(record: StudyRecord, endpoint: Endpoint | None) -> dict[str, Any]:
    decision = record.study.decision
    settings = Settings(
        endpoint=endpoint or record.study.endpoint,
        failure=decision.failure,
        failure_value=decision.failure_value,
        root=record.folder,
    )
    sets = {
        label: [run for run in record.runs if run.condition == label]
        for label in record.study.labels
    }
    baseline, candidate = record.study.primary or (None, None)
    evidence = Evidence(record.runs, settings)
    return comparison_report(sets, evidence, baseline=baseline, candidate=candidate)


def _sets_at(path: Path) -> tuple[dict[str, list[RunRecord]], Endpoint | None]:
    """Return the sets of runs at a path, and the endpoint of the study that it holds."""
    if is_study_folder(path):
        record = read_study(path)
        found: dict[str, list[RunRecord]] = {f"{path.name}/{x}": [] for x in record.study.labels}
        for run in record.runs:
            found[f"{path.name}/{run.condition}"].append(run)
        return found, record.study.endpoint
    if is_run_folder(path) or not path.is_dir():
        run = read_run(path)
        return {run.condition or _SEED.sub("", path.name): [run]}, None
    return {path.name: find_runs(path)}, None


def _refuse_twice(sets: Mapping[str, Sequence[RunRecord]]) -> None:
    seen: dict[Path, str] = {}
    for label, runs in sets.items():
        for run in runs:
            place = run.folder.resolve()
            if place in seen:
                raise DataError(
                    f"{run.folder}: named twice (in '{seen[place]}' and '{label}'); "
                    "every run counts once"
                )
            seen[place] = label


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
    hashes = input_hashes(evidence)
    digest = hashlib.sha256(canonical_json(dict(hashes)).encode()).hexdigest()
    report["provenance"] = {"inputs_sha256": hashes, "source_sha256": digest}
    return report


def _condition(label: str, runs: Sequence[RunRecord], evidence: Evidence) -> dict[str, Any]:
    found = [evidence.outcome(run, evidence.settings.endpoint) for run in runs]
    tallies = [evidence.logged(run).tally for run in runs]
    rates = [one.correct / one.total for one in tallies if one is not None and one.total]
    rewards = [
        total / number for number, total in (_rewards(run, evidence) for run in runs) if number
    ]
    return {
        "condition": label,
        **_counted(runs, evidence),
        "runs": len(runs),
        "finished": sum(one.origin == "observed" for one in found),
        "failed": sum(run.status == "failed" for run in runs),
        "endpoint": _over_runs([one.value for one in found if one.value is not None]),
        "per_run": {"correct_rate": _over_runs(rates), "mean_reward": _over_runs(rewards)},
    }


def _over_runs(given: Sequence[float]) -> dict[str, Any]:
    """Return the mean of one value a run, with its t-interval over runs."""
    values = np.array(given)
    interval = student_interval(values) if len(values) > 1 else None
    return {
        "n": len(values),
        "unit": "run",
        "mean": mean_of(values) if len(values) else None,
        "sd": sd_of(values) if len(values) > 1 else None,
        "ci95": ends(interval),
        "ci_method": interval.method if interval is not None else None,
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
