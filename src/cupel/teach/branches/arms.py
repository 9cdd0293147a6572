"""From outcomes to estimates: what became of one condition at one moment, and of two compared.

Knows counts, pairs and bounds. Refuses to know what a condition means, to count a rollout whose
instrument failed, and to name a probability that nothing was measured for: that is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import stats

from cupel.errors import DataError
from cupel.stats.intervals import Interval, newcombe, wilson
from cupel.stats.paired_proportions import newcombe_paired
from cupel.teach.labelling.labels import Estimate
from cupel.teach.records import Condition, Outcomes

_QUANTILES = (np.arange(400) + 0.5) / 400
_PRIOR = 0.5
"""Jeffreys' prior: Beta(1/2, 1/2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """All outcomes of one (moment, condition).

    Attributes:
        success: by replicate; a rollout whose instrument failed is missing here.
        errors: number of such rollouts.
        lo, hi: exact bounds of the success probability; None where it was only sampled.
    """

    success: Mapping[int, bool] = field(default_factory=dict)
    errors: int = 0
    lo: float | None = None
    hi: float | None = None

    @property
    def n(self) -> int:
        """Number of rollouts that were counted."""
        return len(self.success)

    @property
    def k(self) -> int:
        """Number of successes."""
        return sum(self.success.values())

    def half(self, which: int) -> Arm:
        """Return the rollouts of even (0) or odd (1) replicates; exact bounds stay."""
        kept = {number: won for number, won in self.success.items() if number % 2 == which}
        return Arm(success=kept, lo=self.lo, hi=self.hi)


Arms = Mapping[Condition, Arm]


def arms_of(rows: Iterable[Outcomes]) -> dict[str, dict[Condition, Arm]]:
    """Gather outcome rows by snapshot and condition.

    Raises:
        DataError: a replicate was measured twice, or rows of one condition disagree about horizon
            or student, so that they are not outcomes of one thing.
    """
    gathered: dict[str, dict[Condition, Arm]] = {}
    measured: dict[tuple[str, Condition], tuple[int, str]] = {}
    for row in rows:
        key = (row.snapshot_id, row.condition)
        what = (row.horizon, row.student)
        if measured.setdefault(key, what) != what:
            raise DataError(
                f"outcomes of snapshot {row.snapshot_id}, {row.condition}: measured with horizon "
                f"and student {measured[key]} and {what}; keep one kind of rows"
            )
        arms = gathered.setdefault(row.snapshot_id, {})
        arms[row.condition] = _extended(arms.get(row.condition, Arm()), row)
    return gathered


def _extended(arm: Arm, row: Outcomes) -> Arm:
    if row.mode == "exact":
        return Arm(success=arm.success, errors=arm.errors, lo=row.lo, hi=row.hi)
    numbered = dict(enumerate(row.success, start=row.first_replicate))
    new = {number: won for number, won in numbered.items() if won is not None}
    twice = sorted(set(new) & set(arm.success))
    if twice:
        raise DataError(
            f"outcomes of snapshot {row.snapshot_id}, {row.condition}: rollout {twice[0]} "
            "stands in two rows; remove one"
        )
    return Arm(
        success={**arm.success, **new},
        errors=arm.errors + len(numbered) - len(new),
        lo=arm.lo,
        hi=arm.hi,
    )


def probability(arm: Arm | None) -> Estimate | None:
    """Return the success probability: exact bounds where known, else with a Wilson interval.

    The value of exact bounds is their middle. None where nothing was measured.
    """
    if arm is None:
        return None
    if arm.lo is not None and arm.hi is not None:
        return Estimate(value=(arm.lo + arm.hi) / 2, lo=arm.lo, hi=arm.hi)
    if arm.n == 0:
        return None
    interval = _rate(arm.k, arm.n)
    return Estimate(value=arm.k / arm.n, lo=interval.low, hi=interval.high, n=arm.n)


def difference(baseline: Arm | None, candidate: Arm | None) -> Estimate | None:
    """Return candidate minus baseline.

    Exact bounds subtract. Rollouts of the same replicates share their random numbers and are
    pairs: Newcombe's paired interval. Otherwise (also for exact against sampled) Newcombe's for
    independent trials, of the same family.
    """
    b, c = probability(baseline), probability(candidate)
    if baseline is None or candidate is None or b is None or c is None:
        return None
    delta = c.value - b.value
    if b.n is None or c.n is None:
        if b.n is None and c.n is None:
            return Estimate(value=delta, lo=c.lo - b.hi, hi=c.hi - b.lo)
        down = float(np.hypot(c.value - c.lo, b.hi - b.value))
        up = float(np.hypot(c.hi - c.value, b.value - b.lo))
        return Estimate(value=delta, lo=delta - down, hi=delta + up, n=b.n or c.n)
    if set(baseline.success) == set(candidate.success):
        pairs = [(baseline.success[r], candidate.success[r]) for r in baseline.success]
        interval = _paired(
            pairs.count((True, True)),
            pairs.count((True, False)),
            pairs.count((False, True)),
            pairs.count((False, False)),
        )
    else:
        interval = _unpaired(baseline.k, baseline.n, candidate.k, candidate.n)
    return Estimate(value=delta, lo=interval.low, hi=interval.high, n=min(b.n, c.n))


def chance_above(baseline: Estimate, candidate: Estimate, threshold: float) -> float:
    """Return P(p_candidate - p_baseline > threshold) given what was measured of both.

    Sampled: independent Beta(k + 1/2, n - k + 1/2); pairs count as independent trials, which
    errs towards undecided. Exact: certain, or uniform between the bounds.
    """
    if baseline.n is None and candidate.n is None:
        return _uniform_above(candidate.lo - baseline.hi, candidate.hi - baseline.lo, threshold)
    beta = (_quantiles(baseline), _quantiles(candidate))
    return float(np.mean(beta[1][:, None] - beta[0][None, :] > threshold))


def chances_of_best(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Return for each name the probability that its success probability is the largest."""
    names = list(estimates)
    if len(names) == 1:
        return {names[0]: 1.0}
    below = {name: _quantiles(estimates[name]) for name in names}
    chances = {}
    for name in names:
        at = below[name]
        others = [np.searchsorted(below[o], at, side="left") for o in names if o != name]
        ties = [np.searchsorted(below[o], at, side="right") for o in names if o != name]
        shares = [(low + high) / 2 / len(at) for low, high in zip(others, ties, strict=True)]
        chances[name] = float(np.mean(np.prod(shares, axis=0)))
    total = sum(chances.values())
    return {name: chance / total for name, chance in chances.items()}


