"""Training predictors of teachability: which models, which folds, one fold's predictions.

Knows folds by task: neighbouring moments of one task are never on both sides. Refuses to report
what a model says of rows it was fitted to, early stopping included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from cupel.config import Config
from cupel.errors import DataError, MissingExtraError
from cupel.teach.prediction.baselines import fit_boosting, fit_ridge, inner_folds
from cupel.teach.prediction.features import FeatureConfig
from cupel.teach.prediction.targets import FloatArray, IntArray, Predicted, Regression, Targets

ModelName = Literal["ridge", "gbm", "mlp"]


class PredictorConfig(Config):
    """What a predictor sees and how it learns."""

    features: FeatureConfig = Field(default_factory=FeatureConfig)
    """What it sees."""
    models: list[ModelName] = Field(default_factory=lambda: list(_ALL))
    """Models trained and compared on the same folds: ridge regression, gradient boosting, and the
    network."""
    model: Literal["ridge", "mlp"] = "mlp"
    """The model that is stored, and that selection uses."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Folds by task behind every reported number."""
    hidden: list[int] = Field(default_factory=lambda: [256, 128])
    """Sizes of the network's trunk."""
    epochs: Annotated[int, Field(ge=1)] = 30
    """Most epochs of the network."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Step size of the network (AdamW)."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of the network."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of hidden units dropped in training."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Rows a step of the network."""
    patience: Annotated[int, Field(ge=1)] = 10
    """Epochs without improvement on held-out training tasks after which the network stops."""
    noise_weighted: bool = False
    """Weigh a label by var / (var + its own sampling variance)."""

    @field_validator("hidden")
    @classmethod
    def _sizes_are_positive(cls, hidden: list[int]) -> list[int]:
        if any(size < 1 for size in hidden):
            raise ValueError("hidden sizes must be at least 1")
        return hidden

    @model_validator(mode="after")
    def _the_stored_model_is_trained(self) -> PredictorConfig:
        if self.model not in self.models:
            raise ValueError(f"model '{self.model}' is stored but not among models")
        return self


_ALL: tuple[ModelName, ...] = ("ridge", "gbm", "mlp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fold by task: indices of the rows that are learned from, and of those predicted."""

    train: IntArray
    test: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the folds found out for the final network: how long to train, how far to shrink."""

    epochs: int
    slopes: Mapping[Regression, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained model. `curve` holds the network's losses; None for the others."""

    name: ModelName
    model: Any
    curve: Mapping[str, Any] | None = None

    def predict(self, features_MD: FloatArray) -> Predicted:
        """Predict every head that had labels."""
        with one_pool(1):
            predicted: Predicted = self.model.predict(features_MD)
        return predicted


def task_numbers(tasks: Sequence[str]) -> IntArray:
    """Return a number for each task, by the order of their names [N]."""
    return np.unique(np.array(tasks, dtype=str), return_inverse=True)[1].astype(np.int64)


def task_folds(tasks_N: IntArray, n_folds: int) -> tuple[Fold, ...]:
    """Split rows by task.

    Raises:
        DataError: fewer tasks than folds, or fewer than 3 tasks.
        MissingExtraError: scikit-learn is not installed.
    """
    n_tasks = len(np.unique(tasks_N))
    if n_tasks < max(n_folds, 3):
        raise DataError(
            f"predictor: {n_tasks} tasks, {n_folds} folds; every fold needs a task of its own and "
            f"3 tasks are the least. Label more tasks, or lower folds to {max(2, n_tasks)}"
        )
    return tuple(Fold(train=train, test=test) for train, test in inner_folds(tasks_N, n_folds))


def fit(
    name: ModelName,
    features_ND: FloatArray,
    targets: Targets,
    tasks_N: IntArray,
    config: PredictorConfig,
    *,
    n_text: int,
    seed: int,
    threads: int,
    kept: Kept | None = None,
) -> Fitted:
    """Train one model on rows.

    Args:
        n_text: how many columns, the last ones, are embedded text.
        kept: train the network so, on all rows; None holds training tasks out for early stopping.

    Raises:
        MissingExtraError: scikit-learn or torch is not installed.
    """
    weighted = config.noise_weighted
    with one_pool(threads):
        match name:
            case "ridge":
                model: Any = fit_ridge(
                    features_ND, targets, tasks_N, n_text=n_text, noise_weighted=weighted
                )
            case "gbm":
                model = fit_boosting(features_ND, targets, noise_weighted=weighted, seed=seed)
            case "mlp":
                return _fit_network(
                    features_ND,
                    targets,
                    tasks_N,
                    config,
                    n_text=n_text,
                    seed=seed,
                    threads=threads,
                    kept=kept,
                )
    return Fitted(name=name, model=model)


def one_pool(threads: int) -> AbstractContextManager[Any]:
    """Hold every numerical library to `threads` threads; small arrays gain nothing from more.

    Raises:
        MissingExtraError: scikit-learn (whose threadpoolctl this is) is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError("training a predictor", "teach") from None
    limits: AbstractContextManager[Any] = threadpool_limits(limits=threads)
    return limits


def _fit_network(
    features_ND: FloatArray,
    targets: Targets,
    tasks_N: IntArray,
    config: PredictorConfig,
    *,
    n_text: int,
    seed: int,
    threads: int,
    kept: Kept | None,
) -> Fitted:
    try:
        from cupel.teach.prediction.mlp import Training, fit_mlp
    except ImportError:
        raise MissingExtraError("the network of the predictor", "torch") from None
    training = Training(
        hidden=tuple(config.hidden),
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        dropout=config.dropout,
        batch_size=config.batch_size,
        patience=config.patience,
        noise_weighted=config.noise_weighted,
        n_text=n_text,
        seed=seed,
    )
    network, curve = fit_mlp(
        features_ND,
        targets,
        tasks_N,
        training,
        epochs=None if kept is None else kept.epochs,
        slopes=None if kept is None else kept.slopes,
        threads=threads,
    )
    told = {
        "train": list(curve.train),
        "val": list(curve.val),
        "best_epoch": curve.best_epoch,
        "best_val_loss": curve.best_val_loss,
        "slopes": dict(curve.slopes),
    }
    return Fitted(name="mlp", model=network, curve=told)
