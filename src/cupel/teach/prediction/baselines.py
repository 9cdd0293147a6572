"""The predictors that the network must beat: ridge regression and gradient boosting.

Knows arrays. Both learn one head at a time from the rows whose label was measured; ridge chooses
its penalty on inner folds by task. Refuses to see the rows it is judged on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import MissingExtraError
from cupel.teach.prediction.targets import (
    CLASSES,
    REGRESSIONS,
    Classification,
    FloatArray,
    Head,
    IntArray,
    Predicted,
    Regression,
    Targets,
)

ALPHAS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
"""Ridge penalties, on standardised features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Column means and deviations of the training rows; a constant column stays 0."""

    mean_D: FloatArray
    scale_D: FloatArray

    def __call__(self, features_ND: FloatArray) -> FloatArray:
        """Return the standardised features."""
        scaled: FloatArray = (features_ND - self.mean_D) / self.scale_D
        return scaled


def scaler_of(features_ND: FloatArray, n_text: int) -> Scaler:
    """Return the scaler of training rows; the last `n_text` columns are the embedded text.

    Text columns share one scale, such that the whole block varies as much as all other columns
    together: scaled one by one, each rare word would weigh as much as a count of actions.
    """
    deviation_D = features_ND.std(axis=0)
    n_other = len(deviation_D) - n_text
    varying = int((deviation_D[:n_other] > 1e-12).sum())
    scale_D = np.where(deviation_D > 1e-12, deviation_D, 1.0)
    block = float((deviation_D[n_other:] ** 2).sum())
    if block > 0.0:
        scale_D[n_other:] = np.sqrt(block / max(1, varying))
    return Scaler(mean_D=features_ND.mean(axis=0), scale_D=scale_D)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridge:
    """A fitted linear map for every head; the coefficients are on standardised features."""

    scaler: Scaler
    weights: Mapping[Head, FloatArray]
    """By head [D + 1, outputs]; the last row is the intercept."""
    alphas: Mapping[Head, float]

    def predict(self, features_ND: FloatArray) -> Predicted:
        """Predict every head that was trained."""
        scaled = self.scaler(features_ND)
        design = np.hstack([scaled, np.ones((len(scaled), 1))])
        out: dict[str, FloatArray] = {
            head: design @ weights for head, weights in self.weights.items()
        }
        return Predicted(
            values={head: out[head][:, 0] for head in REGRESSIONS if head in out},
            probs={head: _shares(out[head]) for head in CLASSES if head in out},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosting:
    """Fitted gradient-boosted trees, one model a head; never stored."""

    regressors: Mapping[Regression, Any]
    classifiers: Mapping[Classification, Any] = field(default_factory=dict)
    only_class: Mapping[Classification, int] = field(default_factory=dict)

    def predict(self, features_ND: FloatArray) -> Predicted:
        """Predict every head that was trained."""
        probs: dict[Classification, FloatArray] = {}
        for head, model in self.classifiers.items():
            full = np.zeros((len(features_ND), len(CLASSES[head])))
            full[:, model.classes_] = model.predict_proba(features_ND)
            probs[head] = full
        for head, only in self.only_class.items():
            probs[head] = np.eye(len(CLASSES[head]))[np.full(len(features_ND), only)]
        return Predicted(
            values={head: model.predict(features_ND) for head, model in self.regressors.items()},
            probs=probs,
        )


def fit_ridge(
    features_ND: FloatArray,
    targets: Targets,
    tasks_N: IntArray,
    *,
    n_text: int,
    noise_weighted: bool,
) -> Ridge:
    """Fit ridge regression; classes are regressed as indicators.

    Raises:
        MissingExtraError: scikit-learn, which makes the inner folds, is not installed.
    """
    scaler = scaler_of(features_ND, n_text)
    scaled = scaler(features_ND)
    weights: dict[Head, FloatArray] = {}
    alphas: dict[Head, float] = {}
    for head, goal_NC, weight_N in _goals(targets, noise_weighted):
        known = targets.known(head)
        alpha = _penalty(scaled[known], goal_NC[known], weight_N[known], tasks_N[known])
        equations = _normal(scaled[known], goal_NC[known], weight_N[known])
        weights[head] = equations.solve(alpha)
        alphas[head] = alpha
    return Ridge(scaler=scaler, weights=weights, alphas=alphas)


def fit_boosting(
    features_ND: FloatArray,
    targets: Targets,
    *,
    noise_weighted: bool,
    seed: int,
    rounds: int = 60,
) -> Boosting:
    """Fit histogram gradient boosting: few rounds, small leaves, no early stopping.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import (
            HistGradientBoostingClassifier,
            HistGradientBoostingRegressor,
        )
    except ImportError:
        raise MissingExtraError("gradient boosting", "teach") from None
    settings = {
        "max_iter": rounds,
        "max_leaf_nodes": 15,
        "min_samples_leaf": 10,
        "l2_regularization": 1.0,
        "early_stopping": False,
        "random_state": seed,
    }
    regressors: dict[Regression, Any] = {}
    classifiers: dict[Classification, Any] = {}
    only: dict[Classification, int] = {}
    for regression in REGRESSIONS:
        known = targets.known(regression)
        if known.any():
            weight_N = noise_weights(targets, regression, on=noise_weighted)[known]
            model = HistGradientBoostingRegressor(**settings)
            goal_M = targets.values[regression][known]
            regressors[regression] = model.fit(features_ND[known], goal_M, weight_N)
    for head, class_N in targets.classes.items():
        known = targets.known(head)
        found = np.unique(class_N[known])
        if len(found) == 1:
            only[head] = int(found[0])
        elif len(found) > 1:
            classifier = HistGradientBoostingClassifier(**settings)
            classifiers[head] = classifier.fit(features_ND[known], class_N[known])
    return Boosting(regressors=regressors, classifiers=classifiers, only_class=only)


