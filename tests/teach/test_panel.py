"""What models are judged on: fixed by hash, equal in every process, never what was trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cupel.errors import ConfigError, DataError
from cupel.teach.environments.base import task_id
from cupel.teach.evaluation.judging import Panel
from cupel.teach.evaluation.panel import (
    build_panel,
    evaluation_tasks,
    panel_from_file,
    panel_rows,
    refuse_trained,
)
from cupel.teach.splits import split_of
from tests.teach.evaluation_rows import CORRIDOR, seeds_of, some_labels


def test_tasks_are_the_first_of_the_test_split() -> None:
    tasks = evaluation_tasks(CORRIDOR, 20)
    assert len(tasks) == 20
    assert {split_of(task_id("corridor", "", seed)) for seed in tasks} == {"test"}
    assert evaluation_tasks(CORRIDOR, 5) == tasks[:5]


def test_panel_does_not_depend_on_the_order_of_the_file() -> None:
    labels = some_labels("panel", 9)
    assert build_panel(labels, 5) == build_panel(labels[::-1], 5)
    assert [row["quadrant"] for row in panel_rows(build_panel(labels, 1))] == [
        "Q1_highU_highL", "Q2_highU_lowL", "Q3_lowU_lowL", "Q4_lowU_highL",
    ]  # fmt: skip


def test_panel_and_tasks_are_the_same_under_another_hash_seed(tmp_path: Path) -> None:
    """A holdout by Python's salted hash differs from process to process."""
    script = (
        "from tests.teach.evaluation_rows import some_labels, CORRIDOR\n"
        "from cupel.teach.evaluation.panel import build_panel, evaluation_tasks, panel_rows\n"
        "print(panel_rows(build_panel(some_labels('panel', 6), 3)), evaluation_tasks(CORRIDOR, 9))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
        ).stdout
        for salt in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_short_quadrant_is_reported_and_never_filled_from_training_rows() -> None:
    panel_rows_of_all = some_labels("panel", 3)
    short = [each for each in panel_rows_of_all if each.quadrant != "Q2_highU_lowL"]
    training = [replace(each, quadrant="Q2_highU_lowL") for each in some_labels("train", 8)]
    panel = build_panel([*short, *training], 3)
    assert panel.counts == {
        "Q1_highU_highL": 3, "Q2_highU_lowL": 0, "Q3_lowU_lowL": 3, "Q4_lowU_highL": 3,
    }  # fmt: skip
    assert panel.short == {"Q2_highU_lowL": 0}
    assert {each.moment.split for each in panel.moments} == {"panel"}


def test_a_larger_holdout_would_reach_into_training_and_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"holdout_frac 0\.3.*at most 0\.2"):
        build_panel([], 3, share=0.3)


def test_a_smaller_holdout_is_a_part_of_the_panel() -> None:
    labels = some_labels("panel", 20)
    whole = {each.id for each in build_panel(labels, 99).moments}
    part = {each.id for each in build_panel(labels, 99, share=0.1).moments}
    assert part < whole
    assert len(part) > 10


def test_a_panel_file_may_have_any_of_the_known_shapes(tmp_path: Path) -> None:
    labels = some_labels("panel", 2)
    ids = [each.id for each in labels]
    path = tmp_path / "panel.json"
    for content in (
        ids,
        [{"id": name} for name in ids],
        {"panel": ids},
        {"tasks": [{"snapshot_id": name, "task_id": "x"} for name in ids]},
    ):
        path.write_text(json.dumps(content))
        panel = panel_from_file(path, labels)
        assert {each.id for each in panel.moments} == set(ids)
        assert panel.short == {}


def test_a_panel_file_with_a_trained_task_is_a_hard_failure(tmp_path: Path) -> None:
    labels = [*some_labels("panel", 2), *some_labels("train", 1)]
    path = tmp_path / "panel.json"
    path.write_text(json.dumps([each.id for each in labels]))
    with pytest.raises(DataError, match="not of the panel split"):
        panel_from_file(path, labels)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[]", "expected a list of snapshot ids"),
        ("[3]", "entry 1: no snapshot id"),
        ('["nobody"]', "no labelled snapshot 'nobody'"),
    ],
)
def test_a_bad_panel_file_is_one_clear_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "panel.json"
    path.write_text(content)
    with pytest.raises(DataError, match=says):
        panel_from_file(path, some_labels("panel", 1))


def test_tasks_that_were_trained_on_are_refused_whatever_the_splits_say() -> None:
    labels = some_labels("panel", 2)
    panel = build_panel(labels, 2)
    tasks = evaluation_tasks(CORRIDOR, 3)
    fine = {"other": task_id("corridor", "", next(seeds_of("train")))}
    refuse_trained(tasks, panel, environment=CORRIDOR, trained=fine)
    for leaked in (panel.moments[0].moment.task_id, task_id("corridor", "", tasks[1])):
        with pytest.raises(DataError, match=r"1 snapshots that were trained on.*abc"):
            refuse_trained(tasks, panel, environment=CORRIDOR, trained={**fine, "abc": leaked})


def test_a_panel_of_another_split_is_refused() -> None:
    rows = some_labels("train", 1)
    panel = Panel(moments=tuple(rows), counts={}, asked=1)
    with pytest.raises(DataError, match="failure panel"):
        refuse_trained((), panel, environment=CORRIDOR, trained={})
