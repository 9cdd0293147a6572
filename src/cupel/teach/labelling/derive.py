"""From primary records to labelled rows, and the figures by which a labelling is judged.

Pure. Knows hints, distributions and outcomes. Refuses to stand in for what was not measured: an
earlier label is kept where a stage did not measure, and None stays None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cupel.config import to_dict
from cupel.errors import DataError
from cupel.stats.clustered import clustered_mean
from cupel.teach.branches.arms import Arm, Arms, probability
from cupel.teach.labelling.config import LabelConfig
from cupel.teach.labelling.depth import with_depth
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.labelling.leverage import leverage_of, order_of
from cupel.teach.labelling.patch_test import helps, patch_test_of
from cupel.teach.labelling.quadrants import (
    Thresholds,
    assign,
    counts_of,
    fit_thresholds,
    short_of,
    thresholds_row,
)
from cupel.teach.labelling.uncertainty import WARM_START, primary, uncertainty_of, warm_start
from cupel.teach.records import Hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """Labelled rows, and how they were cut.

    Attributes:
        thresholds: None where nothing was to be assigned, or `refusal` says why it could not be.
    """

    rows: tuple[LabelledMoment, ...]
    thresholds: Thresholds | None
    refusal: str | None


def labelled(
    rows: Sequence[LabelledMoment],
    config: LabelConfig,
    *,
    hints: Mapping[str, Hint],
    probs: Mapping[str, Sequence[float]],
    arms: Mapping[str, Arms],
) -> Labelling:
    """Lay what was measured over the rows; quadrants are cut over all of them, old and new.

    A degenerate cut leaves every row UNASSIGNED and is told in `refusal`.
    """
    measured = [_measured(row, config, hints, probs, arms) for row in rows]
    if "depth" in config.stages:
        measured = list(with_depth(measured, tau=config.tau_recover))
    if not config.quadrants.assign:
        return Labelling(rows=tuple(measured), thresholds=None, refusal=None)
    try:
        thresholds = fit_thresholds(measured, config.quadrants)
    except DataError as error:
        bare = (replace(row, quadrant="UNASSIGNED", quadrant_probs={}) for row in measured)
        return Labelling(rows=tuple(bare), thresholds=None, refusal=str(error))
    return Labelling(rows=assign(measured, thresholds), thresholds=thresholds, refusal=None)


def _measured(
    row: LabelledMoment,
    config: LabelConfig,
    hints: Mapping[str, Hint],
    probs: Mapping[str, Sequence[float]],
    arms: Mapping[str, Arms],
) -> LabelledMoment:
    changed: dict[str, Any] = {}
    if row.id in hints:
        changed["hint"] = hints[row.id]
    if row.id in probs:
        changed["uncertainty"] = uncertainty_of(probs[row.id])
    known = changed.get("uncertainty", row.uncertainty)
    if known is not None:
        changed["U"] = primary(known, config.primary_uncertainty)
    if row.id in arms and "leverage" in config.stages:
        changed["leverage"] = leverage_of(arms[row.id])
    if row.id in arms and "patch" in config.stages:
        changed["patch_test"] = patch_test_of(arms[row.id])
    return replace(row, **changed)


def gates_of(labelling: Labelling, config: LabelConfig) -> list[dict[str, Any]]:
    """Return the pass criteria of a labelling, each with its figure; None: nothing to judge."""
    rows = labelling.rows
    training = counts_of(row for row in rows if row.moment.split == "train")
    at_least = config.quadrants.min_per_quadrant
    short = {name: training[name] for name in short_of(training, at_least)}
    smallest = min(count for name, count in training.items() if name != "UNASSIGNED")
    asked = config.quadrants.assign
    start = warm_start(row.uncertainty for row in rows if row.uncertainty is not None)
    order = order_of(row.leverage for row in rows if row.leverage is not None)
    return [
        _gate(
            "quadrants", f"at least {at_least} training moments in each",
            smallest if asked else None, not short if asked else None,
            counts=training, short=short, problem=labelling.refusal,
        ),
        _gate(
            "warm_start", f"mean entropy / mean ln A inside {WARM_START}", start.ratio,
            start.passed if start.moments else None, n=start.moments,
        ),
        _gate(
            "leverage_order", "means p_expert >= p_force >= p_policy", order.share_ordered,
            order.passed if order.moments else None, n=order.moments,
            p_policy=order.p_policy, p_force=order.p_force, p_expert=order.p_expert,
        ),
        placebo_gate(rows),
    ]  # fmt: skip


def placebo_gate(rows: Iterable[LabelledMoment]) -> dict[str, Any]:
    """Hold p_placebo - p_base to 0: its interval, clustered by task, covers it."""
    tested = [row for row in rows if row.patch_test is not None]
    effects = [
        row.patch_test.p_placebo.value - row.patch_test.p_base.value
        for row in tested
        if row.patch_test is not None
    ]
    tasks = np.unique([row.moment.task_id for row in tested], return_inverse=True)[1]
    name, allowed = "placebo", "95 % interval of the mean of p_placebo - p_base covers 0"
    if len(set(tasks.tolist())) < 2:
        return _gate(name, allowed, None, None, n=len(effects))
    mean = clustered_mean(effects, tasks)
    low, high = (
        (mean.mean, mean.mean) if mean.interval is None else (mean.interval.low, mean.interval.high)
    )
    return _gate(name, allowed, mean.mean, low <= 0 <= high, n=len(effects), lo=low, hi=high)


def agreement(arms: Mapping[str, Arms]) -> dict[str, Any] | None:
    """Hold rollouts to exact values: None where no condition has both.

    `largest_z` is the largest distance in standard errors of the exact value; `within_3` the
    share within 3.
    """
    distances = [
        _distance(arm) for one in arms.values() for arm in one.values() if arm.n and _known(arm)
    ]
    if not distances:
        return None
    return {
        "conditions": len(distances),
        "within_3": sum(distance <= 3 for distance in distances) / len(distances),
        "largest_z": max(distances),
    }


def counts_and_means(rows: Sequence[LabelledMoment]) -> dict[str, float | int | None]:
    """Count labels and average them; a mean over nothing is None."""
    leverages = [row.leverage for row in rows if row.leverage is not None]
    tests = [row.patch_test for row in rows if row.patch_test is not None]
    splits = [test.ELP_split.value for test in tests if test.ELP_split is not None]
    return {
        "moments": len(rows),
        "moments_train": sum(row.moment.split == "train" for row in rows),
        "with_U": sum(row.U is not None for row in rows),
        "with_leverage": len(leverages),
        "with_patch_test": len(tests),
        "with_depth": sum(row.depth is not None for row in rows),
        "mean_U": _mean([row.U for row in rows if row.U is not None]),
        "mean_L_local": _mean([one.L_local.value for one in leverages]),
        "mean_L_upper": _mean([one.L_upper.value for one in leverages]),
        "mean_ELP_net": _mean([test.ELP_net for test in tests]),
        "mean_ELP_split": _mean(splits),
        "shown_to_help": sum(bool(helps(test)) for test in tests),
        "routes_undecided": sum(test.route_split is None for test in tests),
    }


def metadata_row(
    labelling: Labelling,
    config: LabelConfig,
    *,
    student: str | None,
    seed: int,
    stop: str,
    arms: Mapping[str, Arms],
) -> dict[str, Any]:
    """Return the settings of a labelling and what became of them, for labeling_metadata.json."""
    data = to_dict(config)
    thresholds = labelling.thresholds
    return {
        "input": config.snapshots,
        "policy": data["student"] | {"identity": student},
        "env": data["environment"] | {"mock_env": config.environment.name == "corridor"},
        "teacher": {
            "mock": config.teacher.kind != "api",
            "enabled": "hints" in config.stages,
            "config": data["teacher"],
        },
        "labeling": {
            "stages": data["stages"],
            "skip_leverage": "leverage" not in config.stages,
            "skip_cpt": "patch" not in config.stages,
            "leverage": {name: data["rollouts"][name] for name in ("policy", "force", "expert")},
            "cpt": {"n_per_condition": config.rollouts.patch, "patch_steps": config.patch_steps},
            "estimate": config.estimate,
            "horizon": config.horizon,
            "primary_uncertainty": config.primary_uncertainty,
        },
        "allocation": data["allocation"] | {"stop": stop},
        "exact_against_rollouts": agreement(arms),
        "quadrants": {
            "assign": config.quadrants.assign,
            "method": config.quadrants.method,
            "thresholds": None if thresholds is None else thresholds_row(thresholds),
            "counts": counts_of(labelling.rows),
            "problem": labelling.refusal,
        },
        "seed": seed,
    }


def _known(arm: Arm) -> bool:
    return arm.lo is not None and arm.hi is not None


def _distance(arm: Arm) -> float:
    """Return how far the rate lies outside the exact bounds, in standard errors."""
    bounds = probability(arm)
    assert bounds is not None
    rate = arm.k / arm.n
    nearest = min(max(rate, bounds.lo), bounds.hi)
    # half a rollout of continuity; no smaller error than that of a probability of 1 / (n + 2)
    p = min(max(nearest, 1 / (arm.n + 2)), 1 - 1 / (arm.n + 2))
    return max(0.0, abs(rate - nearest) - 0.5 / arm.n) / math.sqrt(p * (1 - p) / arm.n)


def _gate(
    name: str, allowed: str, figure: float | None, passed: bool | None, **facts: Any
) -> dict[str, Any]:
    return {"gate": name, "allowed": allowed, "figure": figure, "passed": passed, **facts}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
