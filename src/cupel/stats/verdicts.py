"""How likely each answer is before anything runs: the declared rule on simulated differences.

Knows the rule (test, looks, margin) and a supposed effect; refuses to know where the effect was
taken from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from cupel.stats.campaign_power import MOST_EXACT, paired_t_p_values
from cupel.stats.permutation import sign_flip_p_values
from cupel.stats.samples import FloatArray, fraction, positive
from cupel.stats.sequential import Spending, plan_looks

LEAST_FOR_EQUIVALENCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """Probability of each answer; they sum to 1.

    Attributes:
        mean_seeds: seeds used on average; fewer than planned where an early look may end it.
        error: Monte Carlo standard error of a probability of one half.
    """

    improvement: float
    degradation: float
    equivalent: float
    inconclusive: float
    mean_seeds: float
    error: float


def verdict_chances(
    effect_sd: float,
    sizes: Sequence[int],
    *,
    rng: np.random.Generator,
    alpha: float = 0.05,
    spending: Spending = "pocock",
    test: Literal["sign_flip", "paired_t"] = "sign_flip",
    margin_sd: float | None = None,
    simulations: int = 4_000,
) -> Chances:
    """Simulate a study of normal seed differences and count its answers.

    Args:
        effect_sd: in units of the standard deviation of the seed differences.
        margin_sd: in the same units.
        sizes: seeds at each look; a single number for one look. Beyond 16 seeds the paired t
            stands for the sign flips, whose power is the same there.

    Raises:
        ConfigError: a size below 2, looks not ascending, or a fraction outside (0, 1).
    """
    where = "verdict_chances"
    fraction(alpha, where=where, name="alpha")
    positive(simulations, where=where, name="simulations", at_least=100)
    for size in sizes:
        positive(size, where=where, name="size", at_least=2)
    looks = plan_looks(sizes, spending=spending, alpha=alpha)
    levels = looks.alpha_at if len(sizes) > 1 else (alpha,)
    d_RS = rng.normal(effect_sd, 1.0, size=(simulations, sizes[-1]))
    answer_R = np.zeros(simulations, dtype=np.int64)
    used_R = np.full(simulations, sizes[-1])
    for size, level in zip(sizes, levels, strict=True):
        seen_RS = d_RS[:, :size]
        exact = test == "sign_flip" and size <= MOST_EXACT
        p_R = sign_flip_p_values(seen_RS) if exact else paired_t_p_values(seen_RS)
        found_R = np.where(p_R < level, np.where(seen_RS.mean(axis=1) > 0, 1, 2), 0)
        if margin_sd is not None and size >= LEAST_FOR_EQUIVALENCE:
            inside_R = _tost_p_values(seen_RS, margin_sd) < level
            found_R = np.where((found_R == 0) & inside_R, 3, found_R)
        new_R = (answer_R == 0) & (found_R > 0)
        used_R = np.where(new_R, size, used_R)
        answer_R = np.where(new_R, found_R, answer_R)
    share = np.bincount(answer_R, minlength=4) / simulations
    return Chances(
        improvement=float(share[1]),
        degradation=float(share[2]),
        equivalent=float(share[3]),
        inconclusive=float(share[0]),
        mean_seeds=float(used_R.mean()),
        error=0.5 / math.sqrt(simulations),
    )


def _tost_p_values(d_RS: FloatArray, margin: float) -> FloatArray:
    n = d_RS.shape[1]
    mean_R, error_R = d_RS.mean(axis=1), d_RS.std(axis=1, ddof=1) / math.sqrt(n)
    above_R = stats.t.sf((mean_R + margin) / error_R, n - 1)
    below_R = stats.t.cdf((mean_R - margin) / error_R, n - 1)
    p_R: FloatArray = np.maximum(above_R, below_R)
    return p_R
