"""The litmus test: evidence gates first, then thresholds on the lift of each declared check.

Knows the frozen profile `official_v1` and two readings of a threshold: by interval over seeds
(default) and by point. Refuses to confirm what the evidence gates do not let through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cupel.analysis.contrast import ends
from cupel.analysis.evidence import Arms, Evidence, Settings, by_seed, read_arms
from cupel.analysis.pairing import pair_runs
from cupel.analysis.readings import CHECKS, RunReading, group, read, row, weighted
from cupel.config import did_you_mean
from cupel.errors import ConfigError
from cupel.stats.permutation import sign_flip

SCHEMA = "cupel.litmus/1"
LitmusVerdict = Literal["CONFIRMED", "FAILED", "INCONCLUSIVE"]
Mode = Literal["interval", "point"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Thresholds on the lift (candidate minus baseline) and the evidence they need."""

    mean_reward_steps: float = 0.01
    overall_correct_rate: float = 0.005
    mean_gram_entropy_delta: float = 0.005
    min_run_pairs: int = 1
    min_steps_per_run: int = 8
    min_generations_per_run: int = 32
    min_gram_pairs_per_run: int = 8

    @property
    def thresholds(self) -> dict[str, float]:
        """Thresholds by check."""
        return {name: getattr(self, name) for name in CHECKS}


PROFILES = {"official_v1": Profile()}


