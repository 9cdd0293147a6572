"""How good predictions are: errors, ranks, the top K; ties share their places.

Knows arrays of labels and predictions. Refuses to break ties by the order of rows, and to score a
label that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cupel.errors import DataError
from cupel.stats.effects import correlation
from cupel.stats.intervals import Interval
from cupel.stats.ranking import ndcg, spearman
from cupel.teach.prediction.targets import FloatArray, IntArray

KS = (10, 50)
"""Sizes of the top that are scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionScore:
    """Scores of one regression head on n labels; None where labels or predictions do not vary."""

    n: int
    mse: float
    rmse: float
    mae: float
    r2: float | None
    correlation: float | None
    spearman: float | None
    spearman_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopScore:
    """Scores of the K best by some ranking.

    Attributes:
        k: as asked; k_used: as scored, at most half of the items.
        precision_pos: share of the top whose label is above 0.
        base_rate: that share among all items: what no ranking at all gets.
        overlap: share of the top that is also in the labels' own top K.
        ndcg: gain max(label, 0), discount log2(rank + 1); None when no label is above 0.
    """

    k: int
    k_used: int
    precision_pos: float
    base_rate: float
    overlap: float
    ndcg: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationScore:
    """Scores of one classification head.

    Attributes:
        majority: accuracy of always saying the commonest class.
        per_class: accuracy and support by class; None without support.
        confusion: counts, true class by predicted class.
    """

    n: int
    accuracy: float
    majority: float
    balanced: float
    per_class: Mapping[str, tuple[float | None, int]]
    confusion: tuple[tuple[int, ...], ...]


def score_regression(label_N: FloatArray, predicted_N: FloatArray) -> RegressionScore:
    """Score predictions; R2 = 1 - squared error / variance of the labels.

    Raises:
        DataError: fewer than 2 labels, or a value is not finite.
    """
    if len(label_N) < 2 or not (np.isfinite(label_N).all() and np.isfinite(predicted_N).all()):
        raise DataError("score_regression: give at least 2 finite labels and predictions")
    error_N = predicted_N - label_N
    mse, variance = float((error_N**2).mean()), float(label_N.var())
    ranks = spearman(label_N, predicted_N)
    return RegressionScore(
        n=len(label_N),
        mse=mse,
        rmse=mse**0.5,
        mae=float(np.abs(error_N).mean()),
        r2=1.0 - mse / variance if variance > 1e-24 else None,
        correlation=correlation(label_N, predicted_N),
        spearman=ranks.rho,
        spearman_interval=ranks.interval,
    )


