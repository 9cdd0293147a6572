"""Comparisons of any sets of runs: intervals over runs, every run a row, nothing counted twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cupel.analysis.compare import compare_sets
from cupel.errors import DataError
from cupel.lab.study import Endpoint

ALL = Endpoint(over="all")


def test_run_folders_are_collected_by_condition(arm) -> None:
    rates = {1: 0.2, 2: 0.3, 3: 0.5}
    folders = [*arm("a", rates), *arm("b", {1: 0.5, 2: 0.6}), *arm("c", {9: 0.1})]
    report = compare_sets(folders, endpoint=ALL)
    first, second, third = report["conditions"]
    assert [row["condition"] for row in report["conditions"]] == ["a", "b", "c"]
    low, high = stats.t.interval(
        0.95, 2, np.mean(list(rates.values())), stats.sem(list(rates.values()))
    )
    for found in (first["endpoint"], first["per_run"]["correct_rate"]):
        assert found["ci95"] == pytest.approx([low, high])
        assert (found["n"], found["unit"], found["ci_method"]) == (3, "run", "student_t")
    assert second["endpoint"]["n"] == 2
    assert third["endpoint"]["ci95"] is None
    assert len(report["runs"]) == 6
    assert "delta" not in report


def test_studies_and_folders_of_runs_are_sets(
    study_at: Callable[..., Path], arm, tmp_path: Path
) -> None:
    failure = {"kind": "algorithmic", "message": "loss is nan"}
    lost = {"rate": 0.2, "status": "failed", "failure": failure}
    study = study_at({"x": {1: 0.3, 2: lost}, "y": {1: 0.5, 2: None}})
    folder = arm("old", {1: 0.4, 2: 0.6})[0].parent
    report = compare_sets([study, folder], endpoint=ALL)
    assert [row["condition"] for row in report["conditions"]] == ["study/x", "study/y", "runs"]
    assert [row["failed"] for row in report["conditions"]] == [1, 0, 0]
    assert [run["status"] for run in report["runs"]] == ["done", "failed", "done", "missing"] + [
        "done"
    ] * 2
    assert report["runs"][1]["failure"]["message"] == "loss is nan"
    alone = compare_sets([study], endpoint=ALL)
    assert alone["baseline"]["label"] == "x"
    assert [row["condition"] for row in alone["conditions"]] == ["x", "y"]


def test_the_source_hash_is_that_of_the_files(arm) -> None:
    folders = [*arm("a", {1: 0.2, 2: 0.3}), *arm("b", {1: 0.5, 2: 0.6})]
    first = compare_sets(folders)["provenance"]["source_sha256"]
    assert compare_sets(folders)["provenance"]["source_sha256"] == first
    path = folders[0] / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["mean_reward"] += 0.5
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert compare_sets(folders)["provenance"]["source_sha256"] != first


def test_what_cannot_be_compared_is_refused(arm, tmp_path: Path) -> None:
    a, b = arm("a", {1: 0.2, 2: 0.3}), arm("b", {1: 0.5, 2: 0.6})
    with pytest.raises(DataError, match="needs two sets of runs or more; found: a"):
        compare_sets(a)
    with pytest.raises(DataError, match=r"a_s1: named twice \(in 'a' and 'runs'\)"):
        compare_sets([a[0], tmp_path / "runs"])
    with pytest.raises(DataError, match=r"no such folder.*did you mean"):
        compare_sets([a[0], b[0].with_name("b_s11")])
