"""Trainings on ARC as figures need them: settings, series over updates, and what is missing.

Reads `arc.train` run folders, growing ones included, and nothing else. Refuses to fill a gap: a
value that was not written is not a number, and a series without one is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.arc.config import ArcTrainConfig
from cupel.arc.health import Health, assess
from cupel.config import validate
from cupel.errors import DataError
from cupel.lab.files import read_json
from cupel.lab.store import RunRecord, read_run

POINTS = 400
"""Points of a drawn line; a longer series is drawn as means of consecutive rows."""

_METRICS, _EVALUATIONS, _GATES = "metrics.jsonl", "evaluations.jsonl", "gates.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One value over updates, NaN where it is missing, with its limits where it has any."""

    steps_T: NDArray[np.float64]
    values_T: NDArray[np.float64]
    low_T: NDArray[np.float64]
    high_T: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One run.

    Attributes:
        rows: metrics.jsonl, oldest first.
        evaluations: evaluations.jsonl, oldest first.
        gates: gates.json; None while the run has not ended.
    """

    label: str
    seed: int | None
    config: ArcTrainConfig
    rows: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    gates: Mapping[str, Any] | None

    def health(self, until: int | None = None) -> Health:
        """Judge the rows up to an update, all of them without one."""
        return assess(
            [row for row in self.rows if until is None or row["step"] <= until],
            self.config.health,
            halt_max_steps=self.config.halt_max_steps,
            matched_scale=self.matched_scale,
        )

    @property
    def matched_scale(self) -> bool:
        """Say whether contexts have RMS 1, so that their variance can be judged."""
        return self.config.encoder.context_scale == "matched"

    @property
    def block(self) -> int:
        """Rows of metrics.jsonl that one drawn point is the mean of."""
        return max(1, -(-len(self.rows) // POINTS))

    def trained(self, key: str) -> Series | None:
        """Return a key of metrics.jsonl, thinned to `POINTS` points."""
        return series(self.rows, key, block=self.block)

    def evaluated(self, key: str) -> Series | None:
        """Return a key of evaluations.jsonl, with its limits."""
        return series(self.evaluations, key)


def read_trainings(folders: Sequence[Path]) -> list[Training]:
    """Read run folders in the order named; runs of one folder name are told apart by its parent.

    Raises:
        DataError: a folder is no run of arc.train, is named twice, or a file of it is damaged.
    """
    places = [folder.resolve() for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if places.count(place) > 1:
            raise DataError(f"{folder}: named twice; name every run once")
    names = [place.name for place in places]
    return [
        _training(
            read_run(folder),
            place.name if names.count(place.name) == 1 else f"{place.parent.name}/{place.name}",
        )
        for folder, place in zip(folders, places, strict=True)
    ]


def series(rows: Sequence[Mapping[str, Any]], key: str, *, block: int = 1) -> Series | None:
    """Return a key over rows as means of `block` consecutive rows; None if no row has it."""
    values_T = _column(rows, key)
    if not np.isfinite(values_T).any():
        return None
    return Series(
        steps_T=_means(_column(rows, "step"), block),
        values_T=_means(values_T, block),
        low_T=_means(_column(rows, f"{key}_lo"), block),
        high_T=_means(_column(rows, f"{key}_hi"), block),
    )


def _training(record: RunRecord, label: str) -> Training:
    recipe = record.config.get("recipe")
    if recipe != "arc.train":
        raise DataError(f"{record.folder}: a run of {recipe}; these figures are of arc.train")
    where = str(record.folder / "config.json")
    gates = record.folder / _GATES
    return Training(
        label=label,
        seed=record.seed,
        config=validate(ArcTrainConfig, record.config["resolved"], where=where),
        rows=record.rows(_METRICS) if record.has(_METRICS) else [],
        evaluations=record.rows(_EVALUATIONS) if record.has(_EVALUATIONS) else [],
        gates=read_json(gates) if gates.is_file() else None,
    )


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    found = (row.get(key) for row in rows)
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def _means(values_T: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Average consecutive values; of a block without any, the mean is missing."""
    starts = np.arange(0, len(values_T), block)
    there = np.isfinite(values_T)
    counts = np.add.reduceat(there.astype(np.float64), starts)
    sums = np.add.reduceat(np.where(there, values_T, 0.0), starts)
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)
