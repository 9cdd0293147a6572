"""Phase 4, recipe `teach.predict`: train predictors of teachability and tell how good they are.

Knows the order: folds by task, every model on every fold, then the final model on all rows. Every
reported number is of predictions for tasks that the model did not see, early stopping included.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from cupel.config import Config, canonical_json
from cupel.errors import DataError
from cupel.lab.files import file_sha256, read_json_lines, write_atomically, write_json
from cupel.lab.metrics import Metric, Scalar
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.teach.labelling.files import read_labels
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.prediction.features import feature_matrix, feature_set_id, told_answers
from cupel.teach.prediction.files import save_predictor
from cupel.teach.prediction.predictor import (
    Fitted,
    Kept,
    PredictorConfig,
    fit,
    task_folds,
    task_numbers,
)
from cupel.teach.prediction.ranking import Judged
from cupel.teach.prediction.report import error_analysis, evaluation
from cupel.teach.prediction.rows import gathered, prediction_row, training_result
from cupel.teach.prediction.targets import REGRESSIONS, FloatArray, IntArray, Targets, targets_of
from cupel.teach.splits import Split

OUT_OF_FOLD = "out_of_fold.jsonl"
CURVES = "curves.jsonl"
_ERRORS = tuple(f"{model}_{head}_mae" for model in ("ridge", "gbm", "mlp") for head in REGRESSIONS)

METRICS = (
    Metric(name="step", meaning="Fold, from 0.", unit="count"),
    Metric(name="n_train", meaning="Moments learned from.", unit="count"),
    Metric(name="n_test", meaning="Moments predicted.", unit="count"),
    Metric(name="tasks_train", meaning="Tasks learned from.", unit="count"),
    Metric(name="tasks_test", meaning="Tasks predicted.", unit="count"),
    *(
        Metric(
            name=name,
            meaning="Mean absolute error on the tasks held out.",
            unit="label",
            higher_is_better=False,
        )
        for name in _ERRORS
    ),
    Metric(name="mlp_best_epoch", meaning="Epoch the network kept.", unit="count"),
    Metric(
        name="mlp_best_val_loss",
        meaning="Its loss on the training tasks held out for early stopping; not a result.",
        unit="loss",
        higher_is_better=False,
    ),
)


class PredictConfig(Config):
    """What is predicted from what."""

    labels: str = ""
    """labeled_snapshots.jsonl (or .json) of a labelling run."""
    splits: list[Split] = Field(default_factory=lambda: list(_TRAIN))
    """Splits of tasks that are learned from; moments of other splits are predicted and scored
    apart."""
    predictor: PredictorConfig = Field(default_factory=PredictorConfig)
    """Features, models and how they are trained."""


_TRAIN: tuple[Split, ...] = ("train",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All moments, and which of them are learned from."""

    labels: tuple[LabelledMoment, ...]
    features_ND: FloatArray
    n_text: int
    targets: Targets
    learned: IntArray
    tasks: IntArray

    def of(self, index: IntArray) -> tuple[FloatArray, Targets, IntArray]:
        """Return features, targets and tasks of some rows."""
        return self.features_ND[index], self.targets.rows(index), self.tasks[index]