def noise_weights(targets: Targets, head: Regression, *, on: bool) -> FloatArray:
    """Return var / (var + noise) a row [N], all 1 when off; var is that of the labels.

    A row's noise is the head's mean noise shared out by 1 / rollouts, and 0 where exact. Its own
    estimate is not used: it is smallest where the rate happened to be 0 or 1, so that weighing by
    it would pull predictions towards those rows.
    """
    values_N, count_N = targets.values[head], targets.rollouts[head]
    known = np.isfinite(values_N)
    weights_N = np.ones(len(values_N))
    variance = float(values_N[known].var()) if known.any() else 0.0
    if not on or variance == 0.0:
        return weights_N
    share_N = 1.0 / count_N[known]
    total = float(share_N.sum())
    if total > 0:
        noise_N = share_N / total * float(targets.noise[head][known].sum())
        weights_N[known] = variance / (variance + noise_N)
    return weights_N


def inner_folds(tasks_N: IntArray, most: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return at most `most` folds by task; none when there is one task only.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.model_selection import GroupKFold
    except ImportError:
        raise MissingExtraError("folds by task", "teach") from None
    n = min(most, len(np.unique(tasks_N)))
    if n < 2:
        return []
    return list(GroupKFold(n_splits=n).split(tasks_N, groups=tasks_N))


def _goals(targets: Targets, noise_weighted: bool) -> Iterator[tuple[Head, FloatArray, FloatArray]]:
    for head in REGRESSIONS:
        if targets.known(head).any():
            weight_N = noise_weights(targets, head, on=noise_weighted)
            yield head, targets.values[head][:, None], weight_N
    for name, class_N in targets.classes.items():
        if targets.known(name).any():
            yield name, np.eye(len(CLASSES[name]))[class_N], np.ones(len(class_N))


def _penalty(
    scaled_ND: FloatArray, goal_NC: FloatArray, weight_N: FloatArray, tasks_N: IntArray
) -> float:
    """Choose the penalty by squared error on inner folds; the largest with a single task."""
    folds = inner_folds(tasks_N, 3)
    if not folds:
        return ALPHAS[-1]
    loss_A = np.zeros(len(ALPHAS))
    for train, test in folds:
        equations = _normal(scaled_ND[train], goal_NC[train], weight_N[train])
        for number, alpha in enumerate(ALPHAS):
            fitted = equations.solve(alpha)
            residual = goal_NC[test] - scaled_ND[test] @ fitted[:-1] - fitted[-1]
            loss_A[number] += float((weight_N[test, None] * residual**2).sum())
    return ALPHAS[int(np.argmin(loss_A))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Normal:
    """The weighted, centred normal equations of some rows; every penalty is one small solve."""

    gram_DD: FloatArray
    moment_DC: FloatArray
    mean_D: FloatArray
    goal_C: FloatArray

    def solve(self, alpha: float) -> FloatArray:
        """Return coefficients and, in the last row, the unpenalised intercept [D + 1, C].

        Source: Hoerl & Kennard 1970.
        """
        penalised = self.gram_DD + alpha * np.eye(len(self.gram_DD))
        weights_DC = np.linalg.solve(penalised, self.moment_DC)
        intercept_C = self.goal_C - self.mean_D @ weights_DC
        return np.vstack([weights_DC, intercept_C[None, :]])


def _normal(scaled_ND: FloatArray, goal_NC: FloatArray, weight_N: FloatArray) -> _Normal:
    share_N = weight_N / weight_N.sum()
    mean_D, goal_C = share_N @ scaled_ND, share_N @ goal_NC
    centred = scaled_ND - mean_D
    weighted = centred * weight_N[:, None]
    return _Normal(
        gram_DD=weighted.T @ centred,
        moment_DC=weighted.T @ (goal_NC - goal_C),
        mean_D=mean_D,
        goal_C=goal_C,
    )


def _shares(scores_NC: FloatArray) -> FloatArray:
    """Clip indicator regressions to probabilities; uniform where all are clipped."""
    clipped = np.clip(scores_NC, 0.0, None)
    total = clipped.sum(axis=1, keepdims=True)
    even = 1.0 / scores_NC.shape[1]
    shares: FloatArray = np.where(total > 0, clipped / np.where(total > 0, total, 1.0), even)
    return shares
