"""What is told of a predictor: scores beside their ceilings, rankings beside their rivals, gates.

Knows labels and out-of-fold predictions. Refuses to tell a score without saying on how many
labels, and a gate without its figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from cupel.lab.randomness import Randomness
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.prediction.metrics import (
    KS,
    ClassificationScore,
    score_classes,
    score_regression,
)
from cupel.teach.prediction.noise_ceiling import Ceiling, noise_ceiling
from cupel.teach.prediction.ranking import Judged, ranking_scores
from cupel.teach.prediction.targets import (
    CLASSES,
    REGRESSIONS,
    Classification,
    FloatArray,
    Predicted,
    Regression,
    Targets,
)

R2_REQUIRED: Mapping[Regression, float] = {"uncertainty": 0.6, "leverage": 0.5}
ACCURACY_REQUIRED = 0.7


def evaluation(judged: Judged, randomness: Randomness) -> dict[str, Any]:
    """Return evaluation_metrics.json without what the caller knows (folds, features)."""
    ceilings = _ceilings(judged.targets, randomness)
    models = {name: _model_scores(said, judged, ceilings) for name, said in judged.said.items()}
    own = models[judged.model]
    ranked = ranking_scores(judged, randomness)
    return {
        "n_samples": len(judged.labels),
        "n_tasks": len(np.unique(judged.tasks_N)),
        "model": judged.model,
        "missing_labels": judged.targets.missing(),
        "regression_metrics": own["regression_metrics"],
        "classification_metrics": own["classification_metrics"],
        "per_quadrant_metrics": own["per_quadrant_metrics"],
        "noise_ceilings": {head: _ceiling_row(ceiling) for head, ceiling in ceilings.items()},
        "models": models,
        "ranking": ranked,
        "gates": gates(own, ranked, judged.model),
    }


def gates(scores: Mapping[str, Any], ranked: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    """Return the documented criteria with their figures; `passed` is None without a figure.

    `passed` is the point value against the criterion; `established`, where there is an interval,
    whether all of it is beyond. `accuracy_of_truth` is what one who knows the true quadrants would
    score on these labels; no ceiling, for labels that tie at a threshold all fall on one side of
    it, and that can be learned.
    """
    rows = []
    for head, required in R2_REQUIRED.items():
        score = scores["regression_metrics"].get(head) or {}
        rows.append(_gate(f"R2({head})", score.get("r2"), required, score.get("ceiling_r2")))
    quadrant = scores["classification_metrics"]
    truth = quadrant.get("accuracy_of_truth")
    rows.append(
        _gate("accuracy(quadrant)", quadrant.get("accuracy"), ACCURACY_REQUIRED, None)
        | {"accuracy_of_truth": truth}
    )
    for k, by_score in ranked["versus_entropy"].items():
        for name, row in by_score.items():
            gate = _gate(f"{name}@{k} over entropy", row["difference"], 0.0, None)
            if (
                row["entropy"] is not None and row["entropy"] > 1 - 1e-9
            ):  # a perfect score cannot be beaten: no answer either way
                gate |= {"passed": None, "reachable": False}
            interval = row["interval"]
            established = None if interval is None else bool(interval["low"] > 0)
            rows.append(
                gate | {"value_of": model, "interval": interval, "established": established}
            )
    return rows


def error_analysis(judged: Judged, *, worst: int = 20) -> dict[str, Any]:
    """Return the moments predicted worst, by the first head of elp, leverage, uncertainty that
    has labels and predictions."""
    said = judged.said[judged.model]
    order: tuple[Regression, ...] = ("elp", "leverage", "uncertainty")
    for head in order:
        known = judged.targets.known(head)
        if head in said.values and known.any():
            return _errors(judged, head, said.values[head], known, worst)
    return {"head": None, "worst_cases": [], "error_statistics": {}}


def _errors(
    judged: Judged, head: Regression, said_N: FloatArray, known: Any, worst: int
) -> dict[str, Any]:
    label_N = judged.targets.values[head]
    rows = np.flatnonzero(known)
    error = said_N[rows] - label_N[rows]
    size = np.abs(error)
    first = rows[np.lexsort((rows, -size))][:worst]
    return {
        "head": head,
        "worst_cases": [
            {
                "snapshot_id": judged.labels[i].id,
                "task_id": judged.labels[i].moment.task_id,
                "quadrant": judged.labels[i].quadrant,
                "predicted": float(said_N[i]),
                "measured": float(label_N[i]),
                "error": float(said_N[i] - label_N[i]),
                "label_sd": float(np.sqrt(judged.targets.noise[head][i])),
            }
            for i in first
        ],
        "error_statistics": {
            "n": len(rows),
            "mean_error": float(error.mean()),
            "sd_error": float(error.std()),
            "median_abs_error": float(np.median(size)),
            "p90_abs_error": float(np.quantile(size, 0.9)),
            "max_abs_error": float(size.max()),
        },
    }


def _ceilings(targets: Targets, randomness: Randomness) -> dict[Regression, Ceiling]:
    found = {}
    for number, head in enumerate(REGRESSIONS):
        known = targets.known(head)
        if known.sum() >= 2:
            found[head] = noise_ceiling(
                targets.values[head][known],
                targets.noise[head][known],
                rng=randomness.generator("predict/noise_ceiling", number),
                ks=KS if head == "elp" else (),
            )
    return found


def _ceiling_row(ceiling: Ceiling) -> dict[str, Any]:
    row = asdict(ceiling)
    row["ndcg"] = {str(k): value for k, value in ceiling.ndcg.items()}
    return row


def _model_scores(
    said: Predicted, judged: Judged, ceilings: Mapping[Regression, Ceiling]
) -> dict[str, Any]:
    regression: dict[str, Any] = {}
    for head in REGRESSIONS:
        known = judged.targets.known(head)
        if head in said.values and known.sum() >= 2:
            label_M, said_M = judged.targets.values[head][known], said.values[head][known]
            score = asdict(score_regression(label_M, said_M))
            ceiling = ceilings[head]
            regression[head] = score | {
                "ceiling_r2": ceiling.r2,
                "r2_of_ceiling": _over(score["r2"], ceiling.r2),
                "ceiling_spearman": ceiling.spearman,
                "spearman_of_ceiling": _over(score["spearman"], ceiling.spearman),
            }
    return {
        "regression_metrics": regression,
        "classification_metrics": _classes(said, judged, "quadrant")
        | {"route": _classes(said, judged, "route")},
        "per_quadrant_metrics": _per_quadrant(said, judged),
    }


def _classes(said: Predicted, judged: Judged, head: Classification) -> dict[str, Any]:
    known = judged.targets.known(head)
    if head not in said.probs or not known.any():
        return {"n": 0, "accuracy": None}
    truth, guess = judged.targets.classes[head][known], said.probs[head][known].argmax(axis=1)
    score = score_classes(truth, guess, CLASSES[head])
    row = _class_row(score)
    if head == "quadrant":
        own = [
            label.quadrant_probs.get(label.quadrant)
            for label, used in zip(judged.labels, known, strict=True)
            if used
        ]
        told = [share for share in own if share is not None]
        row["accuracy_of_truth"] = float(np.mean(told)) if len(told) == len(own) else None
    return row


def _class_row(score: ClassificationScore) -> dict[str, Any]:
    return {
        "n": score.n,
        "accuracy": score.accuracy,
        "majority_accuracy": score.majority,
        "balanced_accuracy": score.balanced,
        "classes": list(score.per_class),
        "per_class": {
            f"class_{i}": {"accuracy": accuracy, "support": support, "name": name}
            for i, (name, (accuracy, support)) in enumerate(score.per_class.items())
        },
        "confusion_matrix": [list(row) for row in score.confusion],
    }


def _per_quadrant(said: Predicted, judged: Judged) -> dict[str, Any]:
    in_quadrant = np.array([label.quadrant for label in judged.labels])
    found: dict[str, Any] = {}
    for quadrant in QUADRANTS:
        here = in_quadrant == quadrant
        row: dict[str, Any] = {"n": int(here.sum())}
        for head in REGRESSIONS:
            known = judged.targets.known(head) & here
            if head in said.values and known.any():
                error = said.values[head][known] - judged.targets.values[head][known]
                row[head] = {
                    "n": int(known.sum()),
                    "mae": float(np.abs(error).mean()),
                    "bias": float(error.mean()),
                }
        found[quadrant] = row
    return found


def _over(value: float | None, ceiling: float | None) -> float | None:
    return value / ceiling if value is not None and ceiling else None


def _gate(name: str, value: float | None, required: float, ceiling: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "required": required,
        "passed": None if value is None else bool(value > required),
        "ceiling": ceiling,
        "of_ceiling": _over(value, ceiling),
        "reachable": None if ceiling is None else bool(ceiling > required),
    }
