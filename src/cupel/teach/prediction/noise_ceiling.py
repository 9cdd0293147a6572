"""How well a perfect predictor could score against labels that are themselves noisy.

Knows values and their sampling variances. Refuses to excuse a predictor: the ceiling stands beside
the score, and the score is never divided away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cupel.errors import DataError
from cupel.stats.ranking import ndcg, spearman
from cupel.teach.prediction.targets import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The expected score of a predictor that knows the truth, against labels with noise.

    Attributes:
        n: labels; label_variance, noise_variance: of the labels, and the mean part that is noise.
        r2: 1 - noise / variance, at least 0: the share of the labels' variance that is not noise.
        pearson: its root.
        spearman, ndcg: by simulation; None where nothing varies. `ndcg` by K.
        exact: no label was sampled; then every ceiling is 1.
    """

    n: int
    label_variance: float
    noise_variance: float
    r2: float | None
    pearson: float | None
    spearman: float | None
    ndcg: dict[int, float | None]
    exact: bool


def noise_ceiling(
    values_N: FloatArray,
    noise_N: FloatArray,
    *,
    rng: np.random.Generator,
    ks: tuple[int, ...] = (),
    draws: int = 200,
) -> Ceiling:
    """Return the ceilings of labels `values_N` with sampling variances `noise_N`.

    Model: label = truth + noise, independent; var(label) = var(truth) + mean noise. For the ranks
    truths are drawn as the labels shrunk to that variance, and noised again, `draws` times.

    Raises:
        DataError: fewer than 2 labels, or one that is not finite.
    Source: Spearman 1904 (attenuation); Efron & Morris 1973 (shrinkage).
    """
    if len(values_N) < 2 or not np.isfinite(values_N).all() or not np.isfinite(noise_N).all():
        raise DataError("noise_ceiling: give at least 2 finite labels with their variances")
    variance, noise = float(values_N.var()), float(noise_N.mean())
    exact = not bool((noise_N > 0).any())
    if variance <= 1e-24:
        return _of(len(values_N), variance, noise, None, None, dict.fromkeys(ks), exact)
    share = max(0.0, 1.0 - noise / variance)
    if exact:
        return _of(len(values_N), variance, noise, 1.0, 1.0, dict.fromkeys(ks, 1.0), exact)
    truth_N = values_N.mean() + np.sqrt(share) * (values_N - values_N.mean())
    rhos: list[float] = []
    gains: dict[int, list[float]] = {k: [] for k in ks}
    for _ in range(draws):
        label_N = truth_N + rng.normal(size=len(values_N)) * np.sqrt(noise_N)
        rho = spearman(truth_N, label_N).rho
        rhos.append(0.0 if rho is None else rho)
        for k in ks:
            gain = ndcg(np.maximum(label_N, 0.0), truth_N, k=k)
            if gain is not None:
                gains[k].append(gain)
    means = {k: float(np.mean(found)) if found else None for k, found in gains.items()}
    return _of(len(values_N), variance, noise, share, float(np.mean(rhos)), means, exact)


def _of(
    n: int,
    variance: float,
    noise: float,
    r2: float | None,
    rho: float | None,
    gains: dict[int, float | None],
    exact: bool,
) -> Ceiling:
    return Ceiling(
        n=n,
        label_variance=variance,
        noise_variance=noise,
        r2=r2,
        pearson=None if r2 is None else float(np.sqrt(r2)),
        spearman=rho,
        ndcg=gains,
        exact=exact,
    )
