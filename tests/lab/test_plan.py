"""The plan resolves every condition, names every run, and says what the design can show."""

from __future__ import annotations

from typing import Any

import pytest
from lab_studies import RECIPE_NAME, toy_study
from lab_toy_recipe import RECIPE

from cupel.errors import ConfigError, PlanError
from cupel.lab import Condition, Decision, Plan, StudyConfig, plan_run, plan_study
from cupel.lab.study_dir import lock_sha256

EIGHT = tuple(range(1, 9))


def plan(study: StudyConfig) -> Plan:
    return plan_study(study, RECIPE)


def changed(study: StudyConfig, **changes: Any) -> StudyConfig:
    return StudyConfig.model_validate({**study.model_dump(), **changes})


def test_runs_interleave_the_conditions_by_seed() -> None:
    runs = plan(toy_study(seeds=(7, 3))).runs
    assert [run.folder for run in runs] == ["still_s7", "drifting_s7", "still_s3", "drifting_s3"]
    assert runs[1].resolved["drift"] == 0.2
    assert runs[1].passed == {"drift": 0.2}
    assert runs[1].command == ("cupel", "resume", "runs/drifting_s7")
    assert runs[1].machine_keys == {"metrics.jsonl": ["step_time_s"]}


def test_an_ab_with_one_seed_names_its_runs_by_role() -> None:
    study = toy_study(seeds=(42,))
    assert [run.folder for run in plan(study).runs] == ["baseline", "candidate"]
    swapped = changed(study, decision=Decision(baseline="drifting", candidate="still"))
    assert [run.folder for run in plan(swapped).runs] == ["candidate", "baseline"]


def test_an_id_is_the_config_and_the_seed_and_nothing_else() -> None:
    first, again = plan(toy_study(steps=3)), plan(changed(toy_study(steps=3), name="other"))
    assert [run.id for run in first.runs] == [run.id for run in again.runs]
    assert first.runs[0].id != first.runs[2].id
    assert first.runs[0].id.endswith("-s1")
    longer = plan(toy_study(steps=4))
    assert not {run.id for run in first.runs} & {run.id for run in longer.runs}
    assert len({run.id for run in first.runs}) == len(first.runs)


def test_labels_that_differ_in_case_only_are_refused() -> None:
    study = changed(
        toy_study(), conditions=[Condition(label="A"), Condition(label="a", config={"drift": 1.0})]
    )
    with pytest.raises(PlanError, match="'A' and 'a' differ only in case"):
        plan(study)


def test_a_bad_setting_names_its_condition_and_the_nearest_key() -> None:
    study = toy_study()
    bad = changed(
        study, conditions=[Condition(label="x"), Condition(label="y", config={"drfit": 1.0})]
    )
    with pytest.raises(
        ConfigError, match="condition 'y': unknown key 'drfit'; did you mean 'drift'"
    ):
        plan(bad)
    with pytest.raises(PlanError, match="condition 'still': 20000 steps are too many"):
        plan(toy_study(steps=20_000))


@pytest.mark.parametrize(
    ("seeds", "floor", "size", "capacity"),
    [(3, 0.25, 0.0, 0), (5, 0.0625, 0.0, 0), (6, 0.03125, 0.03125, 1), (8, 2 / 256, 12 / 256, 6)],
)
def test_what_a_number_of_seeds_can_reach(
    seeds: int, floor: float, size: float, capacity: int
) -> None:
    made = plan(toy_study(seeds=tuple(range(seeds))))
    assert (made.floor, made.attainable_alpha, made.family_capacity) == (floor, size, capacity)
    said = any("cannot reach significance" in warning for warning in made.warnings)
    assert said == (floor >= 0.05)


def test_power_and_mde_in_the_units_of_the_endpoint() -> None:
    study = toy_study(seeds=EIGHT)
    unplanned = plan(study)
    assert (unplanned.power, unplanned.seeds_for_effect) == (None, None)
    assert unplanned.mde == pytest.approx(1.19, abs=0.02)  # t alone would promise 1.156
    assert unplanned.mde_unit == "sd of the seed differences"
    made = plan(changed(study, decision=Decision(effect=0.02, effect_sd=0.02)))
    assert made.mde == pytest.approx(1.19 * 0.02, abs=4e-4)
    assert made.mde_unit == "correct_rate"
    assert made.power == pytest.approx(0.66, abs=0.02)
    assert made.seeds_for_effect == 10
    assert any("power to find 0.02 in correct_rate" in note for note in made.notes)


def test_looks_are_locked_and_their_level_is_what_power_is_told_at() -> None:
    study = toy_study(seeds=tuple(range(1, 17)))
    decision = Decision(effect=0.02, effect_sd=0.02, looks=[8, 16])
    made = plan(changed(study, decision=decision))
    assert made.lock["looks"] == [8, 16]
    assert any(
        "looks at 8, 16 seeds (pocock); the last one tests at 0.02939" in n for n in made.notes
    )
    single = plan(changed(study, decision=Decision(effect=0.02, effect_sd=0.02)))
    assert single.lock["looks"] == [16]
    assert made.power is not None
    assert single.power is not None
    assert made.power < single.power


def test_power_below_the_floor_is_none_at_all() -> None:
    few = plan(changed(toy_study(seeds=(1, 2, 3)), decision=Decision(effect=9.0, effect_sd=0.1)))
    assert few.power == 0.0


def test_identical_conditions_are_warned_about() -> None:
    study = changed(toy_study(), conditions=[Condition(label="a"), Condition(label="b")])
    assert any("'a' and 'b' are identical" in warning for warning in plan(study).warnings)
    assert not any("identical" in warning for warning in plan(toy_study()).warnings)


def test_a_family_beyond_holms_capacity_is_warned_about() -> None:
    study = changed(
        toy_study(seeds=tuple(range(6))),
        conditions=[Condition(label=c, config={"drift": i / 8}) for i, c in enumerate("abcd")],
        decision=Decision(secondary=[("a", "b"), ("a", "c")]),
    )
    assert any("6 seeds can serve 1 at most" in warning for warning in plan(study).warnings)


def test_costs_notes_and_warnings_of_the_recipe_are_carried() -> None:
    made = plan(toy_study(steps=10, every=0))
    assert made.costs == {"steps": 40, "completions": 120}
    assert made.notes.count("walks 10 steps") == 1
    assert "no checkpoints" in made.warnings


def test_one_condition_has_nothing_to_compare() -> None:
    made = plan(changed(toy_study(), conditions=[Condition(label="only")]))
    assert (made.floor, made.mde) == (None, None)
    assert "nothing is compared" in made.notes[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "another?"},
        {"seeds": [1, 3]},
        {"reserve_seeds": [9]},
        {"config": {"steps": 99}},
        {"decision": Decision(alpha=0.01)},
        {"decision": Decision(margin=0.5)},
    ],
)
def test_the_lock_changes_with_whatever_is_declared(changes: dict[str, Any]) -> None:
    study = toy_study()
    assert lock_sha256(plan(study).lock) == lock_sha256(plan(toy_study()).lock)
    assert lock_sha256(plan(study).lock) != lock_sha256(plan(changed(study, **changes)).lock)


def test_a_single_run_is_planned_like_a_cell() -> None:
    alone = plan_run(RECIPE, RECIPE_NAME, passed={"drift": 0.2}, seed=1, where="--set")
    assert alone.id == plan(toy_study()).runs[1].id
    with pytest.raises(ConfigError, match="--set: unknown key 'drft'"):
        plan_run(RECIPE, RECIPE_NAME, passed={"drft": 0.2}, seed=1, where="--set")
