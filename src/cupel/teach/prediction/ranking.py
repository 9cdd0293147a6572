"""The predicted ELP as a ranking, against rankings that cost less: entropy, margin, p_base, random.

Knows labels and out-of-fold predictions. Refuses to compare rankings on different moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cupel.lab.randomness import Randomness
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.prediction.metrics import KS, TopScore, clustered_difference, rankings
from cupel.teach.prediction.targets import FloatArray, IntArray, Predicted, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Labels, tasks and targets of the rows that are scored, and what each model said of them."""

    labels: Sequence[LabelledMoment]
    tasks_N: IntArray
    targets: Targets
    said: Mapping[str, Predicted]
    model: str


def ranking_scores(judged: Judged, randomness: Randomness) -> dict[str, Any]:
    """Score the models' predicted ELP against entropy, margin, p_base and random as rankings.

    All on the moments for which every one of them is known; a ranking known of none is named in
    `not_available`.
    """
    known = judged.targets.known("elp")
    found, absent = _rankings(judged, known)
    for ranking_N in found.values():
        known = known & np.isfinite(ranking_N)
    n = int(known.sum())
    if n < 2:
        return {"n": n, "not_available": absent, "rankings": {}, "versus_entropy": {}}
    label_N = judged.targets.values["elp"][known]
    kept = {name: ranking_N[known] for name, ranking_N in found.items()}
    scored = rankings(label_N, kept, rng=randomness.generator("predict/random_ranking"))
    return {
        "n": n,
        "label": "ELP without optimism (exact, or of split halves), never the largest gain",
        "not_available": absent,
        "ties": "items that tie share their places evenly",
        "rankings": {
            name: {str(k): asdict(score) for k, score in by_k.items()}
            for name, by_k in scored.items()
        },
        "versus_entropy": _versus(judged, label_N, kept, scored, known, randomness),
    }


def _rankings(judged: Judged, known: Any) -> tuple[dict[str, FloatArray], list[str]]:
    tests = [label.patch_test for label in judged.labels]
    measures = [label.uncertainty for label in judged.labels]
    found: dict[str, FloatArray] = {
        name: said.values["elp"] for name, said in judged.said.items() if "elp" in said.values
    }
    found["entropy"] = _floats([label.U for label in judged.labels])
    found["margin"] = _floats([None if u is None else u.margin for u in measures])
    found["p_base"] = _floats([None if test is None else -test.p_base.value for test in tests])
    absent = [name for name, each in found.items() if not (np.isfinite(each) & known).any()]
    return {name: each for name, each in found.items() if name not in absent}, absent


def _versus(
    judged: Judged,
    label_N: FloatArray,
    kept: Mapping[str, FloatArray],
    scored: Mapping[str, Mapping[int, TopScore]],
    known: Any,
    randomness: Randomness,
) -> dict[str, Any]:
    if judged.model not in kept or "entropy" not in kept:
        return {}
    found: dict[str, Any] = {}
    for k in KS:
        mine, theirs = scored[judged.model][k], scored["entropy"][k]
        intervals = clustered_difference(
            label_N,
            kept[judged.model],
            kept["entropy"],
            judged.tasks_N[known],
            k=k,
            rng=randomness.generator("predict/versus_entropy", k),
        )
        gain = None if mine.ndcg is None or theirs.ndcg is None else mine.ndcg - theirs.ndcg
        differences = {"precision_pos": mine.precision_pos - theirs.precision_pos, "ndcg": gain}
        scores_of_entropy = {"precision_pos": theirs.precision_pos, "ndcg": theirs.ndcg}
        found[str(k)] = {
            name: {
                "difference": value,
                "entropy": scores_of_entropy[name],
                "interval": _interval_row(intervals[name]),
            }
            for name, value in differences.items()
        }
    return found


def _interval_row(interval: Any) -> dict[str, Any] | None:
    return None if interval is None else asdict(interval)


def _floats(values: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
