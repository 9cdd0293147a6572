"""Promises: one run of the matrix trains on what it says and on nothing else, leaves a model that
acts as it was judged, and is the same run when it was killed on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cupel.errors import DataError, PlanError
from cupel.lab.files import read_json, read_json_lines
from cupel.lab.plan import plan_run
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.store import read_run
from cupel.lab.worker import execute_run
from cupel.teach.evaluation.judging import EvaluationSettings, evaluate_model
from cupel.teach.evaluation.panel import build_panel, evaluation_tasks
from cupel.teach.labelling.files import LINES, write_labels
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment
from cupel.teach.splits import split_of
from cupel.teach.students.language import build_student
from cupel.teach.students.student import StudentConfig
from cupel.teach.training import recipe as finetune
from cupel.teach.training.recipe import FinetuneRecipe
from tests.teach.small_language import small_model
from tests.teach.teach_labels import labelled

N_TASKS = 6
ENVIRONMENT = {"name": "corridor", "max_steps": 8}


def rows() -> list[LabelledMoment]:
    """Corridor labels whose hints say why."""
    made = labelled(60)
    return [
        replace(row, hint=replace(row.hint, diagnosis="too soon", rationale="the floor is weak"))
        for row in made
        if row.hint is not None and row.hint.suggested_action is not None
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("finetune")
    write_labels(folder, rows())
    return {"labels": folder / LINES, "model": small_model(folder / "base")}


def settings(world: dict[str, Path], **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "labels": str(world["labels"]),
        "student": {"backend": "tiny", "model": str(world["model"])},
        "selection": {"rule": "all", "max_train_samples": 24},
        "evaluation": {
            "environment": ENVIRONMENT,
            "n_tasks": N_TASKS,
            "n_snapshots_per_quadrant": 3,
        },
        "sft": {"epochs": 6, "learning_rate": 5e-3},
    }
    for key, value in changes.items():
        made[key] = {**made[key], **value} if isinstance(made.get(key), dict) else value
    return made


def run(folder: Path, passed: dict[str, Any], *, seed: int = 3, kept: bool = False) -> Path:
    recipe = load_recipe("teach.finetune")
    spec = plan_run(recipe, "teach.finetune", passed=passed, seed=seed, condition="cell")
    if not kept:
        RunFolder(folder).create(spec)
    execute_run(folder, fsync=False)
    return folder


def done(folder: Path) -> dict[str, Any]:
    found = read_run(folder)
    assert found.result is not None, read_json(folder / "run.json").get("failure")
    return dict(found.result["values"])


@pytest.fixture(scope="module")
def trained(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("run") / "all_demo", settings(world))


def test_training_lowers_the_loss_and_raises_the_success_of_the_model(trained: Path) -> None:
    values = done(trained)
    assert values["steps"] == 18
    assert values["n_examples"] == 24
    assert values["loss_end"] < 0.5 * values["loss_start"]
    assert values["success_probability_end"] > values["success_probability_start"] + 0.1
    metrics = read_json_lines(trained / "metrics.jsonl")
    assert [row["step"] for row in metrics] == list(range(18))
    assert [row["epoch"] for row in metrics][::3] == list(range(6))


def test_a_tiny_student_rehearses_unless_told_otherwise(
    trained: Path, world: dict[str, Path], tmp_path: Path
) -> None:
    metrics = read_json_lines(trained / "metrics.jsonl")
    assert metrics[0]["rehearsal_loss"] == pytest.approx(0.0, abs=1e-5)
    assert metrics[-1]["rehearsal_loss"] > 1e-4
    short = {"sft": {"epochs": 1}, "evaluation": {"n_tasks": 2, "n_snapshots_per_quadrant": 1}}
    folder = run(tmp_path / "run", settings(world, **short, rehearsal={"weight": 0.0}))
    assert read_json_lines(folder / "metrics.jsonl")[-1]["rehearsal_loss"] is None


def test_only_training_tasks_are_trained_on_and_only_others_judged(trained: Path) -> None:
    config = read_json(trained / "run_config.json")
    assert {split_of(task) for task in config["trained_snapshots"].values()} == {"train"}
    assert len(config["trained_snapshots"]) == config["n_examples"] == 24
    judged = read_json_lines(trained / "episodes.jsonl")
    assert {split_of(row["task_id"]) for row in judged if row["dataset"] == "tasks"} == {"test"}
    panel = {split_of(row["task_id"]) for row in judged if row["dataset"] == "snapshots"}
    assert panel == {"panel"}


def test_every_episode_is_kept_before_and_after(trained: Path) -> None:
    episodes = read_json_lines(trained / "episodes.jsonl")
    assert {row["step"] for row in episodes} == {0, 18}
    assert {row["model"] for row in episodes} == {"BASE", "cell"}
    before, after = ([row for row in episodes if row["step"] == step] for step in (0, 18))
    assert [row["task_id"] for row in before] == [row["task_id"] for row in after]
    evaluations = read_json_lines(trained / "evaluations.jsonl")
    for evaluation, judged in zip(evaluations, (before, after), strict=True):
        tasks = [row["success"] for row in judged if row["dataset"] == "tasks"]
        assert evaluation["success_rate"] == pytest.approx(sum(tasks) / N_TASKS)
        ours = [row["success"] for row in judged if row["quadrant"] == QUADRANTS[0]]
        assert evaluation["panel_success_rate_Q1"] == pytest.approx(sum(ours) / len(ours))


def test_the_model_folder_acts_as_the_model_that_was_judged(
    trained: Path, world: dict[str, Path]
) -> None:
    config = read_json(trained / "run_config.json")
    student = build_student(
        StudentConfig(backend="tiny", model=config["model_path"]),
        device="cpu",
        threads=1,
        cache=None,
    )
    judged = EvaluationSettings.model_validate(settings(world)["evaluation"])
    from cupel.lab.randomness import Randomness

    again = evaluate_model(
        student,
        judged,
        tasks=evaluation_tasks(judged.environment, N_TASKS),
        panel=build_panel(rows(), 3),
        randomness=Randomness(3),
        model="cell",
        train_seed=3,
    )
    stored = [row for row in read_json_lines(trained / "episodes.jsonl") if row["step"] == 18]
    assert [{"step": 18, **row.to_row()} for row in again] == stored


def test_the_documented_files_say_what_was_done(trained: Path) -> None:
    config = read_json(trained / "run_config.json")
    assert config["run_config"]["selection"] == "all_quadrants"
    assert config["run_config"]["supervision"] == "demo"
    assert config["run_config"]["quadrant"] == "all"
    assert config["answer_in_prompt_rate"] == 0.0
    training = read_json(trained / "training_config.json")
    assert training["learning_rate"] == 5e-3
    assert training["lora_rank"] == 0


def test_killed_while_training_and_continued_equals_unbroken(
    trained: Path, world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cupel.teach.training.sft import Trainer

    original, count = Trainer.step, 0

    def stops(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == 11:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    folder = tmp_path / "run"
    monkeypatch.setattr(Trainer, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        run(folder, settings(world))
    monkeypatch.setattr(Trainer, "step", original)
    run(folder, settings(world), kept=True)
    assert done(folder) == done(trained)
    for name in ("metrics.jsonl", "evaluations.jsonl", "episodes.jsonl"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()
    weights = "model/model.safetensors"
    assert (folder / weights).read_bytes() == (trained / weights).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "contrast"},
        {"format": "contrast", "contrast_as": "loss"},
        {"format": "hint"},
        {"format": "hint", "hint_as": "distill"},
        {"selection": {"rule": "shuffled_labels"}},
        {"selection": {"rule": "quadrant", "quadrant": QUADRANTS[0]}},
        {"selection": {"rule": "entropy", "budget": 10}},
        {"evaluate_start": False},
    ],
)
def test_every_kind_of_run_ends_with_a_model_and_numbers(
    changes: dict[str, Any], world: dict[str, Path], tmp_path: Path
) -> None:
    short = {"sft": {"epochs": 1}, "evaluation": {"n_tasks": 2, "n_snapshots_per_quadrant": 1}}
    folder = run(tmp_path / "run", settings(world, **short, **changes))
    values = done(folder)
    assert values["success_probability_end"] is not None
    assert (values["success_probability_start"] is None) == ("evaluate_start" in changes)
    assert (folder / "model" / "model.safetensors").is_file()
    text = changes.get("format") == "contrast" and "contrast_as" not in changes
    assert values["answer_in_prompt_rate"] == (1.0 if text else 0.0)


def test_retention_is_measured_on_the_same_tasks_whether_or_not_the_start_is_evaluated(
    trained: Path, world: dict[str, Path], tmp_path: Path
) -> None:
    folder = run(tmp_path / "run", settings(world, evaluate_start=False))
    (end,) = read_json_lines(folder / "evaluations.jsonl")
    with_start = read_json_lines(trained / "evaluations.jsonl")[-1]
    assert end["retention_tasks"] == with_start["retention_tasks"] > 0
    assert end == with_start


def test_the_base_run_trains_nothing_and_is_evaluated_once(
    world: dict[str, Path], tmp_path: Path
) -> None:
    folder = run(tmp_path / "run", settings(world, selection={"rule": "none"}))
    values = done(folder)
    assert values["steps"] == 0
    assert values["success_rate_start"] == values["success_rate_end"] is not None
    assert {row["model"] for row in read_json_lines(folder / "episodes.jsonl")} == {"BASE"}
    assert not (folder / "model").exists()


def test_an_empty_quadrant_fails_the_run_and_names_it(
    world: dict[str, Path], tmp_path: Path
) -> None:
    kept = [row for row in rows() if row.quadrant != QUADRANTS[1]]
    write_labels(tmp_path, kept)
    passed = settings(
        {**world, "labels": tmp_path / LINES},
        selection={"rule": "quadrant", "quadrant": QUADRANTS[1]},
    )
    with pytest.raises(DataError, match=r"quadrant Q2_highU_lowL: 0 usable moments"):
        plan_and_forecast(passed)


def test_a_student_without_weights_is_refused_before_anything_runs(
    world: dict[str, Path],
) -> None:
    passed = settings(world)
    passed["student"] = {"backend": "uniform"}
    with pytest.raises(PlanError, match="has nothing to train"):
        plan_and_forecast(passed)


def test_the_forecast_counts_the_updates(world: dict[str, Path], trained: Path) -> None:
    assert plan_and_forecast(settings(world)).costs["steps"] == done(trained)["steps"]


def test_labels_that_are_not_there_yet_are_a_warning_of_the_plan(world: dict[str, Path]) -> None:
    found = plan_and_forecast(settings({**world, "labels": Path("nowhere.jsonl")}))
    assert "nowhere.jsonl is not there yet" in found.warnings[0]


def plan_and_forecast(passed: dict[str, Any]) -> Any:
    from cupel.config import validate

    recipe = FinetuneRecipe()
    return recipe.forecast(validate(recipe.config_type, recipe.prepare(passed), where="here"))


def test_the_module_of_the_recipe_imports_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, cupel.teach.training.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert finetune.RECIPE.name == "teach.finetune"
