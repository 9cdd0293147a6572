"""What one run shows a litmus test: a value and the evidence behind it for every check.

Knows steps, completions and gram pairs, and how runs are weighted into an arm. Refuses to know
thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cupel.analysis.evidence import Evidence
from cupel.analysis.pairing import seed_of
from cupel.lab.store import RunRecord

CHECKS = ("mean_reward_steps", "overall_correct_rate", "mean_gram_entropy_delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReading:
    """What one run shows: a value and the evidence behind it for every check; None is missing."""

    run: RunRecord
    num_steps: int
    num_generations: int
    gram_pairs: int
    mean_reward_steps: float | None
    overall_correct_rate: float | None
    mean_gram_entropy_delta: float | None
    mean_planning_ratio: float | None
    mean_sepa_lambda: float | None

    def value(self, check: str) -> float | None:
        """Return the value of a check."""
        found: float | None = getattr(self, check)
        return found

    def weight(self, check: str) -> int:
        """Return the amount of evidence behind a check: steps, completions or gram pairs."""
        return {
            "mean_reward_steps": self.num_steps,
            "overall_correct_rate": self.num_generations,
            "mean_gram_entropy_delta": self.gram_pairs,
        }[check]


def read(run: RunRecord, evidence: Evidence) -> RunReading:
    """Read what one run shows, from its steps and completions.

    Raises:
        DataError: a stream is damaged.
    """
    stream = next((s for s in ("emergence/steps.jsonl", "metrics.jsonl") if run.has(s)), None)
    steps = run.rows(stream) if stream is not None else []
    completions, counted = evidence.logged(run).completions, evidence.logged(run).tally
    gram_pairs, gram = _grams(steps)
    if not gram_pairs and completions is not None:
        gram_pairs = completions.gram_pairs
        gram = completions.gram_total / gram_pairs if gram_pairs else None
    return RunReading(
        run=run,
        num_steps=len(steps),
        num_generations=completions.total
        if completions is not None
        else (counted.total if counted is not None else 0),
        gram_pairs=gram_pairs,
        mean_reward_steps=_mean(_known(steps, "mean_reward")),
        overall_correct_rate=counted.correct / counted.total
        if counted is not None and counted.total
        else None,
        mean_gram_entropy_delta=gram,
        mean_planning_ratio=_mean(_known(steps, "planning_token_ratio")),
        mean_sepa_lambda=_mean(_known(steps, "sepa_lambda")),
    )


def _grams(steps: Sequence[dict[str, Any]]) -> tuple[int, float | None]:
    """Return the number of gram pairs and their mean entropy delta, weighted by step."""
    rows = [
        (int(row["gram_entropy_pair_count"]), float(row["gram_entropy_delta"]))
        for row in steps
        if row.get("gram_entropy_pair_count") and row.get("gram_entropy_delta") is not None
    ]
    pairs = sum(count for count, _ in rows)
    return pairs, math.fsum(c * d for c, d in rows) / pairs if pairs else None


def weighted(readings: Sequence[RunReading], check: str) -> float | None:
    """Return the mean over runs, weighted by the evidence behind each."""
    known = [
        (one.weight(check), value)
        for one in readings
        if (value := one.value(check)) is not None and one.weight(check) > 0
    ]
    total = sum(weight for weight, _ in known)
    return math.fsum(weight * value for weight, value in known) / total if total else None


def group(readings: Sequence[RunReading]) -> dict[str, Any]:
    """Return an arm's totals and weighted means."""
    return {
        "run_count": len(readings),
        "total_steps": sum(one.num_steps for one in readings),
        "total_generations": sum(one.num_generations for one in readings),
        "total_gram_pairs": sum(one.gram_pairs for one in readings),
        **{name: weighted(readings, name) for name in CHECKS},
        "mean_planning_ratio": _by_steps(readings, "mean_planning_ratio"),
        "mean_sepa_lambda": _by_steps(readings, "mean_sepa_lambda"),
    }


def _by_steps(readings: Sequence[RunReading], name: str) -> float | None:
    known = [(one.num_steps, value) for one in readings if (value := one.value(name)) is not None]
    total = sum(steps for steps, _ in known)
    return math.fsum(steps * value for steps, value in known) / total if total else None


def row(one: RunReading, evidence: Evidence) -> dict[str, Any]:
    """Return one run as a row of the report."""
    numbers = asdict(one)
    numbers.pop("run")
    return {
        "run_dir": evidence.settings.shown(one.run),
        "seed": seed_of(one.run),
        "status": one.run.status,
        **numbers,
    }


def _known(rows: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [float(row[key]) for row in rows if row.get(key) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