def score_top(label_N: FloatArray, ranking_N: FloatArray, k: int) -> TopScore:
    """Score the top K of a ranking, larger first.

    With fewer than 2 K items K is lowered to half of them, since every ranking has the same top
    of everything.

    Raises:
        DataError: fewer than 2 items.
    """
    if len(label_N) < 2:
        raise DataError("score_top: give at least 2 items")
    used = max(1, min(k, len(label_N) // 2))
    in_top_N = top_shares(ranking_N, used)
    return TopScore(
        k=k,
        k_used=used,
        precision_pos=_exact_share(float(in_top_N @ (label_N > 0)), used),
        base_rate=float((label_N > 0).mean()),
        overlap=_exact_share(float(in_top_N @ top_shares(label_N, used)), used),
        ndcg=ndcg(np.maximum(label_N, 0.0), ranking_N, k=used),
    )


def top_shares(scores_N: FloatArray, k: int) -> FloatArray:
    """Return each item's chance to be among the K largest when ties are broken at random.

    >>> top_shares(np.array([3.0, 1.0, 1.0]), 2).tolist()
    [1.0, 0.5, 0.5]
    """
    cut = np.sort(scores_N)[::-1][k - 1]
    above_N, tied_N = scores_N > cut, scores_N == cut
    shares: FloatArray = above_N + tied_N * ((k - above_N.sum()) / tied_N.sum())
    return shares


def score_classes(
    class_N: IntArray, predicted_N: IntArray, names: Sequence[str]
) -> ClassificationScore:
    """Score predicted classes.

    Raises:
        DataError: no labels.
    """
    if not len(class_N):
        raise DataError("score_classes: give at least 1 label")
    size = len(names)
    confusion = np.zeros((size, size), dtype=int)
    np.add.at(confusion, (class_N, predicted_N), 1)
    support = confusion.sum(axis=1)
    per_class = {
        name: (float(confusion[i, i] / support[i]) if support[i] else None, int(support[i]))
        for i, name in enumerate(names)
    }
    seen = [accuracy for accuracy, _ in per_class.values() if accuracy is not None]
    return ClassificationScore(
        n=len(class_N),
        accuracy=float(np.trace(confusion) / len(class_N)),
        majority=float(support.max() / len(class_N)),
        balanced=float(np.mean(seen)),
        per_class=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def rankings(
    label_N: FloatArray,
    rankings: Mapping[str, FloatArray],
    *,
    rng: np.random.Generator,
    ks: Sequence[int] = KS,
    shuffles: int = 200,
) -> dict[str, dict[int, TopScore]]:
    """Score several rankings of the same items, and `random` as the mean over shuffles.

    Raises:
        DataError: a ranking is of other items.
    """
    for name, ranking_N in rankings.items():
        if len(ranking_N) != len(label_N) or not np.isfinite(ranking_N).all():
            raise DataError(f"ranking '{name}': give one finite score for each of the items")
    scored = {
        name: {k: score_top(label_N, ranking_N, k) for k in ks}
        for name, ranking_N in rankings.items()
    }
    drawn = [rng.permutation(len(label_N)).astype(float) for _ in range(shuffles)]
    scored["random"] = {k: _mean([score_top(label_N, each, k) for each in drawn]) for k in ks}
    return scored


def clustered_difference(
    label_N: FloatArray,
    first_N: FloatArray,
    second_N: FloatArray,
    tasks_N: IntArray,
    *,
    k: int,
    rng: np.random.Generator,
    draws: int = 1_000,
    alpha: float = 0.05,
) -> dict[str, Interval | None]:
    """Return bootstrap intervals of first - second in precision and NDCG at K, over whole tasks.

    None where the score does not exist in most draws. Source: Field & Welsh 2007 (clusters).
    """
    numbers = np.unique(tasks_N)
    rows_by_task = [np.flatnonzero(tasks_N == task) for task in numbers]
    found: dict[str, list[float]] = {"precision_pos": [], "ndcg": []}
    for _ in range(draws):
        picked = rng.integers(len(numbers), size=len(numbers))
        rows = np.concatenate([rows_by_task[i] for i in picked])
        if len(rows) < 2:
            continue
        a = score_top(label_N[rows], first_N[rows], k)
        b = score_top(label_N[rows], second_N[rows], k)
        found["precision_pos"].append(a.precision_pos - b.precision_pos)
        if a.ndcg is not None and b.ndcg is not None:
            found["ndcg"].append(a.ndcg - b.ndcg)
    return {
        name: _percentiles(values, alpha) if len(values) > draws // 2 else None
        for name, values in found.items()
    }


def _exact_share(total: float, of: int) -> float:
    """Return total / of without the last bits' rounding, so that equal shares are equal."""
    return round(total / of, 12)


def _percentiles(values: Sequence[float], alpha: float) -> Interval:
    low, high = np.quantile(values, [alpha / 2, 1 - alpha / 2])
    return Interval(
        low=float(low), high=float(high), coverage=1 - alpha, method="task_bootstrap_percentile"
    )


def _mean(scores: Sequence[TopScore]) -> TopScore:
    first = scores[0]
    gains = [each.ndcg for each in scores if each.ndcg is not None]
    return TopScore(
        k=first.k,
        k_used=first.k_used,
        precision_pos=float(np.mean([each.precision_pos for each in scores])),
        base_rate=first.base_rate,
        overlap=float(np.mean([each.overlap for each in scores])),
        ndcg=float(np.mean(gains)) if gains else None,
    )
