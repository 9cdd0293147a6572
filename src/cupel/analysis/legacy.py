"""The documented tests on pooled completions: Fisher, permutation, bootstrap, Cohen's d.

Knows completions as if they were independent, which they are not: every block carries the
design effect that says by how much, and whether its word agrees with the verdict. Refuses to be
the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cupel.analysis.completions import Completions, Tally
from cupel.analysis.decision import RETRAIN_WORDS, TEXTPOLICY_WORDS, Verdict
from cupel.stats.effects import cohens_d_of_counts, design_effect
from cupel.stats.permutation import pooled_permutation_counts
from cupel.stats.power import two_proportion_n, two_proportion_power
from cupel.stats.proportions import fisher_exact
from cupel.stats.tallied import (
    Tallied,
    law_of,
    tallied,
    tallied_bootstrap_difference,
    tallied_cohens_d,
    tallied_icc,
    tallied_permutation,
)

VALIDITY = "valid only if completions are independent"
_Z_BOTH = 1.959963984540054 + 0.8416212335729143


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What one run logged: its completions, or at least their counts."""

    completions: Completions | None
    tally: Tally | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How the documented procedure resamples."""

    alpha: float
    resamples: int
    seed: int

    def generator(self, stream: int) -> np.random.Generator:
        """Return the generator of one of the block's resamplings."""
        return np.random.default_rng([self.seed, 3, stream])

    def described(self) -> dict[str, Any]:
        """Return the settings as they stand in the report."""
        return {"alpha": self.alpha, "num_resamples": self.resamples, "seed": self.seed}


def correctness_block(
    baseline: Sequence[Logged], candidate: Sequence[Logged], how: Resampling
) -> dict[str, Any] | None:
    """Return the documented tests on right and gradable completions; None without counts."""
    b, c = _pooled_counts(baseline), _pooled_counts(candidate)
    if b is None or c is None:
        return None
    rate_b, rate_c = b[0] / b[1], c[0] / c[1]
    delta = rate_c - rate_b
    interval = tallied_bootstrap_difference(
        _zeros_and_ones(b), _zeros_and_ones(c), rng=how.generator(0), resamples=how.resamples
    )
    fisher_p = fisher_exact(b, c).p
    plannable = 0 < rate_b < 1 and 0 < rate_c < 1 and delta != 0
    word = documented_word(fisher_p, delta, (interval.low, interval.high), how.alpha)
    return {
        "unit": "completion",
        "validity": VALIDITY,
        "counts": [list(b), list(c)],
        "rates": [rate_b, rate_c],
        "delta": delta,
        "fisher_p": fisher_p,
        "permutation_p": pooled_permutation_counts(b, c),
        "bootstrap_ci95": [interval.low, interval.high],
        "cohens_d": cohens_d_of_counts(b, c),
        "n_per_arm_80": two_proportion_n(rate_b, delta, method="normal") if plannable else None,
        "power_at_observed": two_proportion_power(rate_b, delta, min(b[1], c[1]), alpha=how.alpha)
        if plannable
        else None,
        **how.described(),
        **_words(word),
    }


def reward_block(
    baseline: Sequence[Logged], candidate: Sequence[Logged], how: Resampling
) -> dict[str, Any] | None:
    """Return the documented tests on rewards; None when an arm logged none."""
    b, c = _pooled_rewards(baseline), _pooled_rewards(candidate)
    if b is None or c is None:
        return None
    delta = c.mean - b.mean
    interval = tallied_bootstrap_difference(b, c, rng=how.generator(1), resamples=how.resamples)
    p = tallied_permutation(b, c, rng=how.generator(2), resamples=how.resamples)
    d = tallied_cohens_d(b, c) if min(b.n, c.n) > 1 else None
    word = documented_word(p, delta, (interval.low, interval.high), how.alpha)
    return {
        "unit": "completion",
        "validity": VALIDITY,
        "n": [b.n, c.n],
        "means": [b.mean, c.mean],
        "delta": delta,
        "permutation_p": p,
        "bootstrap_ci95": [interval.low, interval.high],
        "cohens_d": d,
        "n_per_arm_80": math.ceil(2 * (_Z_BOTH / d) ** 2) if d else None,
        "resampling": law_of(b, c, how.resamples),
        **how.described(),
        **_words(word),
    }