class PredictRecipe:
    """`teach.predict`: a predictor of U, leverage, ELP, quadrant and route from cheap features."""

    name = "teach.predict"
    config_type = PredictConfig
    streams: Mapping[str, Sequence[Metric] | None] = {
        "metrics.jsonl": METRICS,
        OUT_OF_FOLD: None,
        CURVES: None,
    }
    preload = ("cupel.teach.prediction.recipe",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the settings as they were passed."""
        return data

    def forecast(self, config: PredictConfig) -> Forecast:
        """Say how many folds are trained, and warn of features that tell the answer."""
        told = told_answers(config.predictor.features)
        warnings = [
            f"features {', '.join(told)} are the label itself or known only afterwards; scores of "
            "heads that depend on them are no evidence"
        ]
        return Forecast(
            costs={"steps": config.predictor.folds},
            warnings=warnings if told else (),
            preload=("torch",) if "mlp" in config.predictor.models else (),
        )

    def run(self, config: PredictConfig, context: RunContext) -> Result:
        """Train and judge, fold by fold; continue behind the last complete fold."""
        return predict(config, context)


RECIPE = PredictRecipe()


def predict(config: PredictConfig, context: RunContext) -> Result:
    """Train every model on every fold, then the stored one on all rows, and write the files."""
    settings = config.predictor
    rows = read(config)
    folds = task_folds(rows.tasks[rows.learned], settings.folds)
    done = 0 if context.resume is None else context.resume.step
    for number, fold in enumerate(folds[done:], start=done):
        train_fold(
            rows, rows.learned[fold.train], rows.learned[fold.test], settings, context, number
        )
        context.checkpoints.save(number + 1, lambda folder: None, {})
    curves = read_json_lines(context.folder / CURVES)
    kept = kept_of(curves)
    final = _fit(rows, rows.learned, settings, context, model=settings.model, kept=kept)
    return finish(config, context, rows, final, curves, None if kept is None else kept.epochs)


def read(config: PredictConfig) -> Rows:
    """Read the labels and compute what is learned from them.

    Raises:
        DataError: no labels, or none of the splits that are learned from.
    """
    if not config.labels:
        raise DataError("predict: no labels; give labels = labeled_snapshots.jsonl")
    labels = tuple(sorted(read_labels(Path(config.labels)), key=lambda label: label.id))
    learned = [i for i, label in enumerate(labels) if label.moment.split in config.splits]
    if not learned:
        raise DataError(
            f"predict: none of the {len(labels)} moments of {config.labels} is of split "
            f"{' or '.join(config.splits)}; label more tasks, or choose other splits"
        )
    targets = targets_of(labels)
    if not any(targets.rows(np.array(learned)).known(head).any() for head in REGRESSIONS):
        raise DataError(
            f"predict: {config.labels} holds no label at all (no U, no leverage, no patch test); "
            "label the snapshots with cupel teach label"
        )
    moments = [label.moment for label in labels]
    matrix = feature_matrix(moments, config.predictor.features)
    return Rows(
        labels=labels,
        features_ND=matrix.values_ND,
        n_text=matrix.n_text,
        targets=targets,
        learned=np.array(learned, dtype=np.int64),
        tasks=task_numbers([moment.task_id for moment in moments]),
    )


def train_fold(
    rows: Rows,
    train: IntArray,
    test: IntArray,
    settings: PredictorConfig,
    context: RunContext,
    number: int,
) -> None:
    """Fit every model on one fold and log what it says of the tasks that were held out."""
    errors: dict[str, Scalar] = {}
    for name in settings.models:
        fitted = _fit(rows, train, settings, context, model=name, fold=number)
        said = fitted.predict(rows.features_ND[test])
        context.recorder.log_many(
            OUT_OF_FOLD,
            (
                {"fold": number, "model": name} | prediction_row(rows.labels[index], said, at)
                for at, index in enumerate(test)
            ),
        )
        for head, value_M in said.values.items():
            label_M = rows.targets.values[head][test]
            known = np.isfinite(label_M)
            if known.any():
                errors[f"{name}_{head}_mae"] = float(np.abs(value_M - label_M)[known].mean())
        if fitted.curve is not None:
            context.recorder.log(CURVES, {"fold": number} | dict(fitted.curve))
            errors["mlp_best_epoch"] = fitted.curve["best_epoch"]
            errors["mlp_best_val_loss"] = fitted.curve["best_val_loss"]
    counts: dict[str, Scalar] = {
        "step": number,
        "n_train": len(train),
        "n_test": len(test),
        "tasks_train": len(np.unique(rows.tasks[train])),
        "tasks_test": len(np.unique(rows.tasks[test])),
    }
    context.recorder.log("metrics.jsonl", counts | errors)


def kept_of(curves: Sequence[Mapping[str, Any]]) -> Kept | None:
    """Return how the final network is trained: the medians of what the folds kept."""
    if not curves:
        return None
    found = {
        head: [float(curve["slopes"][head]) for curve in curves if head in curve["slopes"]]
        for head in REGRESSIONS
    }
    return Kept(
        epochs=max(1, round(statistics.median(int(curve["best_epoch"]) for curve in curves))),
        slopes={head: statistics.median(each) for head, each in found.items() if each},
    )


def finish(
    config: PredictConfig,
    context: RunContext,
    rows: Rows,
    final: Fitted,
    curves: Sequence[Mapping[str, Any]],
    epochs: int | None,
) -> Result:
    """Judge the out-of-fold predictions, and write every derived file."""
    settings = config.predictor
    logged = read_json_lines(context.folder / OUT_OF_FOLD)
    learned = [rows.labels[i] for i in rows.learned]
    judged = Judged(
        labels=learned,
        tasks_N=rows.tasks[rows.learned],
        targets=rows.targets.rows(rows.learned),
        said={
            name: gathered([row for row in logged if row["model"] == name], learned)
            for name in settings.models
        },
        model=settings.model,
    )
    told = evaluation(judged, context.randomness) | {
        "folds": settings.folds,
        "splits": list(config.splits),
        "feature_set_id": feature_set_id(settings.features),
        "told_answers": list(told_answers(settings.features)),
        "held_out": _held_out(rows, final, context),
        "labels_sha256": file_sha256(Path(config.labels)),
    }
    write_json(context.folder / "evaluation_metrics.json", told)
    write_json(context.folder / "error_analysis.json", error_analysis(judged))
    write_json(context.folder / "training_result.json", training_result(told, curves, epochs))
    own = [row for row in logged if row["model"] == settings.model]
    _write_predictions(context.folder, rows, final, own)
    save_predictor(
        context.folder / "predictor",
        final,
        settings,
        input_dim=rows.features_ND.shape[1],
        out_of_fold=sorted(own, key=lambda row: str(row["snapshot_id"])),
        epochs=epochs,
    )
    return Result(values=_values(told))


def _fit(
    rows: Rows,
    index: IntArray,
    settings: PredictorConfig,
    context: RunContext,
    *,
    model: Any,
    fold: int | None = None,
    kept: Kept | None = None,
) -> Fitted:
    """Fit a model on rows; its seed is that of the run and the fold."""
    features_ND, targets, tasks_N = rows.of(index)
    number = 0 if fold is None else fold + 1
    seed = int(context.randomness.generator("predict/fit", number).integers(2**31))
    return fit(
        model,
        features_ND,
        targets,
        tasks_N,
        settings,
        n_text=rows.n_text,
        seed=seed,
        threads=context.slot.threads,
        kept=kept if fold is None else None,
    )


def _held_out(rows: Rows, final: Fitted, context: RunContext) -> dict[str, Any] | None:
    """Score the final model on the splits it never saw; None when there are fewer than 2 rows."""
    others = np.setdiff1d(np.arange(len(rows.labels)), rows.learned)
    if len(others) < 2:
        return None
    judged = Judged(
        labels=[rows.labels[i] for i in others],
        tasks_N=rows.tasks[others],
        targets=rows.targets.rows(others),
        said={final.name: final.predict(rows.features_ND[others])},
        model=final.name,
    )
    told = evaluation(judged, context.randomness)
    kept = ("n_samples", "n_tasks", "missing_labels", "regression_metrics")
    return {key: told[key] for key in (*kept, "classification_metrics", "ranking")}


def _write_predictions(
    folder: Path, rows: Rows, final: Fitted, own: Sequence[Mapping[str, Any]]
) -> None:
    """Write predictions.jsonl: out of fold for what was learned from, the model's for the rest."""
    said = final.predict(rows.features_ND)
    out_of_fold = {str(row["snapshot_id"]): dict(row) for row in own}
    lines = []
    for at, label in enumerate(rows.labels):
        row = out_of_fold.get(label.id) or prediction_row(label, said, at)
        source = "out_of_fold" if label.id in out_of_fold else "model"
        kept = {key: value for key, value in row.items() if key not in ("fold", "model")}
        lines.append(canonical_json(kept | {"split": label.moment.split, "source": source}))
    write_atomically(folder / "predictions.jsonl", ("\n".join(lines) + "\n").encode())


def _values(told: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the headline numbers for result.json."""
    values: dict[str, Scalar] = {"n_samples": told["n_samples"], "n_tasks": told["n_tasks"]}
    for head in REGRESSIONS:
        score = told["regression_metrics"].get(head) or {}
        values[f"r2_{head}"] = score.get("r2")
        values[f"r2_{head}_ceiling"] = score.get("ceiling_r2")
        values[f"spearman_{head}"] = score.get("spearman")
    values["accuracy_quadrant"] = told["classification_metrics"].get("accuracy")
    checked = [gate for gate in told["gates"] if gate["passed"] is not None]
    values["gates_passed"] = sum(gate["passed"] for gate in checked)
    values["gates"] = len(checked)
    return values
