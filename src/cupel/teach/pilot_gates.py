"""The numbers a pilot is held to: not whether files exist, but whether they say what they must.

Knows result folders and seven criteria. Refuses to say yes without a figure: what cannot be
computed is no pass.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cupel.errors import CupelError
from cupel.lab.store import read_study
from cupel.stats.clustered import clustered_mean
from cupel.teach.artifacts import ARTIFACTS, lacking
from cupel.teach.environments.base import EnvironmentConfig, make_environment, restore
from cupel.teach.labelling.files import read_labels
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment

LABELS = "phase1_labeling/labeled_snapshots.jsonl"
EXPERT_LEAST = 0.95
STUDENT_BAND = (0.30, 0.60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One criterion: its figure in words, and whether it holds."""

    name: str
    criterion: str
    figure: str
    passed: bool


def check_pilot(root: Path, environment: EnvironmentConfig) -> tuple[Gate, ...]:
    """Hold the results of a pilot to its gates.

    A student outside the band is told and fails, because failures must be neither all nor none.
    """
    labels: Callable[[], Sequence[LabelledMoment]] = lambda: read_labels(root / LABELS)  # noqa: E731
    return (
        _gate("expert", f"success >= {EXPERT_LEAST}", lambda: _expert(root)),
        _gate("student", f"success in {list(STUDENT_BAND)}", lambda: _student(root)),
        _gate(
            "restored",
            "every snapshot restores to its hash",
            lambda: _hashes(labels(), environment),
        ),
        _gate("placebo", "interval of p_placebo - p_base holds 0", lambda: _placebo(labels())),
        _gate("order", "mean p_expert >= p_force >= p_policy", lambda: _order(labels())),
        _gate("quadrants", "all four populated", lambda: _quadrants(labels())),
        *(
            _gate(folder, "every run done", lambda folder=folder: _runs(root / folder))  # type: ignore[misc]
            for folder in ("phase2_training", "phase5_selection")
        ),
        _gate("files", "every documented file with its columns", lambda: _files(root)),
    )


def _gate(name: str, criterion: str, look: Callable[[], tuple[str, bool]]) -> Gate:
    try:
        figure, passed = look()
    except (CupelError, OSError, KeyError, ValueError) as error:
        figure, passed = f"cannot be read: {error}", False
    return Gate(name=name, criterion=criterion, figure=figure, passed=passed)


def _success(path: Path) -> tuple[int, int]:
    told = json.loads(path.read_bytes())["statistics"]
    return int(told["n_successes"]), int(told["n_rollouts"])


def _expert(root: Path) -> tuple[str, bool]:
    found = sorted((root / "phase0/expert_trajectories").glob("all_trajectories_*.json"))
    if not found:
        return "no all_trajectories_*.json", False
    won, n = _success(found[-1])
    return f"{won} of {n}", won >= EXPERT_LEAST * n


def _student(root: Path) -> tuple[str, bool]:
    won, n = _success(root / "phase0/rollouts.json")
    low, high = STUDENT_BAND
    return f"{won} of {n} = {won / n:.2f}", low <= won / n <= high


def _hashes(labels: Sequence[LabelledMoment], environment: EnvironmentConfig) -> tuple[str, bool]:
    made = make_environment(environment)
    for label in labels:
        restore(label.moment.snapshot, made)
    return f"{len(labels)} of {len(labels)}", bool(labels)


def _placebo(labels: Sequence[LabelledMoment]) -> tuple[str, bool]:
    tested = [label for label in labels if label.patch_test is not None]
    gains = [
        label.patch_test.p_placebo.value - label.patch_test.p_base.value
        for label in tested
        if label.patch_test is not None
    ]
    names = sorted({label.moment.task_id for label in tested})
    cluster_N = np.array([names.index(label.moment.task_id) for label in tested])
    found = clustered_mean(gains, cluster_N)
    if found.interval is None:
        return f"{found.mean:+.4f} everywhere", found.mean == 0
    low, high = found.interval.low, found.interval.high
    return f"{found.mean:+.4f} [{low:+.4f}, {high:+.4f}]", low <= 0 <= high


def _order(labels: Sequence[LabelledMoment]) -> tuple[str, bool]:
    levers = [label.leverage for label in labels if label.leverage is not None]
    means = [
        float(np.mean([getattr(lever, name).value for lever in levers]))
        for name in ("p_expert", "p_force", "p_policy")
    ]
    figure = " >= ".join(f"{mean:.3f}" for mean in means)
    return f"{figure} (n = {len(levers)})", means == sorted(means, reverse=True)


def _quadrants(labels: Sequence[LabelledMoment]) -> tuple[str, bool]:
    counts = Counter(label.quadrant for label in labels if label.moment.split == "train")
    figure = ", ".join(f"{name[:2]} {counts[name]}" for name in QUADRANTS)
    return f"{figure} in the training split", all(counts[name] for name in QUADRANTS)


def _runs(folder: Path) -> tuple[str, bool]:
    runs = read_study(folder).runs
    done = sum(run.status == "done" for run in runs)
    return f"{done} of {len(runs)}", done == len(runs)


def _files(root: Path) -> tuple[str, bool]:
    problems = {a.path: problem for a in ARTIFACTS if (problem := lacking(root, a))}
    if problems:
        return "; ".join(f"{path}: {problem}" for path, problem in problems.items()), False
    return f"{len(ARTIFACTS)} of {len(ARTIFACTS)}", True