def documented_word(p: float, delta: float, ci: tuple[float, float], alpha: float) -> Verdict:
    """Apply the documented rule: significant when p < alpha and the interval excludes zero."""
    if p >= alpha or ci[0] <= 0 <= ci[1]:
        return "inconclusive"
    return "improvement" if delta > 0 else "degradation"


def clustering(
    pairs: Sequence[tuple[Logged, Logged]], *, rewards: bool
) -> Mapping[str, float | None]:
    """Return how far completions are from independent: design effect and intraclass correlations.

    The design effect is the variance of the mean seed difference over what independent
    completions would give; it needs two pairs whose completions were logged.
    """
    samples = [(_tallied(b, rewards=rewards), _tallied(c, rewards=rewards)) for b, c in pairs]
    known = [(b, c) for b, c in samples if b is not None and c is not None]
    effect = None
    if len(known) > 1:
        pooled = [_together([pair[arm] for pair in known]) for arm in (0, 1)]
        independent = sum(one.squares / one.n**2 for one in pooled)
        differences = [c.mean - b.mean for b, c in known]
        effect = design_effect(differences, independent_variance=independent)
    return {
        "design_effect": effect,
        "icc_prompt": _icc(pairs, rewards=rewards, by_prompt=True),
        "icc_seed": _icc(pairs, rewards=rewards, by_prompt=False),
    }


def _icc(pairs: Sequence[tuple[Logged, Logged]], *, rewards: bool, by_prompt: bool) -> float | None:
    """Return the mean of both arms' ICC: completions in prompts, or completions in runs."""
    found = []
    for arm in (0, 1):
        parts, offset = [], 0
        for pair in pairs:
            completions = pair[arm].completions
            if completions is None:
                continue
            column = completions.reward_C if rewards else completions.correct_C
            kept = ~np.isnan(column)
            codes = completions.prompt_C[kept] if by_prompt else np.zeros(kept.sum(), np.int64)
            parts.append((column[kept], completions.count_C[kept], codes + offset))
            offset += len(completions.step_P) if by_prompt else 1
        if sum(len(values) for values, _, _ in parts):
            values, counts, groups = (np.concatenate(part) for part in zip(*parts, strict=True))
            found.append(tallied_icc(values, counts, groups))
    known = [icc for icc in found if icc is not None]
    return sum(known) / len(known) if known else None


def _tallied(logged: Logged, *, rewards: bool) -> Tallied | None:
    """Return a run's outcomes or rewards; None when none was logged."""
    completions = logged.completions
    if completions is None:
        return None
    column = completions.reward_C if rewards else completions.correct_C
    kept = ~np.isnan(column)
    return tallied(column[kept], completions.count_C[kept]) if kept.any() else None


def _together(samples: Sequence[Tallied]) -> Tallied:
    return tallied(
        np.concatenate([sample.values_K for sample in samples]),
        np.concatenate([sample.counts_K for sample in samples]),
    )


def _pooled_counts(arm: Sequence[Logged]) -> tuple[int, int] | None:
    tallies = [logged.tally for logged in arm if logged.tally is not None]
    correct, total = sum(t.correct for t in tallies), sum(t.total for t in tallies)
    return (correct, total) if total else None


def _pooled_rewards(arm: Sequence[Logged]) -> Tallied | None:
    known = [one for logged in arm if (one := _tallied(logged, rewards=True)) is not None]
    return _together(known) if known else None


def _zeros_and_ones(count: tuple[int, int]) -> Tallied:
    outcomes = [(0.0, count[1] - count[0]), (1.0, count[0])]
    values, counts = zip(*[pair for pair in outcomes if pair[1]], strict=True)
    return tallied(values, np.array(counts))


def _words(verdict: Verdict) -> dict[str, str]:
    return {
        "recommendation": RETRAIN_WORDS[verdict],
        "recommendation_textpolicy": TEXTPOLICY_WORDS[verdict],
    }
