"""Promises: every micro-training starts from the same model and touches no rollout of the labels;
the files hold the documented keys; a verdict is data; a killed validation is the same one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import DataError, PlanError
from cupel.lab.files import read_json, read_json_lines
from cupel.lab.plan import plan_run
from cupel.lab.randomness import Randomness
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.store import read_run
from cupel.lab.worker import execute_run
from cupel.teach.labelling.files import LINES, write_labels
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment
from cupel.teach.splits import split_of
from cupel.teach.validation.config import ValidateConfig, sample_of
from cupel.teach.validation.measure import Meter
from cupel.teach.validation.recipe import ValidateRecipe
from tests.teach.small_language import small_model
from tests.teach.teach_labels import labelled
from tests.teach.teach_students import TableStudent

ROW_KEYS = [
    "snapshot_id", "quadrant", "task_id", "route_net", "cpt_elp_net", "base_success_rate",
    "base_reward_mean", "base_steps_mean", "base_retention", "train_loss", "tuned_success_rate",
    "tuned_reward_mean", "tuned_steps_mean", "delta_success_rate", "delta_reward_mean",
    "delta_steps_mean", "tuned_retention", "delta_retention",
]  # fmt: skip


def rows(rollouts: int | None = None) -> list[LabelledMoment]:
    made = labelled(160, 2, rollouts=rollouts)
    return [
        replace(row, hint=replace(row.hint, diagnosis="too soon", rationale="the floor is weak"))
        for row in made
        if row.hint is not None and row.hint.suggested_action is not None
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("validate")
    write_labels(folder, rows())
    return {"labels": folder / LINES, "model": small_model(folder / "base")}


def settings(world: dict[str, Path], **changes: Any) -> dict[str, Any]:
    return {
        "labels": str(world["labels"]),
        "student": {"backend": "tiny", "model": str(world["model"])},
        "environment": {"name": "corridor", "max_steps": 8},
        "n_per_quadrant": 4,
        "block": 3,
        **changes,
    }


def run(folder: Path, passed: dict[str, Any], *, kept: bool = False) -> Path:
    if not kept:
        spec = plan_run(
            load_recipe("teach.validate"), "teach.validate", passed=passed, seed=5, condition="v"
        )
        RunFolder(folder).create(spec)
    execute_run(folder, fsync=False)
    return folder


def done(folder: Path) -> dict[str, Any]:
    found = read_run(folder)
    assert found.result is not None, read_json(folder / "run.json").get("failure")
    return dict(found.result["values"])


@pytest.fixture(scope="module")
def finished(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("run") / "v", settings(world))


def test_the_documented_keys_come_first_and_the_verdict_is_data(finished: Path) -> None:
    micro = read_json(finished / "micro_training_results.json")
    assert list(micro)[:3] == ["timestamp", "config", "results"]
    assert list(micro["results"][0])[: len(ROW_KEYS)] == ROW_KEYS
    found = read_json(finished / "cpt_correlation.json")
    assert list(found)[:4] == ["pearson_r", "pearson_p", "n", "data_points"]
    assert list(found["data_points"][0])[:5] == [
        "snapshot_id", "quadrant", "cpt", "elp", "route_net",
    ]  # fmt: skip
    assert set(found["per_quadrant"]) == set(QUADRANTS)
    values = done(finished)
    assert values["verdict"] == ("proceed" if found["proceed"] else "revise")
    assert values["proceed"] == all(found["pass"].values())
    assert values["spearman_rho"] == found["spearman_rho"]


def test_the_effects_are_those_of_the_states_and_not_all_alike(finished: Path) -> None:
    found = read_json(finished / "micro_training_results.json")["results"]
    assert {row["values"] for row in found} == {"exact"}
    for row in found:
        assert row["tuned_lo"] <= row["tuned_success_rate"] <= row["tuned_hi"]
        gap = row["tuned_success_rate"] - row["base_success_rate"]
        assert row["delta_success_rate"] == pytest.approx(gap)
    assert len({round(row["delta_success_rate"], 6) for row in found}) > len(found) / 2
    demos = [row["delta_log_pi"] for row in found if row["route"] == "demo"]
    assert sum(gain > 0 for gain in demos) >= 0.9 * len(demos) > 0


def test_only_calibration_tasks_are_touched(finished: Path) -> None:
    found = read_json(finished / "micro_training_results.json")
    assert {split_of(row["task_id"]) for row in found["results"]} == {"calibration"}


def test_each_training_starts_from_the_same_model(world: dict[str, Path], tmp_path: Path) -> None:
    """The effect of a moment does not depend on which moments were trained on before it."""
    many = run(tmp_path / "many", settings(world))
    few = run(tmp_path / "few", settings(world, n_per_quadrant=2, block=1))
    by_id = {row["snapshot_id"]: row for row in read_json_lines(many / "micro_training.jsonl")}
    again = read_json_lines(few / "micro_training.jsonl")
    assert 2 < len(again) < len(by_id)
    for row in again:
        assert row == by_id[row["snapshot_id"]]


def test_killed_and_continued_equals_unbroken(
    finished: Path, world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cupel.teach.training.sft import Trainer

    original, count = Trainer.step, 0

    def stops(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == 12:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    folder = tmp_path / "run"
    monkeypatch.setattr(Trainer, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        run(folder, settings(world))
    monkeypatch.setattr(Trainer, "step", original)
    run(folder, settings(world), kept=True)
    for name in ("micro_training.jsonl", "micro_training_results.json", "cpt_correlation.json"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()


def test_sampled_values_and_retention_are_measured_where_asked(
    world: dict[str, Path], tmp_path: Path
) -> None:
    passed = settings(
        world, values="sampled", n_validation_rollouts=4, n_per_quadrant=1, retention_tasks=3
    )
    done(run(tmp_path / "v", passed))
    for row in read_json_lines(tmp_path / "v" / "micro_training.jsonl"):
        assert row["n_rollouts"] == 4
        assert row["base_success_rate"] * 4 == round(row["base_success_rate"] * 4)
        assert row["base_steps_mean"] > 0
        assert row["effect_noise"] > 0
        assert row["delta_retention"] is not None


def test_validation_never_uses_the_labels_randomness() -> None:
    asked: list[str] = []

    class Watched(Randomness):
        def uniforms(self, purpose: str, *args: Any) -> Any:
            asked.append(purpose)
            return super().uniforms(purpose, *args)

    config = validate(
        ValidateConfig,
        {
            "labels": "x",
            "environment": {"name": "corridor", "max_steps": 8},
            "values": "sampled",
        },
        where="here",
    )
    meter = Meter(config, Watched(0))
    meter.success(TableStudent(), [row.moment.snapshot for row in rows()[:5]])
    assert set(asked) == {"validation"}


@pytest.mark.parametrize("key", ["panel", "tasks"])
@pytest.mark.parametrize("bare", [True, False])
def test_a_panel_file_may_use_either_key(
    key: str, bare: bool, world: dict[str, Path], tmp_path: Path
) -> None:
    ours = [row for row in rows() if row.moment.split == "calibration"][:5]
    entries = [row.id if bare else {"snapshot_id": row.id} for row in ours]
    (tmp_path / "panel.json").write_text(json.dumps({key: entries}))
    config = config_of(world, panel=str(tmp_path / "panel.json"))
    taken = sample_of(config, rows())
    assert {each.label.id for each in taken.candidates} == {row.id for row in ours}
    assert taken.short == {}


def test_a_panel_of_other_tasks_is_a_leak(world: dict[str, Path], tmp_path: Path) -> None:
    trained = next(row for row in rows() if row.moment.split == "train")
    (tmp_path / "panel.json").write_text(json.dumps([trained.id]))
    with pytest.raises(DataError, match="not of the calibration split"):
        sample_of(config_of(world, panel=str(tmp_path / "panel.json")), rows())


def test_what_cannot_be_taken_is_counted_and_what_falls_short_is_said(
    world: dict[str, Path],
) -> None:
    made = rows()
    ours = [row for row in made if row.moment.split == "calibration"]
    broken = {ours[0].id: {"patch_test": None}, ours[1].id: {"hint": None}}
    changed = [replace(row, **broken.get(row.id, {})) for row in made]
    sample = sample_of(config_of(world, n_per_quadrant=50), changed)
    assert sample.dropped == {"with no hint": 1, "without a patch test": 1}
    assert sum(sample.counts.values()) == len(ours) - 2
    assert sample.short == dict(sample.counts)


def test_the_route_trained_is_the_one_the_patch_test_chose(world: dict[str, Path]) -> None:
    taken = sample_of(config_of(world), rows()).candidates
    assert {each.route for each in taken} == {
        each.label.patch_test.route_net for each in taken if each.label.patch_test is not None
    }
    hints = sample_of(config_of(world, route="hint"), rows()).candidates
    assert {each.example.format for each in hints} == {"hint"}


def test_nothing_to_take_is_an_error_that_says_why(world: dict[str, Path]) -> None:
    kept = [row for row in rows() if row.moment.split != "calibration"]
    with pytest.raises(DataError, match=r"no moment of split calibration.*none of these splits"):
        sample_of(config_of(world), kept)


def test_a_student_without_weights_is_refused(world: dict[str, Path]) -> None:
    with pytest.raises(PlanError, match="has nothing to train"):
        ValidateRecipe().forecast(config_of(world, student={"backend": "uniform"}))


def test_trainings_without_effect_are_told_apart_from_bad_labels(
    world: dict[str, Path], tmp_path: Path
) -> None:
    micro = {"learning_rate": 1e-9}
    folder = run(tmp_path / "v", settings(world, micro=micro, n_per_quadrant=2))
    assert "raise micro.learning_rate" in done(folder)["advice"]


def config_of(world: dict[str, Path], **changes: Any) -> ValidateConfig:
    recipe = ValidateRecipe()
    return validate(ValidateConfig, recipe.prepare(settings(world, **changes)), where="here")