def evaluate_litmus(
    baseline_run_dirs: Sequence[Path | str],
    candidate_run_dirs: Sequence[Path | str],
    *,
    profile: str = "official_v1",
    mode: Mode = "interval",
    alpha: float = 0.05,
    seed: int = 0,
    min_reward_lift: float | None = None,
    min_correct_rate_lift: float | None = None,
    min_gram_entropy_delta_lift: float | None = None,
    min_run_pairs: int | None = None,
    min_steps_per_run: int | None = None,
    min_generations_per_run: int | None = None,
    min_gram_pairs_per_run: int | None = None,
) -> dict[str, Any]:
    """Hold a candidate to the thresholds of a profile.

    `mode="interval"`: CONFIRMED when every lower bound over seeds reaches its threshold, FAILED
    when any upper bound is below it, else INCONCLUSIVE. `mode="point"`: CONFIRMED when every
    pooled difference reaches its threshold, else FAILED. Missing evidence comes first and is
    INCONCLUSIVE in both. The other arguments override single fields of the profile.

    Raises:
        ConfigError: the profile or the mode is unknown.
        DataError: a folder is mistyped or damaged.
    """
    given = {
        "mean_reward_steps": min_reward_lift,
        "overall_correct_rate": min_correct_rate_lift,
        "mean_gram_entropy_delta": min_gram_entropy_delta_lift,
        "min_run_pairs": min_run_pairs,
        "min_steps_per_run": min_steps_per_run,
        "min_generations_per_run": min_generations_per_run,
        "min_gram_pairs_per_run": min_gram_pairs_per_run,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    arms = read_arms(baseline_run_dirs, candidate_run_dirs)
    evidence = Evidence(arms.runs, Settings(alpha=alpha, seed=seed))
    return litmus_report(arms, evidence, profile=profile, mode=mode, overrides=overrides)


def litmus_report(
    arms: Arms,
    evidence: Evidence,
    *,
    profile: str = "official_v1",
    mode: Mode = "interval",
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the litmus report of two arms; see `evaluate_litmus`."""
    if profile not in PROFILES:
        raise ConfigError(
            f"litmus: profile '{profile}' is unknown; {did_you_mean(profile, list(PROFILES))}"
        )
    if mode not in ("interval", "point"):
        raise ConfigError(f"litmus: mode '{mode}' is unknown; allowed: interval, point")
    limits = Profile(**{**asdict(PROFILES[profile]), **(overrides or {})})
    baseline = [read(run, evidence) for run in by_seed(arms.baseline_runs)]
    candidate = [read(run, evidence) for run in by_seed(arms.candidate_runs)]
    failures = evidence_failures(arms, baseline, candidate, limits, evidence)
    lifts = _paired_lifts(arms, baseline, candidate)
    alpha = evidence.settings.alpha
    rng = np.random.default_rng([evidence.settings.seed, 5])
    checks = [
        _check(name, limits.thresholds[name], baseline, candidate, lifts[name], alpha, rng)
        for name in CHECKS
    ]
    by_interval = "INCONCLUSIVE" if failures else interval_verdict(checks)
    by_point = "INCONCLUSIVE" if failures else point_verdict(checks)
    verdict = by_interval if mode == "interval" else by_point
    return {
        "schema": SCHEMA,
        "profile": profile,
        "profile_overridden": sorted(overrides or {}),
        "mode": mode,
        "verdict": verdict,
        "status": verdict,
        "legacy_verdict": by_point,
        "alpha": alpha,
        "baseline_label": arms.baseline,
        "candidate_label": arms.candidate,
        "thresholds": limits.thresholds,
        "evidence": {k: v for k, v in asdict(limits).items() if k.startswith("min_")},
        "evidence_ok": not failures,
        "evidence_failures": failures,
        "checks": checks,
        "baseline": group(baseline),
        "candidate": group(candidate),
        "baseline_runs": [row(reading, evidence) for reading in baseline],
        "candidate_runs": [row(reading, evidence) for reading in candidate],
    }


def interval_verdict(checks: Sequence[dict[str, Any]]) -> LitmusVerdict:
    """Judge by the bounds over seeds; a bound that does not exist decides nothing."""
    lows = [(check["ci95"] or [None, None])[0] for check in checks]
    highs = [(check["ci95"] or [None, None])[1] for check in checks]
    limits = [check["threshold"] for check in checks]
    if all(low is not None and low >= limit for low, limit in zip(lows, limits, strict=True)):
        return "CONFIRMED"
    if any(high is not None and high < limit for high, limit in zip(highs, limits, strict=True)):
        return "FAILED"
    return "INCONCLUSIVE"


def point_verdict(checks: Sequence[dict[str, Any]]) -> LitmusVerdict:
    """Judge by the pooled differences alone, as documented; a missing one decides nothing."""
    if any(check["delta"] is None for check in checks):
        return "INCONCLUSIVE"
    return "CONFIRMED" if all(check["passed"] for check in checks) else "FAILED"


def evidence_failures(
    arms: Arms,
    baseline: Sequence[RunReading],
    candidate: Sequence[RunReading],
    limits: Profile,
    evidence: Evidence,
) -> list[str]:
    """Return one message for everything that is missing; none means there is evidence."""
    messages = []
    pairs = len(pair_runs(arms.baseline_runs, arms.candidate_runs).pairs)
    if pairs < limits.min_run_pairs:
        messages.append(f"run pairs: {pairs}, needs {limits.min_run_pairs}")
    for arm, readings in (("baseline", baseline), ("candidate", candidate)):
        for one in readings:
            where = f"{arm} {evidence.settings.shown(one.run)}"
            if one.run.status not in ("done", "unknown"):
                messages.append(f"{where}: the run is {one.run.status}, not done")
            for name, found, least in (
                ("steps", one.num_steps, limits.min_steps_per_run),
                ("generations", one.num_generations, limits.min_generations_per_run),
                ("gram pairs", one.gram_pairs, limits.min_gram_pairs_per_run),
            ):
                if found < least:
                    messages.append(f"{where}: {found} {name}, needs {least}")
    return messages


def _paired_lifts(
    arms: Arms, baseline: Sequence[RunReading], candidate: Sequence[RunReading]
) -> dict[str, list[float]]:
    by_run = {id(one.run): one for one in (*baseline, *candidate)}
    pairing = pair_runs(arms.baseline_runs, arms.candidate_runs)
    lifts: dict[str, list[float]] = {name: [] for name in CHECKS}
    for _, b, c in pairing.pairs:
        for name in CHECKS:
            low, high = by_run[id(b)].value(name), by_run[id(c)].value(name)
            if low is not None and high is not None:
                lifts[name].append(high - low)
    return lifts


def _check(
    name: str,
    threshold: float,
    baseline: Sequence[RunReading],
    candidate: Sequence[RunReading],
    lifts: Sequence[float],
    alpha: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    b, c = weighted(baseline, name), weighted(candidate, name)
    delta = c - b if b is not None and c is not None else None
    interval = sign_flip(lifts, alpha=alpha, rng=rng).interval if lifts else None
    return {
        "metric": name,
        "baseline": b,
        "candidate": c,
        "delta": delta,
        "threshold": threshold,
        "passed": delta is not None and delta >= threshold,
        "unit": "seed",
        "n_seeds": len(lifts),
        "ci95": ends(interval),
        "ci_method": interval.method if interval is not None else None,
        "ci_coverage": interval.coverage if interval is not None else None,
    }
