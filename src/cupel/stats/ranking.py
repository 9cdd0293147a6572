"""Agreement of rankings, and how sure a ranking of arms is.

Knows ranks and whole seeds as the unit of resampling; refuses to rank arms that did not run the
same seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cupel.errors import DataError
from cupel.stats.effects import correlation
from cupel.stats.intervals import Interval
from cupel.stats.samples import FloatArray, Values, fraction, matrix, positive, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCorrelation:
    """Spearman's rho; None when a side does not vary; no interval below 4 pairs."""

    n: int
    rho: float | None
    interval: Interval | None


def spearman(first_N: Values, second_N: Values, *, alpha: float = 0.05) -> RankCorrelation:
    """Return the rank correlation and its interval on Fisher's z.

    Standard error of z: sqrt((1 + rho^2/2)/(n - 3)). A perfect correlation has no finite z and
    gets no interval.

    Raises:
        DataError: lengths differ, fewer than 2 pairs, or a value is not finite.
    Source: Spearman 1904; Bonett & Wright 2000 (standard error).
    """
    first = vector(first_N, where="spearman", at_least=2)
    second = vector(second_N, where="spearman", at_least=2)
    fraction(alpha, where="spearman", name="alpha")
    rho = correlation(stats.rankdata(first), stats.rankdata(second))
    n, interval = len(first), None
    if rho is not None:
        rho = max(-1.0, min(1.0, rho))
        if n >= 4 and abs(rho) < 1 - 1e-12:
            error = math.sqrt((1 + rho**2 / 2) / (n - 3))
            half = float(stats.norm.isf(alpha / 2)) * error
            interval = Interval(
                low=math.tanh(math.atanh(rho) - half),
                high=math.tanh(math.atanh(rho) + half),
                coverage=1 - alpha,
                method="bonett_wright",
            )
    return RankCorrelation(n=n, rho=rho, interval=interval)


def ndcg(relevance_N: Values, scores_N: Values, *, k: int | None = None) -> float | None:
    """Return the normalised discounted gain of ranking items by score; None when no item gains.

    Gains are the relevances, discounts log2(rank + 1). Tied scores share the average gain of
    their places, so that the order in which items are listed changes nothing.

    Raises:
        DataError: lengths differ, or a relevance is negative or not finite.
    Source: Jarvelin & Kekalainen 2002; McSherry & Najork 2008 (ties).
    """
    relevance = vector(relevance_N, where="ndcg: relevance")
    scores = vector(scores_N, where="ndcg: scores")
    if len(relevance) != len(scores) or (relevance < 0).any():
        raise DataError("ndcg: give one score and one relevance >= 0 for every item")
    n = len(scores)
    top = n if k is None else min(n, positive(k, where="ndcg", name="k"))
    discount_N = np.where(np.arange(n) < top, 1 / np.log2(np.arange(2, n + 2)), 0.0)
    best = float(np.sort(relevance)[::-1] @ discount_N)
    if best == 0.0:
        return None
    order = np.argsort(-scores, kind="stable")
    _, group_N, size_G = np.unique(-scores[order], return_inverse=True, return_counts=True)
    mean_G = np.bincount(group_N, weights=relevance[order]) / size_G
    return float(mean_G[group_N] @ discount_N) / best


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How often each arm holds each place, over resampled seeds.

    Attributes:
        probability_AK: arm by place (0 is the best); rows and columns sum to 1.
        best: index of the arm with the best mean.
        within_one_error: arms whose mean paired difference from the best is under one standard
            error of that difference, the best included.
    """

    probability_AK: FloatArray
    best: int
    within_one_error: tuple[int, ...]


def rank_probability(
    outcomes_AS: FloatArray,
    *,
    rng: np.random.Generator,
    higher_is_better: bool = True,
    resamples: int = 10_000,
) -> Ranks:
    """Return the rank distribution of arms under resampling of whole seeds.

    All arms of a seed are drawn together; tied arms share their places evenly. A description,
    never a test.

    Raises:
        DataError: fewer than 2 seeds, or an outcome is missing.
    Source: Efron 1979; Breiman et al. 1984 (the one-standard-error set).
    """
    values_AS = matrix(outcomes_AS, where="rank_probability", at_least=2)
    positive(resamples, where="rank_probability", name="resamples", at_least=100)
    values_AS = values_AS if higher_is_better else -values_AS
    arms, seeds = values_AS.shape
    weights_BS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    means_BA = np.round(weights_BS @ values_AS.T / seeds, 12)
    probability_AK = np.zeros((arms, arms))
    above_BA = np.count_nonzero(means_BA[:, None, :] > means_BA[:, :, None], axis=2)
    tied_BA = np.count_nonzero(means_BA[:, None, :] == means_BA[:, :, None], axis=2)
    for place in range(arms):
        holds_BA = (above_BA <= place) & (place < above_BA + tied_BA)
        probability_AK[:, place] = np.mean(holds_BA / tied_BA, axis=0)
    best = int(np.argmax(values_AS.mean(axis=1)))
    gap_AS = values_AS[best] - values_AS
    error_A = gap_AS.std(axis=1, ddof=1) / math.sqrt(seeds)
    near = np.flatnonzero((gap_AS.mean(axis=1) <= error_A) | (np.arange(arms) == best))
    return Ranks(
        probability_AK=probability_AK,
        best=best,
        within_one_error=tuple(int(arm) for arm in near),
    )
