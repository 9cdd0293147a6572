"""Mining: the step where success was lost, the ladder before it, duplicates, caps, experiment B."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cupel.errors import DataError
from cupel.lab import differing_streams
from cupel.lab.randomness import Randomness
from cupel.teach.branches.branching import uniforms_of
from cupel.teach.environments import corridor
from cupel.teach.environments.base import (
    EnvironmentConfig,
    make_environment,
    restore,
    state_hash,
)
from cupel.teach.mining.anchors import find_anchor, largest_drop, replay
from cupel.teach.mining.caps import select
from cupel.teach.mining.moments import mine_episode, sample_episode
from cupel.teach.mining.recipe import OFFSETS, Environments, MineConfig
from cupel.teach.records import Episode, Moment, StepRecord
from cupel.teach.rollouts.files import read_moments
from cupel.teach.rollouts.recipe import ExpertActor, run_episodes
from cupel.teach.splits import split_of
from cupel.teach.students.student import UniformStudent
from tests.teach.phase_runs import failure_of, planned_phase, run_killed, run_phase

CORRIDOR = EnvironmentConfig(name="corridor", max_steps=8)
SHOP = EnvironmentConfig(name="shop")
UNIFORMS = uniforms_of(Randomness(5), "rollouts")


def scripted(seed: int, actions: list[str], *, stop: Any = "limit") -> Episode:
    """An episode of given actions in the corridor."""
    environment = corridor.make("")
    environment.reset(seed)
    steps = []
    for action in actions:
        valid = environment.valid_actions()
        steps.append(
            StepRecord(
                observation=environment.observe(),
                valid_actions=valid,
                action=action,
                probs=tuple(1 / len(valid) for _ in valid),
                reward=0.0,
                key_hash=state_hash(environment),
            )
        )
        environment.step(action)
    return Episode(
        id=f"scripted-{seed}-{len(actions)}",
        environment="corridor",
        level="",
        version="1",
        seed=seed,
        task_id=f"corridor-{seed:06d}",
        task=environment.task(),
        actor="script",
        replicate=0,
        steps=tuple(steps),
        final_observation=environment.observe(),
        stop_reason=stop,
    )


def mined(episode: Episode, *, offsets: Sequence[int] = OFFSETS, **more: Any) -> list[Moment]:
    return mine_episode(episode, corridor.make(""), max_steps=8, offsets=offsets, **more)


# Seed 3: an odd task, starts at cell 0; `leap` from an even cell falls into the pit for good.
FALL = ["right", "right", "leap", "wait", "wait", "wait", "wait", "wait"]


def test_a_failure_is_located_where_success_went_out_of_reach() -> None:
    """At the leap into the pit: not at the timeout after it, nor at the least confident step."""
    episode = scripted(3, FALL)
    moments = mined(episode)
    assert {(m.anchor_step, m.anchor_rule) for m in moments} == {(2, "regret")}
    assert moments[0].student_action == "leap"
    assert moments[0].observation == "cell 2"
    assert [(m.step_idx, m.offset) for m in moments] == [(2, 0), (1, 1), (0, 2)]
    assert all(m.outcome == "failure" and m.task_id == "corridor-000003" for m in moments)


def test_a_time_out_is_located_where_the_steps_ran_too_short() -> None:
    """Dawdling in cells 0 and 1 of an even task loses when 3 steps are needed and 2 are left."""
    episode = scripted(0, ["right", "left"] * 4)
    (moment,) = mined(episode, offsets=[0])
    found = (moment.anchor_step, moment.anchor_rule, moment.failure_type)
    assert found == (5, "regret", "stuck_loop")
    assert moment.observation == "cell 1"  # three steps are left, and three are needed


class Opaque(corridor.Corridor):
    """A corridor that does not tell what is in reach."""

    def optimal_q(self, horizon: int) -> Mapping[str, float]:
        return None  # type: ignore[return-value]

    def copy(self) -> Opaque:
        twin = type(self)(self.level)
        twin.seed, twin.actions, twin._cell = self.seed, self.actions, self._cell
        return twin


class Inexpert(Opaque):
    """Nor has it an expert."""

    def expert(self) -> str | None:
        return None


def test_without_values_the_expert_says_what_was_in_reach() -> None:
    episode = scripted(3, FALL)
    known = find_anchor(episode, replay(episode, corridor.make("")), max_steps=8)
    by_expert = find_anchor(episode, replay(episode, Opaque()), max_steps=8)
    assert (known.step, known.rule) == (2, "regret")
    assert (by_expert.step, by_expert.rule) == (2, "expert_regret")


def test_without_an_expert_rules_say_where_and_say_so() -> None:
    def anchor(episode: Episode) -> tuple[int, str]:
        found = find_anchor(episode, replay(episode, Inexpert()), max_steps=8)
        return found.step, found.rule

    assert anchor(scripted(0, ["right", "left"] * 4)) == (0, "loop")
    assert anchor(scripted(3, ["right", "right", "leap", "wait"])) == (3, "timeout")
    unsure = scripted(3, ["right", "right", "leap", "wait"], stop="ended")
    probs = [(1.0, 0.0), (0.4, 0.3, 0.3), (0.3, 0.3, 0.4), (1.0,)]
    steps = tuple(replace(s, probs=p) for s, p in zip(unsure.steps, probs, strict=True))
    assert anchor(replace(unsure, steps=steps)) == (1, "low_confidence")
    silent = tuple(replace(s, probs=None) for s in unsure.steps)
    assert anchor(replace(unsure, steps=silent)) == (3, "last_step")


def test_the_student_s_own_values_locate_a_failure_where_it_lost_most() -> None:
    """The leap costs all that the student still had; V and Q are exact."""
    anchor = largest_drop(scripted(3, FALL), UniformStudent(), CORRIDOR, max_steps=8)
    assert (anchor.step, anchor.rule) == (2, "value_drop")
    moments = mined(scripted(3, FALL), student=UniformStudent())
    assert {(m.anchor_step, m.anchor_rule) for m in moments} == {(2, "value_drop")}
    with pytest.raises(ValidationError, match="belong together"):
        MineConfig(rollouts=["x"], anchor="student_value")


def test_the_ladder_floors_at_the_start_and_can_go_past_the_failure() -> None:
    episode = scripted(3, FALL)
    assert [m.step_idx for m in mined(episode, offsets=[5, 8])] == [0]
    (lost,) = mined(episode, offsets=[-1])
    assert (lost.step_idx, lost.offset, lost.observation) == (3, -1, "pit")


def test_successes_and_broken_episodes_are_left_out_unless_asked() -> None:
    (won,) = run_episodes(CORRIDOR, ExpertActor(), [0], uniforms=UNIFORMS)
    assert mined(won) == []
    assert {m.outcome for m in mined(won, include_successes=True)} == {"success"}
    broken = replace(scripted(3, FALL), stop_reason="error")
    assert mined(broken, include_successes=True) == []


def test_every_mined_state_restores_and_every_id_is_its_own(tmp_path: Path) -> None:
    """Also where a task is rolled out more than once and passes through the same states."""
    run_phase(
        tmp_path / "rollouts",
        "teach.rollouts",
        {"student": {"backend": "uniform"}, "n_tasks": 30, "replicates": 3},
    )
    values = run_phase(tmp_path / "mined", "teach.mine", {"rollouts": [str(tmp_path / "rollouts")]})
    moments = read_moments(tmp_path / "mined")
    assert len(moments) == values["n_snapshots"] == len({m.id for m in moments}) > 100
    pairs = {(m.task_id, m.key_hash, m.student_action) for m in moments}
    assert len(pairs) == len(moments)
    assert values["duplicates"] > 0
    environment = make_environment(SHOP)
    for moment in moments:
        restore(moment.snapshot, environment)
        assert environment.observe() == moment.observation
        assert environment.valid_actions() == moment.valid_actions
        assert moment.student_action in moment.valid_actions
        assert moment.student_probs is not None
    told = json.loads((tmp_path / "mined/mining.json").read_text())
    assert told["splits"] == dict(sorted(Counter(split_of(m.task_id) for m in moments).items()))
    assert max(Counter(m.task_id for m in moments).values()) <= 12
    taken = values["n_snapshots"] + sum(
        values[name] for name in ("duplicates", "over_task", "over_type", "over_max")
    )
    assert taken == len((tmp_path / "mined/candidates.jsonl").read_text().splitlines())


def moments_of_task(seed: int, kind: str = "timeout") -> list[Moment]:
    made = mined(scripted(seed, FALL if seed % 2 else ["right", "left"] * 4), offsets=[0, 1, 2])
    return [replace(moment, failure_type=kind) for moment in made]


def test_caps_keep_anchors_first_and_are_counted() -> None:
    every = [*moments_of_task(3), *moments_of_task(9), *moments_of_task(15, "stuck_loop")]
    two = select(every, max_snapshots=100, max_per_task=2)
    assert Counter(m.offset for m in two.moments) == {0: 3, 1: 3}
    assert two.dropped["over_task"] == 3
    one_kind = select(every, max_snapshots=100, max_per_type=2)
    assert Counter(m.failure_type for m in one_kind.moments) == {"timeout": 2, "stuck_loop": 2}
    assert one_kind.dropped["over_type"] == 5
    few = select(every, max_snapshots=3)
    assert [m.offset for m in few.moments] == [0, 0, 0]
    assert few.dropped["over_max"] == 6


def test_the_same_state_and_action_are_taken_once_and_another_action_counts() -> None:
    once = moments_of_task(3)
    again = [replace(m, trajectory_id="another") for m in once]
    both = select([*once, *again], max_snapshots=100)
    assert list(both.moments) == once
    assert both.dropped["duplicates"] == len(once)
    detour = mined(scripted(3, ["right", "left", "right", "right", "leap", "wait"]), offsets=[0])
    assert detour[0].key_hash == once[0].key_hash
    assert detour[0].id != once[0].id
    assert select([*once, *detour], max_snapshots=100).dropped["duplicates"] == 1
    other = [replace(detour[0], student_action="left")]
    assert len(select([*once, *other], max_snapshots=100).moments) == len(once) + 1


def test_expert_states_are_sampled_at_the_rate_and_by_their_own_names() -> None:
    episodes = run_episodes(SHOP, ExpertActor(), range(150), uniforms=UNIFORMS)
    environment = make_environment(SHOP)
    taken = {
        episode.id: sample_episode(episode, environment, rate=0.5, randomness=Randomness(1))
        for episode in episodes
    }
    points = sum(episode.n_steps for episode in episodes)
    share = sum(map(len, taken.values())) / points
    assert abs(share - 0.5) < 4 * (0.25 / points) ** 0.5
    first = episodes[3]
    alone = sample_episode(first, environment, rate=0.5, randomness=Randomness(1))
    assert alone == taken[first.id]
    everything = sample_episode(first, environment, rate=1.0, randomness=Randomness(1))
    assert [m.step_idx for m in everything] == list(range(first.n_steps))
    assert {m.anchor_rule for m in everything} == {"sampled"}


def expert_file(tmp_path: Path) -> Path:
    settings = {"actor": "expert", "n_tasks": 12}
    values = run_phase(tmp_path / "expert", "teach.rollouts", settings)
    return tmp_path / "expert" / str(values["export"])


def test_experiment_b_from_the_exported_file(tmp_path: Path) -> None:
    file = expert_file(tmp_path)
    assert file.name == "all_trajectories_shop_s7.json"
    settings = {"rollouts": [str(file)], "source": "sampled", "sample_rate": 1.0}
    values = run_phase(tmp_path / "b", "teach.mine", settings)
    episodes = json.loads(file.read_text())["results"]
    assert values["n_snapshots"] == sum(row["n_steps"] for row in episodes)
    assert len(read_moments(tmp_path / "b/snapshots_expert.json")) == values["n_snapshots"]


def test_what_does_not_restore_is_refused_or_dropped_and_counted(tmp_path: Path) -> None:
    """--require-env-state drops it; without the flag nothing is labelled from such a file."""
    source = expert_file(tmp_path).parent / "episodes.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows[2]["steps"][1]["key_hash"] = "0" * 32
    damaged = tmp_path / "episodes.jsonl"
    damaged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"rollouts": [str(damaged)], "source": "sampled", "sample_rate": 1.0}
    failure = failure_of(tmp_path / "strict", "teach.mine", settings)
    assert failure["kind"] == "usage"
    assert "episode expert-shop-000002-r0, step 1" in failure["message"]
    values = run_phase(tmp_path / "b", "teach.mine", {**settings, "require_env_state": True})
    assert values["unrestorable"] == 1
    assert values["n_tasks"] == 11


def test_nothing_to_label_says_why(tmp_path: Path) -> None:
    file = expert_file(tmp_path)
    failure = failure_of(tmp_path / "mined", "teach.mine", {"rollouts": [str(file)]})
    assert failure["kind"] == "usage"
    for part in ("no snapshot to label", "rollouts 12", "failures 0", "there is no failure"):
        assert part in failure["message"]


def test_episodes_given_twice_are_refused(tmp_path: Path) -> None:
    file = str(expert_file(tmp_path))
    failure = failure_of(tmp_path / "mined", "teach.mine", {"rollouts": [file, file]})
    assert "is there twice" in failure["message"]


def test_another_version_of_the_environment_is_refused() -> None:
    episode = replace(scripted(3, FALL), version="0")
    with pytest.raises(DataError, match=r"made in corridor version 0; this is 1"):
        Environments().of(episode)


def test_killed_at_random_blocks_it_writes_the_very_bytes_of_an_unbroken_run(
    tmp_path: Path,
) -> None:
    run_phase(
        tmp_path / "rollouts",
        "teach.rollouts",
        {"student": {"backend": "uniform"}, "n_tasks": 80},
    )
    settings = {"rollouts": [str(tmp_path / "rollouts")], "block": 2}
    run_phase(tmp_path / "unbroken", "teach.mine", settings)
    broken = planned_phase(tmp_path / "broken", "teach.mine", settings)
    assert run_killed(broken, blocks=40, kills=2, seed=2) >= 1
    assert differing_streams(broken, tmp_path / "unbroken") == []
    for name in ("snapshots.jsonl", "failure_snapshots.json", "mining.json"):
        assert (broken / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
