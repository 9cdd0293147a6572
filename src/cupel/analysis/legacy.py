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
from numpy.typing import NDArray

from cupel.analysis.completions import Completions, Tally
from cupel.analysis.decision import RETRAIN_WORDS, TEXTPOLICY_WORDS, Verdict
from cupel.stats.effects import cohens_d, cohens_d_of_counts, design_effect, icc_oneway
from cupel.stats.intervals import percentile_bootstrap_difference
from cupel.stats.permutation import pooled_permutation, pooled_permutation_counts
from cupel.stats.power import two_proportion_n, two_proportion_power
from cupel.stats.proportions import fisher_exact

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
    interval = percentile_bootstrap_difference(
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
    if not len(b) or not len(c):
        return None
    delta = float(c.mean() - b.mean())
    interval = percentile_bootstrap_difference(b, c, rng=how.generator(1), resamples=how.resamples)
    p = pooled_permutation(b, c, rng=how.generator(2), resamples=how.resamples)
    d = cohens_d(b, c) if min(len(b), len(c)) > 1 else None
    word = documented_word(p, delta, (interval.low, interval.high), how.alpha)
    return {
        "unit": "completion",
        "validity": VALIDITY,
        "n": [len(b), len(c)],
        "means": [float(b.mean()), float(c.mean())],
        "delta": delta,
        "permutation_p": p,
        "bootstrap_ci95": [interval.low, interval.high],
        "cohens_d": d,
        "n_per_arm_80": math.ceil(2 * (_Z_BOTH / d) ** 2) if d else None,
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
    columns = [
        (_values(b, rewards=rewards), _values(c, rewards=rewards))
        for b, c in pairs
        if b.completions is not None and c.completions is not None
    ]
    columns = [(b, c) for b, c in columns if len(b) and len(c)]
    effect = None
    if len(columns) > 1:
        differences = [float(c.mean() - b.mean()) for b, c in columns]
        pooled_b = np.concatenate([b for b, _ in columns])
        pooled_c = np.concatenate([c for _, c in columns])
        independent = float(pooled_b.var() / len(pooled_b) + pooled_c.var() / len(pooled_c))
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
        values, groups, offset = [], [], 0
        for pair in pairs:
            completions = pair[arm].completions
            if completions is None:
                continue
            column = completions.reward_N if rewards else completions.correct_N
            kept = ~np.isnan(column)
            codes = completions.prompt_N[kept] if by_prompt else np.zeros(kept.sum(), np.int64)
            values.append(column[kept])
            groups.append(codes + offset)
            offset += len(completions.prompts)
        if values and sum(map(len, values)):
            icc = icc_oneway(np.concatenate(values), np.concatenate(groups))
            found.append(icc)
    known = [icc for icc in found if icc is not None]
    return sum(known) / len(known) if known else None


def _values(logged: Logged, *, rewards: bool) -> NDArray[np.float64]:
    assert logged.completions is not None
    column = logged.completions.reward_N if rewards else logged.completions.correct_N
    return column[~np.isnan(column)]


def _pooled_counts(arm: Sequence[Logged]) -> tuple[int, int] | None:
    tallies = [logged.tally for logged in arm if logged.tally is not None]
    correct, total = sum(t.correct for t in tallies), sum(t.total for t in tallies)
    return (correct, total) if total else None


def _pooled_rewards(arm: Sequence[Logged]) -> NDArray[np.float64]:
    columns = [_values(logged, rewards=True) for logged in arm if logged.completions is not None]
    return np.concatenate(columns) if columns else np.empty(0)


def _zeros_and_ones(count: tuple[int, int]) -> NDArray[np.float64]:
    return np.repeat([1.0, 0.0], [count[0], count[1] - count[0]])


def _words(verdict: Verdict) -> dict[str, str]:
    return {
        "recommendation": RETRAIN_WORDS[verdict],
        "recommendation_textpolicy": TEXTPOLICY_WORDS[verdict],
    }
