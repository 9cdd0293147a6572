"""From paired differences to one word: improvement, degradation, equivalent or inconclusive.

Pure. Knows the declared rule (test, alpha, direction) and nothing of files. Refuses to say
anything when the design cannot reach alpha, and never looks at more than the differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cupel.stats.equivalence import tost_paired
from cupel.stats.intervals import Interval, PairedT, mean_of, paired_t
from cupel.stats.permutation import SignFlip, sign_flip, sign_flip_floor
from cupel.stats.power import sd_upper_limit, seed_mde, seeds_for_power
from cupel.stats.sequential import inverse_normal

Verdict = Literal["improvement", "degradation", "equivalent", "inconclusive"]
PrimaryTest = Literal["sign_flip", "paired_t"]
LEAST_FOR_PAIRED_T = 4

RETRAIN_WORDS: dict[Verdict, str] = {
    "improvement": "statistically_significant_improvement",
    "degradation": "significant_degradation",
    "equivalent": "insufficient_statistical_evidence",
    "inconclusive": "insufficient_statistical_evidence",
}
TEXTPOLICY_WORDS: dict[Verdict, str] = {
    "improvement": "significant_improvement",
    "degradation": "significant_regression",
    "equivalent": "not_significant",
    "inconclusive": "not_significant",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What was declared before looking."""

    alpha: float = 0.05
    primary_test: PrimaryTest = "sign_flip"
    higher_is_better: bool = True
    effect: float | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """A p-value corrected for its family, and the level it must stay under."""

    p: float
    level: float
    method: Literal["holm", "max_t", "benjamini_hochberg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict on one set of differences.

    Attributes:
        reasons: why it is inconclusive.
        assumptions: what the primary test assumes beyond symmetry.
        p, p_method, interval: of the primary test; None where it has none.
        nominal: p as it is held against the level of this look.
        unadjusted: p of one test of all pairs, as if there had been no earlier look.
        flips: the sign-flip test, None without a pair.
        student: the paired t-test, None below two pairs.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    assumptions: tuple[str, ...] = ()
    p: float | None
    nominal: float | None
    unadjusted: float | None
    p_method: str | None
    p_floor: float
    interval: Interval | None
    flips: SignFlip | None
    student: PairedT | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the executed design could find.

    Attributes:
        mde80: smallest effect found with 80 % power at the observed sd; None when it has none.
        sd_upper80: upper 80 % limit of the sd of the differences.
        seeds_for_effect: seeds that give 80 % power for the declared effect at that limit.
    """

    mde80: float | None
    sd_upper80: float | None
    seeds_for_effect: int | None


def decide(
    differences_S: Sequence[float],
    rule: Rule,
    *,
    rng: np.random.Generator,
    family: Adjusted | None = None,
) -> Decision:
    """Apply the declared rule to candidate-minus-baseline differences, one per seed.

    Args:
        rng: used beyond 20 pairs only, where sign patterns are drawn.
        family: the p-value after a family correction, which must pass too.

    Raises:
        DataError: a difference is not finite.
    """
    n = len(differences_S)
    if n == 0:
        return _inconclusive("no_pairs", floor=1.0, flips=None, student=None)
    flips = sign_flip(differences_S, alpha=rule.alpha, rng=rng)
    student = paired_t(differences_S, alpha=rule.alpha) if n > 1 else None
    if rule.primary_test == "paired_t":
        return _by_student(rule, differences_S, flips, student, family)
    floor = sign_flip_floor(n)
    if floor >= rule.alpha:
        return _inconclusive("resolution_floor", floor=floor, flips=flips, student=student)
    verdict, reasons = _word(flips.p, family, differences_S, rule)
    return Decision(
        verdict=verdict,
        reasons=reasons,
        p=flips.p,
        nominal=flips.p,
        unadjusted=flips.p,
        p_method=flips.method,
        p_floor=floor,
        interval=flips.interval,
        flips=flips,
        student=student,
    )


def decide_stages(
    stages: Sequence[Sequence[float]],
    planned_sizes: Sequence[int],
    rule: Rule,
    *,
    rng: np.random.Generator,
    family: Adjusted | None = None,
) -> Decision:
    """Apply the rule to disjoint stages, combined by inverse normals with the planned weights.

    Raises:
        DataError: a difference is not finite.
        ConfigError: a stage holds more than 20 pairs.
    """
    pooled = [d for stage in stages for d in stage]
    if not all(stages):
        return _inconclusive("no_pairs", floor=1.0, flips=None, student=None)
    combined = inverse_normal(stages, planned_sizes, level=rule.alpha)
    flips = sign_flip(pooled, alpha=rule.alpha, rng=rng)
    verdict, reasons = _word(combined.p, family, pooled, rule)
    return Decision(
        verdict=verdict,
        reasons=reasons,
        p=combined.p,
        nominal=combined.p,
        unadjusted=flips.p,
        p_method="inverse_normal_sign_flip",
        p_floor=0.0,
        interval=combined.interval,
        flips=flips,
        student=paired_t(pooled, alpha=rule.alpha) if len(pooled) > 1 else None,
    )


def _by_student(
    rule: Rule,
    differences_S: Sequence[float],
    flips: SignFlip,
    student: PairedT | None,
    family: Adjusted | None,
) -> Decision:
    if student is None or student.n < LEAST_FOR_PAIRED_T:
        return _inconclusive("too_few_pairs", floor=0.0, flips=flips, student=student)
    if student.p is None:
        return _inconclusive("no_variation", floor=0.0, flips=flips, student=student)
    verdict, reasons = _word(student.p, family, differences_S, rule)
    return Decision(
        verdict=verdict,
        reasons=reasons,
        assumptions=("normal_differences",),
        p=student.p,
        nominal=student.p,
        unadjusted=student.p,
        p_method="paired_t",
        p_floor=0.0,
        interval=student.interval,
        flips=flips,
        student=student,
    )


def _word(
    p: float, family: Adjusted | None, differences_S: Sequence[float], rule: Rule
) -> tuple[Verdict, tuple[str, ...]]:
    if p >= rule.alpha:
        if is_equivalent(differences_S, rule):
            return "equivalent", ()
        return "inconclusive", ("p_not_below_alpha",)
    if family is not None and family.p >= family.level:
        return "inconclusive", ("multiplicity",)
    mean = mean_of(np.asarray(differences_S, dtype=np.float64))
    better = mean > 0 if rule.higher_is_better else mean < 0
    return ("improvement" if better else "degradation"), ()


def is_equivalent(differences_S: Sequence[float], rule: Rule) -> bool:
    """Say whether two one-sided t-tests put the mean inside the declared margin, if any."""
    if rule.margin is None or len(differences_S) < LEAST_FOR_PAIRED_T:
        return False
    p = tost_paired(differences_S, margin=rule.margin).p
    return p is not None and p < rule.alpha


def _inconclusive(
    reason: str, *, floor: float, flips: SignFlip | None, student: PairedT | None
) -> Decision:
    return Decision(
        verdict="inconclusive",
        reasons=(reason,),
        p=flips.p if flips is not None else None,
        nominal=flips.p if flips is not None else None,
        unadjusted=flips.p if flips is not None else None,
        p_method=flips.method if flips is not None else None,
        p_floor=floor,
        interval=flips.interval if flips is not None else None,
        flips=flips,
        student=student,
    )


def reach(student: PairedT | None, rule: Rule) -> Reach:
    """Return what the executed design could find, and what the declared effect would need."""
    if student is None or student.sd == 0.0:
        return Reach(mde80=None, sd_upper80=None, seeds_for_effect=None)
    upper = sd_upper_limit(student.sd, student.n)
    found = seed_mde(student.n, alpha=rule.alpha, test=rule.primary_test)
    needed = None
    if rule.effect is not None:
        needed = seeds_for_power(rule.effect / upper, alpha=rule.alpha, test=rule.primary_test)
    return Reach(
        mde80=found * student.sd if found is not None else None,
        sd_upper80=upper,
        seeds_for_effect=needed,
    )
