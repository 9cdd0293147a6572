"""What a study folder gives a reader to look at: runs, curves and bands across seeds.

Reads through `cupel.lab.store` only. Knows keys and steps; refuses to fill a hole: a value that
was never logged is NaN inside these arrays and a gap in every picture, and a run that is missing
or damaged is a row with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cupel.errors import DataError
from cupel.lab.store import RunRecord, StudyRecord, read_study
from cupel.report.palette import Ink, inks

FloatT = NDArray[np.float64]
BandKind = Literal["t95", "range", "none"]

MAX_POINTS = 250
"""Points drawn for one curve; longer runs are averaged over blocks of consecutive steps."""

_LABELS = frozenset({"step", "condition", "seed"})
"""Keys that say which row it is; everything else is a measurement."""

_UNITS = {
    "accuracy": "rate",
    "greedy_accuracy": "rate",
    "exec_entropy_mean": "nats",
    "exec_entropy_var": "nats²",
    "plan_entropy_mean": "nats",
    "plan_entropy_var": "nats²",
    "learning_rate": "",
    "mean_reward": "",
    "post_exec_entropy_var": "nats²",
    "sepa_lambda": "",
    "tokens_per_second": "tokens/s",
}


def unit_of(key: str) -> str:
    """Return the unit of a key: as the suffix of its name says, or as the field writes it."""
    name = key.removeprefix("eval/")
    if name in _UNITS:
        return _UNITS[name]
    if name.startswith("pass@"):
        return "rate"
    for suffix, unit in (("_rate", "rate"), ("_s", "s"), ("_nats", "nats"), ("_tokens", "tokens")):
        if name.endswith(suffix):
            return unit
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One run's values of one key over its steps; NaN where the row had none."""

    condition: str
    seed: int
    failed: bool
    steps_T: FloatT
    values_T: FloatT

    @property
    def is_empty(self) -> bool:
        """Whether nothing was logged."""
        return not bool(np.isfinite(self.values_T).any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Mean over the seeds of a condition with its spread, step by step.

    Attributes:
        kind: `t95`, a pointwise 95 % t-interval of the mean (3 or more seeds); `range`, smallest
            to largest (2 seeds); `none` for a single seed.
        count_T: runs that have a value at each step, of `full` runs.
        thinned_out_T: True beyond the last step of the shortest run, where seeds have dropped out.
    """

    condition: str
    kind: BandKind
    steps_T: FloatT
    mean_T: FloatT
    low_T: FloatT
    high_T: FloatT
    count_T: NDArray[np.intp]
    thinned_out_T: NDArray[np.bool_]
    full: int


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A planned run as the report shows it; `problem` says why its rows cannot be read."""

    record: RunRecord
    condition: str
    seed: int
    rows: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    problem: str | None = None
    _curves: dict[str, Curve] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def status(self) -> str:
        """done, failed, running, planned, missing or damaged."""
        return "damaged" if self.problem is not None else self.record.status

    @property
    def reason(self) -> str | None:
        """Why the run is not complete, in words, or None."""
        if self.problem is not None:
            return self.problem
        if self.record.failure is not None:
            kind = str(self.record.failure.get("kind") or "unknown kind")
            return f"{kind}: {self.record.failure.get('message') or 'no message recorded'}"
        if self.status == "missing":
            return "its folder is missing or holds no run"
        if self.status == "failed":
            return "no reason was recorded"
        return None

    @property
    def failed(self) -> bool:
        """Whether the run stopped before its end."""
        return self.status in {"failed", "damaged"}

    @property
    def attempts(self) -> int | None:
        """How often the run was begun; None where its folder does not say."""
        return self.record.attempts

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Every key of its rows, and `eval/<key>` of its evaluations, in order of appearance."""
        found = dict.fromkeys(key for row in self.rows for key in row)
        found |= dict.fromkeys(f"eval/{key}" for row in self.evaluations for key in row)
        return tuple(key for key in found if key.removeprefix("eval/") not in _LABELS)

    def curve(self, key: str) -> Curve:
        """Return the run's curve of a key of metrics.jsonl, or `eval/<key>` of evaluations."""
        found = self._curves.get(key)
        if found is None:
            found = self._curves[key] = self._read(key)
        return found

    def _read(self, key: str) -> Curve:
        rows = self.evaluations if key.startswith("eval/") else self.rows
        rows = [row for row in rows if isinstance(row.get("step"), int | float)]
        name = key.removeprefix("eval/")
        return Curve(
            condition=self.condition,
            seed=self.seed,
            failed=self.failed,
            steps_T=np.array([_number(row.get("step")) for row in rows], dtype=np.float64),
            values_T=np.array([_number(row.get(name)) for row in rows], dtype=np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study as the report shows it: every planned run, in the plan's order."""

    record: StudyRecord
    runs: tuple[RunView, ...]
    inks: Mapping[str, Ink] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """Conditions in the order of the study file."""
        return self.record.study.labels

    @property
    def folder(self) -> Path:
        """The study folder."""
        return self.record.folder

    def of(self, condition: str) -> list[RunView]:
        """Return the runs of a condition."""
        return [run for run in self.runs if run.condition == condition]

    def curves(self, key: str) -> list[Curve]:
        """Return the curves of a key, one for each run that logged any value of it."""
        curves = (run.curve(key) for run in self.runs if run.condition in self.inks)
        return [curve for curve in curves if not curve.is_empty]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of runs by status, in order of first appearance."""
        counts: dict[str, int] = {}
        for run in self.runs:
            counts[run.status] = counts.get(run.status, 0) + 1
        return counts


def load_view(folder: Path) -> StudyView:
    """Read a study folder for showing; a damaged run becomes a row that says so.

    Raises:
        DataError: the folder is no study, or its manifest is damaged.
        ConfigError: its study.toml is not valid.
    """
    record = read_study(folder)
    runs = tuple(_read_run_view(run, record.study.labels) for run in record.runs)
    return StudyView(record=record, runs=runs, inks=inks(record.study.labels))


def _read_run_view(record: RunRecord, labels: Sequence[str]) -> RunView:
    problems: list[str] = []
    streams: dict[str, Sequence[Mapping[str, Any]]] = {}
    for stream in ("metrics.jsonl", "evaluations.jsonl"):
        if record.has(stream):
            try:
                streams[stream] = record.rows(stream)
            except DataError as error:
                problems.append(str(error))
    return run_view(record, labels, streams, problems=problems)


def run_view(
    record: RunRecord,
    labels: Sequence[str],
    streams: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    problems: Sequence[str] = (),
) -> RunView:
    """Return a run as the report shows it, from rows that were read already."""
    found = list(problems)
    if record.condition not in labels:
        found.insert(0, f"its condition '{record.condition}' is not in study.toml")
    return RunView(
        record=record,
        condition=record.condition or "unknown",
        seed=-1 if record.seed is None else record.seed,
        rows=streams.get("metrics.jsonl", ()),
        evaluations=streams.get("evaluations.jsonl", ()),
        problem="; ".join(found) or None,
    )


def _number(value: Any) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    return float("nan")


def thin(curve: Curve, *, block: int) -> Curve:
    """Average a curve over blocks of consecutive rows, each drawn at its first step.

    A block without a value stays a gap.
    """
    if block <= 1:
        return curve
    return Curve(
        condition=curve.condition,
        seed=curve.seed,
        failed=curve.failed,
        steps_T=curve.steps_T[::block],
        values_T=_block_means(curve.values_T, block),
    )


def block_size(curves: Sequence[Curve], *, max_points: int = MAX_POINTS) -> int:
    """Return how many consecutive steps one drawn point stands for; the same for every run."""
    longest = max((curve.steps_T.size for curve in curves), default=0)
    return max(1, -(-longest // max_points))


def average(condition: str, curves: Sequence[Curve]) -> Band | None:
    """Return the mean and band over a condition's runs, or None when none has a value.

    At a step that some runs never reached, the mean is over those that did, and `count_T` says
    how many they were.

    Source: the interval is mean +- t(0.975, n - 1) s / sqrt(n), pointwise.
    """
    mine = [curve for curve in curves if curve.condition == condition and not curve.is_empty]
    if not mine:
        return None
    steps_T = np.unique(np.concatenate([curve.steps_T for curve in mine]))
    values_RT = np.full((len(mine), steps_T.size), np.nan)
    for row, curve in enumerate(mine):
        values_RT[row, np.searchsorted(steps_T, curve.steps_T)] = curve.values_T
    present_RT = np.isfinite(values_RT)
    count_T = present_RT.sum(axis=0)
    safe_T = np.maximum(count_T, 1)
    mean_T = np.where(
        count_T > 0, np.where(present_RT, values_RT, 0.0).sum(axis=0) / safe_T, np.nan
    )
    kind: BandKind = "t95" if len(mine) >= 3 else "range" if len(mine) == 2 else "none"
    low_T, high_T = _spread(kind, values_RT, present_RT, mean_T)
    return Band(
        condition=condition,
        kind=kind,
        steps_T=steps_T,
        mean_T=mean_T,
        low_T=low_T,
        high_T=high_T,
        count_T=count_T,
        thinned_out_T=steps_T > min(float(curve.steps_T.max()) for curve in mine),
        full=len(mine),
    )


def _spread(
    kind: BandKind, values_RT: FloatT, present_RT: NDArray[np.bool_], mean_T: FloatT
) -> tuple[FloatT, FloatT]:
    count_T = present_RT.sum(axis=0)
    if kind == "t95":
        square_T = np.where(present_RT, (values_RT - mean_T) ** 2, 0.0).sum(axis=0)
        degrees_T = np.maximum(count_T - 1, 1)
        error_T = np.sqrt(square_T / degrees_T / np.maximum(count_T, 1))
        half_T = np.where(count_T >= 3, stats.t.ppf(0.975, degrees_T) * error_T, np.nan)
        return mean_T - half_T, mean_T + half_T
    enough_T = count_T >= 2
    if kind == "none":
        enough_T = np.zeros_like(enough_T)
    low_T = np.where(present_RT, values_RT, np.inf).min(axis=0)
    high_T = np.where(present_RT, values_RT, -np.inf).max(axis=0)
    return np.where(enough_T, low_T, np.nan), np.where(enough_T, high_T, np.nan)


def _block_means(values_T: FloatT, block: int) -> FloatT:
    blocks = -(-values_T.size // block)
    padded = np.full(blocks * block, np.nan)
    padded[: values_T.size] = values_T
    grid = padded.reshape(blocks, block)
    present = np.isfinite(grid)
    count = present.sum(axis=1)
    total = np.where(present, grid, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
