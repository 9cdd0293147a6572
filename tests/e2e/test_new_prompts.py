"""The held-out endpoint speaks of new problems too: logged outcomes make the two-way interval."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from cupel import StudyConfig, execute_study, judge, load_recipe, plan_study, read_study, write_plan
from cupel.config import validate
from cupel.stats.clustered import two_way


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a small study whose endpoint is the last held-out evaluation."""
    data = {
        "name": "prompts",
        "seeds": [1, 2, 3, 4, 5, 6],
        "config": {"backend": "toy", "max_steps": 6, "algorithm": "grpo"},
        "conditions": [
            {"label": "slow", "config": {"lr": 30.0}},
            {"label": "fast", "config": {"lr": 200.0}},
        ],
        "endpoint": {"metric": "eval/accuracy", "over": "last"},
    }
    parsed = validate(StudyConfig, data, where="test")
    folder = tmp_path_factory.mktemp("prompts") / "study"
    write_plan(plan_study(parsed, load_recipe(parsed.recipe)), folder)
    execute_study(folder, executor="inline")
    judge(folder)
    return folder


def outcomes(folder: Path, step: int) -> dict[str, float]:
    rows = map(json.loads, (folder / "evaluation_problems.jsonl").read_text().splitlines())
    return {
        row["problem_id"]: row["correct_count"] / row["samples"]
        for row in rows
        if row["step"] == step
    }


def test_problem_rows_add_up_to_the_evaluation(study: Path) -> None:
    for run in read_study(study).runs:
        sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for row in run.rows("evaluation_problems.jsonl"):
            sums[row["step"]][0] += row["correct_count"]
            sums[row["step"]][1] += row["samples"]
        for row in run.rows("evaluations.jsonl"):
            assert sums[row["step"]] == [row["correct_count"], row["problems"] * row["samples"]]


def test_the_interval_for_new_problems_is_that_of_the_logged_table(study: Path) -> None:
    report = json.loads((study / "analysis" / "significance.json").read_text())
    t2 = report["metrics"]["eval/accuracy"]["t2"]
    table = []
    for seed in range(1, 7):
        slow, fast = (outcomes(study / "runs" / f"{arm}_s{seed}", 6) for arm in ("slow", "fast"))
        table.append([fast[problem] - slow[problem] for problem in sorted(slow)])
    oracle = two_way(np.array(table))
    assert oracle.interval is not None
    assert (t2["available"], t2["n_seeds"], t2["n_prompts"]) == (True, 6, 8)
    assert t2["delta"] == pytest.approx(oracle.mean)
    assert t2["ci95"] == pytest.approx([oracle.interval.low, oracle.interval.high])
    assert t2["delta"] == pytest.approx(report["metrics"]["eval/accuracy"]["delta"])


def test_a_declared_mechanism_is_reported_with_its_direction_and_never_decides(
    tmp_path: Path,
) -> None:
    data = {
        "name": "mechanism",
        "seeds": [1, 2, 3, 4, 5, 6],
        "config": {"backend": "toy", "max_steps": 8, "advantage_mode": "maxrl"},
        "conditions": [
            {"label": "gtpo", "config": {"transform_mode": "gtpo"}},
            {"label": "sepa", "config": {"transform_mode": "gtpo_sepa", "sepa_steps": 0}},
        ],
        "endpoint": {"metric": "correct_rate", "over": "all"},
        "decision": {
            "exploratory": [
                {"metric": "post_exec_entropy_var", "over": "all", "higher_is_better": False},
                {"metric": "no_such_metric"},
            ]
        },
    }
    parsed = validate(StudyConfig, data, where="test")
    folder = tmp_path / "study"
    write_plan(plan_study(parsed, load_recipe(parsed.recipe)), folder)
    execute_study(folder, executor="inline")
    verdict = judge(folder).verdict
    report = json.loads((folder / "analysis" / "significance.json").read_text())
    block = report["metrics"]["post_exec_entropy_var"]
    assert block["multiplicity"]["family"] == "exploratory"
    assert block["higher_is_better"] is False
    assert block["delta"] < 0
    assert block["verdict"] == "improvement"
    assert report["verdict"] == verdict == report["metrics"]["correct_rate"]["verdict"]
    assert any("no_such_metric was not compared" in note for note in report["notes"])
