"""Rows of predictions: written fold by fold, gathered again to be judged.

Knows the row of one moment, and training_result.json. Refuses to invent a prediction for a head
that had no labels: its key is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from cupel.errors import DataError
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.prediction.targets import CLASSES, REGRESSIONS, Predicted, targets_of


def prediction_row(label: LabelledMoment, said: Predicted, at: int) -> dict[str, Any]:
    """Return the row of one moment: predictions, and the labels beside them."""
    row: dict[str, Any] = {"snapshot_id": label.id, "task_id": label.moment.task_id}
    targets = targets_of([label])
    for head in REGRESSIONS:
        row[head] = float(said.values[head][at]) if head in said.values else None
        measured = float(targets.values[head][0])
        row[f"measured_{head}"] = measured if np.isfinite(measured) else None
    for name, classes in CLASSES.items():
        probs = said.probs.get(name)
        row[name] = None if probs is None else classes[int(probs[at].argmax())]
        row[f"{name}_probs"] = None if probs is None else [float(share) for share in probs[at]]
        known = int(targets.classes[name][0])
        row[f"measured_{name}"] = classes[known] if known >= 0 else None
    return row


def gathered(rows: Sequence[Mapping[str, Any]], labels: Sequence[LabelledMoment]) -> Predicted:
    """Return rows of one model as arrays in the order of `labels`; NaN where a fold had no head.

    Raises:
        DataError: a moment has no row, or two.
    """
    by_id = {str(row["snapshot_id"]): row for row in rows}
    if len(by_id) != len(rows) or any(label.id not in by_id for label in labels):
        raise DataError(
            f"out-of-fold predictions: {len(rows)} rows of {len(by_id)} moments for {len(labels)} "
            "moments; every moment is predicted once. Start the run again in an empty folder"
        )
    ordered = [by_id[label.id] for label in labels]
    values = {
        head: np.array([_number(row[head]) for row in ordered])
        for head in REGRESSIONS
        if all(row[head] is not None for row in ordered)
    }
    probs = {
        name: np.array([row[f"{name}_probs"] for row in ordered])
        for name in CLASSES
        if all(row[f"{name}_probs"] is not None for row in ordered)
    }
    return Predicted(values=values, probs=probs)


def training_result(
    told: Mapping[str, Any], curves: Sequence[Mapping[str, Any]], epochs: int | None
) -> dict[str, Any]:
    """Return training_result.json: the documented keys, what they mean beside them."""
    metrics: dict[str, Any] = {
        head: {key: score[key] for key in ("mse", "mae", "correlation", "r2", "ceiling_r2")}
        for head, score in told["regression_metrics"].items()
    }
    if "elp" in metrics:
        metrics["elp"] |= {"spearman": told["regression_metrics"]["elp"]["spearman"]}
        for k, top in told["ranking"]["rankings"].get(told["model"], {}).items():
            metrics["elp"] |= {
                f"precision_pos_at_{k}": top["precision_pos"],
                f"topk_overlap_at_{k}": top["overlap"],
                f"ndcg_at_{k}": top["ndcg"],
                f"k_used_at_{k}": top["k_used"],
            }
    metrics["quadrant"] = {"accuracy": told["classification_metrics"].get("accuracy")}
    held = [curve["best_val_loss"] for curve in curves if curve["best_val_loss"] is not None]
    return {
        "model": told["model"],
        "best_epoch": epochs,
        "best_val_loss": float(np.mean(held)) if held else None,
        "train_losses": _mean_curve([curve["train"] for curve in curves]),
        "val_losses": _mean_curve([curve["val"] for curve in curves]),
        "task_metrics": metrics,
        "noise_ceilings": told["noise_ceilings"],
        "gates": told["gates"],
        "missing_labels": told["missing_labels"],
        "n_samples": told["n_samples"],
        "note": "task_metrics are of tasks held out by fold; losses are means over the folds still "
        "training at that epoch, val_losses of training tasks held out for early stopping; "
        "best_epoch is how long the stored network was trained, the folds' median",
    }


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    return [
        float(np.mean([value for value in values if value is not None]))
        for values in zip_longest(*curves)
    ]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