def _uniform_above(lo: float, hi: float, threshold: float) -> float:
    if lo > threshold:
        return 1.0
    if hi <= threshold:
        return 0.0
    return (hi - threshold) / (hi - lo)


def _quantiles(estimate: Estimate) -> np.ndarray:
    """Return the 400 mid-quantiles of what is known about a probability."""
    if estimate.n is None:
        return estimate.lo + (estimate.hi - estimate.lo) * _QUANTILES
    return _beta_quantiles(round(estimate.value * estimate.n), estimate.n)


# labels of few rollouts meet the same few counts again and again


@lru_cache(maxsize=65_536)
def _rate(k: int, n: int) -> Interval:
    return wilson(k, n)


@lru_cache(maxsize=65_536)
def _paired(both: int, only_baseline: int, only_candidate: int, neither: int) -> Interval:
    return newcombe_paired(both, only_baseline, only_candidate, neither)


@lru_cache(maxsize=65_536)
def _unpaired(k_b: int, n_b: int, k_c: int, n_c: int) -> Interval:
    return newcombe((k_b, n_b), (k_c, n_c))


@lru_cache(maxsize=4096)
def _beta_quantiles(k: int, n: int) -> np.ndarray:
    values: np.ndarray = stats.beta.ppf(_QUANTILES, k + _PRIOR, n - k + _PRIOR)
    values.flags.writeable = False
    return values
