"""Phase 3 end to end: small real models, the files it writes, kills, leaks and what is inferred."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cupel.errors import ConfigError, DataError
from cupel.lab.files import read_json, read_json_lines
from cupel.lab.plan import plan_run
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.store import read_run
from cupel.lab.worker import execute_run
from cupel.teach.evaluation import recipe as phase
from cupel.teach.evaluation.tables import COLUMNS
from cupel.teach.labelling.files import LINES, write_labels
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.splits import split_of
from cupel.teach.training.summary import read_training_summary
from tests.teach.small_language import small_model
from tests.teach.teach_labels import labelled

MODELS = ("Q1_highU_highL_hint", "Q4_lowU_highL_demo", "B1_uniform")
DERIVED = (
    *COLUMNS,
    "episodes.jsonl",
    "base_pass.jsonl",
    "metrics.jsonl",
    "gates.json",
    "eval_config.json",
    "task_ids.json",
    "snapshot_panel.json",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of the corridor, a base model, three other models, and their summary."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_labels(folder, labelled(60))
    small_model(folder / "base")
    for number, name in enumerate(MODELS, start=1):
        small_model(folder / name, seed=number)
    summary = {
        "n_runs": 4,
        "n_completed": 3,
        "model_paths": {**{name: name for name in MODELS}, "B2_all": ""},
    }
    (folder / "training_summary.json").write_text(json.dumps(summary))
    meta = {"base_model": str(folder / "base")}
    (folder / "training_meta.json").write_text(json.dumps(meta))
    return folder


def settings(world: Path, **changes: Any) -> dict[str, Any]:
    return {
        "training_summary": str(world / "training_summary.json"),
        "labels": str(world / LINES),
        "evaluation": {
            "environment": {"name": "corridor", "max_steps": 8},
            "n_tasks": 10,
            "n_snapshots_per_quadrant": 3,
        },
        **changes,
    }


def run(folder: Path, passed: dict[str, Any]) -> Path:
    spec = plan_run(
        load_recipe("teach.evaluate"), "teach.evaluate", passed=passed, seed=3, condition="evaluate"
    )
    RunFolder(folder).create(spec)
    execute_run(folder, fsync=False)
    return folder


@pytest.fixture(scope="module")
def evaluated(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run(tmp_path_factory.mktemp("run") / "phase3", settings(world))
    assert read_run(folder).result is not None, read_json(folder / "run.json")["failure"]
    return folder


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open() as handle:
        return list(csv.DictReader(handle))


def test_every_documented_file_is_there(evaluated: Path) -> None:
    assert [name for name in DERIVED if not (evaluated / name).is_file()] == []
    tasks = json.loads((evaluated / "task_ids.json").read_text())
    assert {split_of(task) for task in tasks} == {"test"}
    panel = json.loads((evaluated / "snapshot_panel.json").read_text())
    assert set(panel[0]) == {"snapshot_id", "quadrant", "task_id", "step_idx"}
    assert {split_of(row["task_id"]) for row in panel} == {"panel"}


def test_base_and_every_model_that_is_there_are_judged_on_the_same_starts(evaluated: Path) -> None:
    episodes = read_json_lines(evaluated / "episodes.jsonl")
    starts: dict[str, list[str]] = {}
    for row in episodes:
        starts.setdefault(row["model"], []).append(row["snapshot_id"] or row["task_id"])
    assert list(starts) == ["BASE", *MODELS]
    assert len({tuple(each) for each in starts.values()}) == 1
    assert len(rows_of(evaluated, "overall_task_results.csv")) == 4
    assert len(rows_of(evaluated, "transfer_matrix.csv")) == 3 * 4


def test_tables_say_what_the_episodes_say(evaluated: Path) -> None:
    episodes = read_json_lines(evaluated / "episodes.jsonl")
    for row in rows_of(evaluated, "per_quadrant_results.csv"):
        ours = [
            each["success"]
            for each in episodes
            if each["model"] == row["model"] and each["quadrant"] == row["quadrant"]
        ]
        assert int(row["n"]) == len(ours)
        assert float(row["success_rate"]) == pytest.approx(sum(ours) / len(ours))


def test_the_base_model_is_inferred_and_retention_has_its_own_pass(evaluated: Path) -> None:
    facts = read_json(evaluated / "eval_config.json")
    assert Path(facts["base_student"]["model"]).name == "base"
    assert facts["base_student"]["backend"] == "torch"
    passed = read_json_lines(evaluated / "base_pass.jsonl")
    solved = sorted(row["task_id"] for row in passed if row["success"])
    assert facts["retention_task_ids"] == solved
    assert rows_of(evaluated, "retention_results.csv")[0]["n"] == str(len(solved))


def test_killed_between_models_it_ends_with_the_same_bytes(
    evaluated: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = phase.evaluate_model, []

    def stops(*args: Any, **given: Any) -> Any:
        calls.append(given["model"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **given)

    folder = tmp_path / "phase3"
    monkeypatch.setattr(phase, "evaluate_model", stops)
    with pytest.raises(KeyboardInterrupt):
        run(folder, settings(world))
    assert not (folder / "gates.json").exists()
    monkeypatch.setattr(phase, "evaluate_model", original)
    run(folder, settings(world))
    for name in DERIVED:
        assert (folder / name).read_bytes() == (evaluated / name).read_bytes(), name


def test_a_model_trained_on_an_evaluated_task_is_a_hard_failure(
    world: Path, evaluated: Path, tmp_path: Path
) -> None:
    task = json.loads((evaluated / "task_ids.json").read_text())[2]
    summary = read_json(world / "training_summary.json")
    summary["trained_snapshots"] = {"abc": task}
    summary["model_paths"] = {name: str(world / name) for name in MODELS}
    summary["base_model"] = str(world / "base")
    path = tmp_path / "training_summary.json"
    path.write_text(json.dumps(summary))
    with pytest.raises(DataError, match=rf"the first abc \(task {task}\)"):
        run(tmp_path / "run", settings(world, training_summary=str(path)))
    assert not (tmp_path / "run").exists()


def test_only_wanted_runs_are_evaluated(world: Path, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", settings(world, run_ids=["B1_uniform"]))
    assert [row["model"] for row in rows_of(folder, "overall_task_results.csv")] == [
        "BASE",
        "B1_uniform",
    ]
    with pytest.raises(ConfigError, match="did you mean 'B1_uniform'"):
        run(tmp_path / "other", settings(world, run_ids=["B1_unifrom"]))


def test_labels_of_another_environment_are_refused(world: Path, tmp_path: Path) -> None:
    passed = settings(world)
    passed["evaluation"] = {**passed["evaluation"], "environment": {"name": "shop"}}
    with pytest.raises(DataError, match="labels are of environment corridor"):
        run(tmp_path / "run", passed)


def test_a_raw_map_of_paths_is_read_and_a_missing_model_is_named(world: Path) -> None:
    path = world / "raw.json"
    path.write_text(json.dumps({"M": "base", "N": ""}))
    found = read_training_summary(path)
    assert [(each.run_id, each.path is None) for each in found.models] == [
        ("M", False),
        ("N", True),
    ]
    assert found.trained is None
    path.write_text(json.dumps({"M": "nowhere"}))
    with pytest.raises(DataError, match="run M: no model at nowhere"):
        read_training_summary(path)
    path.write_text(json.dumps({"model_paths": 3}))
    with pytest.raises(DataError, match="expected 'model_paths'"):
        read_training_summary(path)


def test_without_any_base_model_it_stops_and_asks(world: Path, tmp_path: Path) -> None:
    path = tmp_path / "raw.json"
    path.write_text(json.dumps({"M": str(world / "base")}))
    with pytest.raises(ConfigError, match="give --base-model"):
        run(tmp_path / "run", settings(world, training_summary=str(path)))


def test_quadrants_of_the_panel_are_those_of_the_labels(evaluated: Path) -> None:
    panel = json.loads((evaluated / "snapshot_panel.json").read_text())
    assert {row["quadrant"] for row in panel} <= set(QUADRANTS)
    facts = read_json(evaluated / "eval_config.json")
    assert sum(facts["panel_counts"].values()) == len(panel)
