"""Threshold plots from labelled rows: what is written, from which rows, and twice the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from cupel.errors import DataError
from cupel.report.teach.thresholds import write_threshold_plots
from cupel.teach.branches.arms import Arm
from cupel.teach.labelling.files import LINES, write_labels
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.labelling.leverage import leverage_of
from tests.teach.label_runs import corridor_moments

pytest.importorskip("matplotlib")


def labels(split: str) -> list[LabelledMoment]:
    rows = []
    for at, moment in enumerate(corridor_moments(range(40))):
        arms = {"policy": 0.0, "force": (at % 9) / 9, "expert": 1.0}
        leverage = leverage_of({n: Arm(lo=p, hi=p) for n, p in arms.items()})  # type: ignore[misc]
        if (moment.split == "train") == (split == "train"):
            rows.append(LabelledMoment(moment=moment, hint=None, U=at / 50, leverage=leverage))
    return rows


def test_three_plots_from_training_rows_the_same_bytes_twice(tmp_path: Path) -> None:
    for name, rows in (("a", labels("train")), ("b", [*labels("train"), *labels("other")])):
        (tmp_path / name).mkdir()
        write_labels(tmp_path / name, rows)
        write_threshold_plots(tmp_path / name / LINES, tmp_path / name)
    names = {f"{stem}.{kind}" for stem in ("hist_U", "hist_L", "scatter_U_L")
             for kind in ("png", "pdf")}  # fmt: skip
    assert {path.name for path in (tmp_path / "a").iterdir()} - {LINES, LINES[:-1]} == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_rows_of_other_tasks_alone_are_refused(tmp_path: Path) -> None:
    write_labels(tmp_path, labels("other"))
    with pytest.raises(DataError, match="no row of a training task"):
        write_threshold_plots(tmp_path / LINES, tmp_path)
