"""The result files of the teaching pipeline, found and read: no file, no number.

Knows the folder layouts (`phase1`, `phase3/v8`, ... and the pilot's `phase1_labeling`,
`phase3_eval`, ...), the documented columns, and that an empty cell is a missing value. Refuses to
go on with a file that is not there or lacks a column: whatever needs it is not made, and says so.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.lab.files import read_json
from cupel.teach.evaluation.judging import EpisodeRow
from cupel.teach.evaluation.tables import COLUMNS, read_episodes
from cupel.teach.labelling.files import read_rows

LABELS = "labeled_snapshots.jsonl"
_LAYOUTS: Mapping[str, tuple[str, ...]] = {
    LABELS: ("phase1", "phase1_labeling"),
    "labeling_metadata.json": ("phase1", "phase1_labeling"),
    "quadrant_thresholds.json": ("phase1", "phase1_labeling"),
    "quadrant_thresholds_auto.json": ("phase1", "phase1_labeling"),
    "cpt_correlation.json": ("phase1b", "phase1b_micro"),
    **dict.fromkeys(COLUMNS, ("phase3/v8", "phase3", "phase3_eval")),
    "gates.json": ("phase3/v8", "phase3", "phase3_eval"),
    "episodes.jsonl": ("phase3/v8", "phase3", "phase3_eval"),
    "training_result.json": ("phase4", "phase4_predictor", "phase4/predictor"),
    "evaluation_metrics.json": ("phase4", "phase4_predictor", "phase4/predictor"),
    "selection_summary.json": ("phase5/selection", "phase5", "phase5_selection"),
}
"""Folders under the results folder in which a file may lie, the likeliest first."""

Row = Mapping[str, Any]


class MissingInput(DataError):
    """A result file that something needs is not there."""


@dataclass(frozen=True, slots=True)
class TeachResults:
    """A results folder; every method reads what it is asked for, or raises `MissingInput`."""

    folder: Path

    def find(self, name: str) -> Path | None:
        """Return the file's path, or None when it lies in none of its folders.

        Raises:
            DataError: it lies in more than one of them.
        """
        found = [path for path in self._places(name) if path.is_file()]
        if len(found) > 1:
            raise DataError(
                f"{name}: found twice, as {found[0]} and {found[1]}; keep one layout under "
                f"{self.folder}, or give the folder of one run"
            )
        return found[0] if found else None

    def path(self, name: str) -> Path:
        """Return the file's path.

        Raises:
            MissingInput: it is not there; says where it was looked for.
        """
        found = self.find(name)
        if found is None:
            places = ", ".join(str(path.parent) for path in self._places(name))
            raise MissingInput(f"{name}: not in {places}")
        return found

    def labels(self) -> list[Row]:
        """Return the rows of labeled_snapshots.jsonl."""
        rows = read_rows(self.path(LABELS))
        if not rows:
            raise MissingInput(f"{self.path(LABELS)}: holds no row")
        return list(rows)

    def json(self, name: str) -> Row:
        """Return a JSON object."""
        return read_json(self.path(name))

    def json_if_there(self, name: str) -> Row | None:
        """Return a JSON object, or None when its file is not there."""
        found = self.find(name)
        return None if found is None else read_json(found)

    def table(self, name: str) -> list[Row]:
        """Return the rows of one of the evaluation's tables."""
        return read_table(self.path(name))

    def selection_folder(self) -> Path:
        """Return the folder of the selection experiment."""
        return self.path("selection_summary.json").parent

    def _places(self, name: str) -> list[Path]:
        return [self.folder / place / name for place in _LAYOUTS[name]]


def read_table(path: Path) -> list[Row]:
    """Read an evaluation table: documented columns are required, empty cells become None.

    Raises:
        MissingInput: the file is not there.
        DataError: a documented column is missing, or a cell that should be a number is none.
    """
    documented = COLUMNS[path.name]
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            names = reader.fieldnames or []
            missing = [name for name in documented if name not in names]
            if missing:
                raise DataError(
                    f"{path}: no column {', '.join(missing)}; it has {', '.join(names)}. Write it "
                    "again with cupel teach evaluate"
                )
            rows = [_numbers(row, where=f"{path}:{line}") for line, row in enumerate(reader, 2)]
    except FileNotFoundError:
        raise MissingInput(f"{path.name}: not in {path.parent}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if not rows:
        raise MissingInput(f"{path}: holds no row")
    return rows


def episodes_beside(folder: Path) -> tuple[EpisodeRow, ...] | None:
    """Return the episodes that an evaluation's tables were made from; None if not kept."""
    path = folder / "episodes.jsonl"
    return read_episodes(path) if path.is_file() else None


def number(row: Row | None, name: str) -> float | None:
    """Return a number of a row, or None where row or number is missing."""
    value = None if row is None else row.get(name)
    return float(value) if isinstance(value, int | float) else None


def interval(row: Row, low: str = "lo", high: str = "hi") -> tuple[float, float] | None:
    """Return an interval of a row, or None where one of its ends is missing."""
    ends = number(row, low), number(row, high)
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])


def only(rows: Sequence[Row], **wanted: str) -> Row | None:
    """Return the row with these values, or None.

    Raises:
        DataError: there are several.
    """
    found = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    if len(found) > 1:
        raise DataError(f"{len(found)} rows for {wanted}; each must be there once")
    return found[0] if found else None


_WORDS = frozenset(
    {"model", "quadrant", "train_quadrant", "supervision", "eval_quadrant", "dataset"}
)


def _numbers(row: Mapping[str, str | None], *, where: str) -> Row:
    values: dict[str, Any] = {}
    for name, text in row.items():
        if name in _WORDS:
            values[name] = text or ""
        else:
            values[name] = _value(text, where=f"{where}: {name}")
    return values


def _value(text: str | None, *, where: str) -> float | bool | None:
    if text is None or text == "":
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where} = {text!r} is no number") from None
