"""Promises: a rule gives what it names from training tasks alone, or stops and says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import ConfigError, DataError
from cupel.lab.randomness import Randomness
from cupel.teach.environments.base import EnvironmentConfig, Snapshot, make_environment, restore
from cupel.teach.labelling.labels import QUADRANTS, Estimate, LabelledMoment, PatchTest
from cupel.teach.records import Episode, Hint, Moment, StepRecord
from cupel.teach.selection.rules import SelectionRule, choose, on_policy_moments
from cupel.teach.splits import split_of

RANDOM = Randomness(7)


def label(seed: int, **changes: Any) -> LabelledMoment:
    snapshot = Snapshot(
        environment="corridor", level="", version="1", seed=seed, actions=(), state_hash="0"
    )
    moment = Moment(
        snapshot=snapshot,
        task="reach cell 6",
        observation=f"cell {seed % 3}",
        valid_actions=("right", "leap"),
        step_idx=0,
        trajectory_id="t",
        outcome="failure",
        student_action="leap",
        student_probs=(0.4, 0.6),
        failure_type="wrong_action",
        anchor_step=0,
        anchor_rule="regret",
        offset=0,
        key_hash="k",
    )
    hint = Hint(snapshot_id=moment.id, teacher="expert", valid=True, suggested_action="right")
    made = LabelledMoment(moment=moment, hint=hint, U=float(seed), quadrant=QUADRANTS[seed % 4])
    return replace(made, **changes)


LABELS = [label(seed) for seed in range(200)]
TRAIN = [row for row in LABELS if row.moment.split == "train"]


def rule(name: str, **fields: Any) -> SelectionRule:
    return SelectionRule(rule=name, **fields)  # type: ignore[arg-type]


def ids(rows: Any) -> set[str]:
    return {row.id for row in rows}


def test_all_are_all_of_training_tasks_and_of_no_other() -> None:
    chosen = choose(rule("all"), LABELS, randomness=RANDOM)
    assert ids(chosen.labels) == ids(TRAIN)
    assert chosen.pool == len(TRAIN) < len(LABELS)


def test_none_is_nothing() -> None:
    assert choose(rule("none"), LABELS, randomness=RANDOM).labels == ()


def test_a_quadrant_is_that_quadrant() -> None:
    chosen = choose(rule("quadrant", quadrant=QUADRANTS[2]), LABELS, randomness=RANDOM)
    assert ids(chosen.labels) == ids(row for row in TRAIN if row.quadrant == QUADRANTS[2])


def test_an_empty_quadrant_is_an_error_that_names_it_and_its_count() -> None:
    rows = [row for row in LABELS if row.quadrant != QUADRANTS[3]]
    with pytest.raises(
        DataError, match=r"quadrant Q4_lowU_highL: 0 usable moments.*Q1_highU_highL"
    ):
        choose(rule("quadrant", quadrant=QUADRANTS[3]), rows, randomness=RANDOM)


def test_matched_uniform_is_as_large_as_its_quadrant_after_unusable_hints_are_dropped() -> None:
    rows = [
        replace(row, hint=None) if row.quadrant == QUADRANTS[0] and at < 60 else row
        for at, row in enumerate(LABELS)
    ]
    quadrant = choose(rule("quadrant", quadrant=QUADRANTS[0]), rows, randomness=RANDOM)
    matched = choose(rule("matched_uniform", quadrant=QUADRANTS[0]), rows, randomness=RANDOM)
    assert len(matched.labels) == len(quadrant.labels) > 0
    assert {row.quadrant for row in matched.labels} == set(QUADRANTS)


def test_a_random_subset_depends_on_the_seed_and_never_on_the_order_of_the_file() -> None:
    chosen = rule("uniform", baseline_n_samples=20)
    first = choose(chosen, LABELS, randomness=RANDOM)
    again = choose(chosen, LABELS[::-1], randomness=RANDOM)
    other = choose(chosen, LABELS, randomness=Randomness(8))
    assert first.labels == again.labels
    assert len(first.labels) == len(other.labels) == 20
    assert ids(first.labels) != ids(other.labels)


def test_a_larger_random_subset_keeps_the_smaller_one() -> None:
    small = choose(rule("all", max_train_samples=10), LABELS, randomness=RANDOM)
    large = choose(rule("all", max_train_samples=30), LABELS, randomness=RANDOM)
    assert ids(small.labels) < ids(large.labels)
    assert small.notes == (f"kept 10 of {len(TRAIN)} moments at random",)


def test_asking_for_more_than_there_are_is_said() -> None:
    chosen = choose(rule("uniform"), LABELS, randomness=RANDOM)
    assert chosen.notes == (f"asked for 500 moments, {len(TRAIN)} are there",)


def test_shuffled_labels_teach_valid_actions_right_as_often_as_chance_has_it() -> None:
    chosen = choose(rule("shuffled_labels"), LABELS, randomness=RANDOM)
    assert chosen.targets is not None
    right = sum(target == "right" for target in chosen.targets.values())
    assert ids(TRAIN) == set(chosen.targets)
    assert 0.3 < right / len(TRAIN) < 0.7


def test_a_ranking_chooses_its_best_and_stops_where_its_input_is_missing() -> None:
    best = choose(rule("entropy", budget=5), LABELS, randomness=RANDOM)
    assert sorted(row.U or 0.0 for row in best.labels) == sorted(row.U or 0.0 for row in TRAIN)[-5:]
    with pytest.raises(DataError, match=r"oracle: .* have no patch test"):
        choose(rule("oracle", budget=5), LABELS, randomness=RANDOM)
    predicted = rule("predictor", budget=5, predictor="runs/p")
    with pytest.raises(DataError, match="predictor: no predictions"):
        choose(predicted, LABELS, randomness=RANDOM)


def test_compared_rankings_choose_from_one_pool() -> None:
    gain = Estimate(value=0.1, lo=0.0, hi=0.2, n=4)
    test = PatchTest(
        p_base=gain, p_placebo=gain, p_shuffled=None, p={"demo": gain}, gain_raw={"demo": gain},
        gain_net={"demo": gain}, ELP_raw=0.1, ELP_net=0.1, route_net="demo", ELP_split=None,
        route_split=None, oracle_half=0.1, total_episodes=4,
    )  # fmt: skip
    rows = [replace(row, patch_test=test) if at < 100 else row for at, row in enumerate(LABELS)]
    chosen = choose(rule("random", budget=20, compared=("oracle",)), rows, randomness=RANDOM)
    assert all(row.patch_test is not None for row in chosen.labels)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"rule": "quadrant"}, "needs 'quadrant'"),
        ({"rule": "matched_uniform"}, "needs 'quadrant'"),
        ({"rule": "dagger"}, "needs 'episodes'"),
        ({"rule": "oracle"}, "needs 'budget'"),
        ({"rule": "predictor", "budget": 5}, "run folder of teach.predict"),
        ({"rule": "random", "budget": 5, "compared": ["predictor"]}, "run folder of teach.predict"),
    ],
)
def test_a_rule_without_its_input_is_refused_before_anything_runs(
    fields: dict[str, Any], missing: str
) -> None:
    with pytest.raises(ConfigError, match=missing):
        validate(SelectionRule, fields, where="test")


def test_no_usable_moment_of_a_training_task_is_an_error() -> None:
    rows = [row for row in LABELS if row.moment.split != "train"]
    with pytest.raises(DataError, match="none is of a training task with a usable hint"):
        choose(rule("all"), rows, randomness=RANDOM)


class TestDagger:
    environment = EnvironmentConfig(name="corridor")

    def episode(self, seed: int, actions: tuple[str, ...]) -> Episode:
        world = make_environment(self.environment)
        world.reset(seed)
        steps = []
        for action in actions:
            steps.append(
                StepRecord(
                    observation=world.observe(),
                    valid_actions=world.valid_actions(),
                    action=action,
                    probs=None,
                    reward=0.0,
                    key_hash="k",
                )
            )
            world.step(action)
        return Episode(
            id=f"e{seed}", environment="corridor", level="", version="1", seed=seed,
            task_id=f"corridor-{seed:06d}", task=world.task(), actor="student", replicate=0,
            steps=tuple(steps),
        )  # fmt: skip

    def test_every_state_the_student_was_in_gets_the_experts_action(self) -> None:
        seeds = [seed for seed in range(40) if split_of(f"corridor-{seed:06d}") == "train"]
        other = next(seed for seed in range(40) if seed not in seeds)
        odd = next(seed for seed in seeds if seed % 6 == 1)
        episodes = [
            self.episode(odd, ("right", "leap", "wait")),
            self.episode(odd, ("right", "left")),
            self.episode(other, ("right",)),
        ]
        found = on_policy_moments(episodes, self.environment)
        assert [row.moment.observation for row in found] == ["cell 1", "cell 2"]
        assert [row.hint.suggested_action for row in found if row.hint] == ["leap", "right"]
        world = make_environment(self.environment)
        for row in found:
            restore(row.moment.snapshot, world)
            assert world.observe() == row.moment.observation
        chosen = choose(
            rule("dagger", episodes="runs/r"), LABELS, randomness=RANDOM, on_policy=found
        )
        assert ids(chosen.labels) == ids(found)
