"""Phase 0: what acts is what is scored, every rollout can be had again, a kill loses nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.errors import ConfigError
from cupel.lab import differing_streams, load_recipe, plan_run
from cupel.lab.randomness import Randomness, counter_of
from cupel.lab.store import read_jsonl
from cupel.stats.intervals import wilson
from cupel.teach.branches.branching import uniforms_of
from cupel.teach.environments import corridor
from cupel.teach.environments.base import (
    EnvironmentConfig,
    make_environment,
    restore,
    take_snapshot,
)
from cupel.teach.mining.failures import failure_type, is_loop, least_confident_step, loop_steps
from cupel.teach.records import Episode, StepRecord, episode_of, to_row
from cupel.teach.rollouts.export import snapshot_at
from cupel.teach.rollouts.recipe import ExpertActor, run_episodes
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import Query, UniformStudent, draw
from tests.teach.phase_runs import planned_phase, run_killed, run_phase
from tests.teach.teach_students import TableStudent

CORRIDOR = EnvironmentConfig(name="corridor", max_steps=8)
SHOP = EnvironmentConfig(name="shop")
UNIFORMS = uniforms_of(Randomness(5), "rollouts")
SMALL: dict[str, Any] = {
    "environment": {"name": "corridor", "max_steps": 6},
    "student": {"backend": "uniform"},
    "n_tasks": 20,
    "block": 4,
}


def test_the_policy_that_acts_is_the_policy_that_is_scored() -> None:
    """Not generation with fuzzy matching here and scoring there: one distribution, recorded with
    each step, from the one prompt builder; its draw is the action. No fallback action exists."""
    student = TableStudent()
    for episode in run_episodes(SHOP, student, range(10), uniforms=UNIFORMS, replicates=2):
        for number, step in enumerate(episode.steps):
            prompt = build_prompt(episode.task, step.observation, step.valid_actions)
            (probs,) = student.distributions([Query(prompt=prompt, actions=step.valid_actions)])
            assert step.probs == tuple(probs)
            key = (counter_of(episode.task_id), episode.replicate, number)
            uniform = Randomness(5).generator("rollouts", *key).random()
            assert step.action == step.valid_actions[draw(probs, uniform)]


def test_every_rollout_can_be_had_again_alone() -> None:
    """Each has a key of its own and its outcome is kept, not only a rate over rollouts."""
    student = TableStudent()
    every = run_episodes(SHOP, student, range(12), uniforms=UNIFORMS, replicates=3)
    assert [episode.replicate for episode in every[:3]] == [0, 1, 2]
    assert len({episode.id for episode in every}) == 36
    assert len({tuple(step.action for step in episode.steps) for episode in every[:3]}) > 1
    alone = run_episodes(SHOP, student, [7], uniforms=UNIFORMS, replicates=3)
    assert alone == every[21:24]


def test_greedy_students_draw_nothing() -> None:
    student = TableStudent(temperature=0.0)
    first = run_episodes(SHOP, student, [3], uniforms=UNIFORMS)
    other = run_episodes(SHOP, student, [3], uniforms=uniforms_of(Randomness(9), "x"))
    assert first == other


def test_an_episode_from_a_snapshot_has_the_steps_that_were_left() -> None:
    environment = make_environment(CORRIDOR)
    environment.reset(0)
    for action in ("right", "left", "right"):
        environment.step(action)
    snapshot = take_snapshot(environment)
    student = TableStudent(salt="slow", sharpness=0.0)
    limits = set()
    for replicate, episode in enumerate(
        run_episodes(CORRIDOR, student, [snapshot], uniforms=UNIFORMS, replicates=40)
    ):
        assert episode.start == snapshot.id
        assert episode.start_actions == snapshot.actions
        assert episode.id == f"student-{snapshot.id}-r{replicate}"
        limits |= {episode.n_steps} if episode.stop_reason == "limit" else set()
    assert limits == {5}  # 8 less 3
    (fresh,) = run_episodes(
        CORRIDOR, TableStudent(sharpness=0.0), [snapshot], uniforms=UNIFORMS, max_steps=1
    )
    assert fresh.n_steps == 1


def test_the_states_of_an_episode_restore() -> None:
    (episode,) = run_episodes(SHOP, TableStudent(), [2], uniforms=UNIFORMS)
    environment = make_environment(SHOP)
    for number, step in enumerate(episode.steps):
        restore(snapshot_at(episode, number), environment)
        assert environment.observe() == step.observation
        assert environment.valid_actions() == step.valid_actions


def test_an_expert_succeeds_and_errs_as_often_as_told() -> None:
    sure = run_episodes(SHOP, ExpertActor(), range(60), uniforms=UNIFORMS)
    assert all(episode.success for episode in sure)
    assert all(step.probs is None for episode in sure for step in episode.steps)
    noisy = run_episodes(SHOP, ExpertActor(flip_rate=0.3), range(200), uniforms=UNIFORMS)
    assert 0 < sum(episode.success for episode in noisy) < 200
    taken = flipped = 0
    environment = make_environment(SHOP)
    for episode in noisy:
        for number, step in enumerate(episode.steps):
            restore(snapshot_at(episode, number), environment)
            taken += 1
            flipped += step.action != environment.expert()
    assert abs(flipped / taken - 0.3) < 4 * np.sqrt(0.21 / taken)
    assert {episode.actor for episode in noisy} == {"expert-flip0.3"}


class Unstable(corridor.Corridor):
    """Cannot begin task 1."""

    def reset(self, seed: int) -> None:
        if seed == 1:
            raise RuntimeError("no such game")
        super().reset(seed)

    def copy(self) -> Unstable:
        twin = Unstable(self.level)
        twin.seed, twin.actions, twin._cell = self.seed, self.actions, self._cell
        return twin


def test_a_task_that_cannot_begin_is_an_error_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(corridor, "make", Unstable)
    values = run_phase(tmp_path / "run", "teach.rollouts", SMALL)
    assert values["n_rollouts"] == 20
    assert values["n_errors"] == 1
    assert values["n_successes"] + values["n_failures"] == 19
    row = json.loads((tmp_path / "run/episodes.jsonl").read_text().splitlines()[1])
    assert (row["stop_reason"], row["message"]) == ("error", "RuntimeError: no such game")
    result = json.loads((tmp_path / "run/rollouts.json").read_text())["results"][1]
    assert result["success"] is None


def test_the_export_has_the_documented_keys_and_counts(tmp_path: Path) -> None:
    values = run_phase(tmp_path / "run", "teach.rollouts", SMALL)
    document = json.loads((tmp_path / "run/rollouts.json").read_text())
    assert set(document) == {"config", "statistics", "results", "failures"}
    assert {"model_name", "n_tasks", "max_steps"} <= set(document["config"])
    statistics = document["statistics"]
    assert {
        "n_rollouts", "n_successes", "n_failures", "success_rate", "total_failure_events",
        "failure_type_breakdown", "avg_steps", "avg_reward", "avg_duration",
    } <= set(statistics)  # fmt: skip
    episodes = read_jsonl(tmp_path / "run/episodes.jsonl")
    successes = sum(row["success"] for row in episodes)
    assert statistics["n_successes"] == successes == values["n_successes"] > 0
    interval = wilson(successes, 20)
    assert (statistics["success_lo"], statistics["success_hi"]) == (interval.low, interval.high)
    assert statistics["avg_duration"] is None  # a clock would make equal runs differ
    assert sum(statistics["failure_type_breakdown"].values()) == len(document["failures"])
    for result in document["results"]:
        assert {
            "trajectory_id", "task_id", "success", "total_reward", "n_steps", "states", "actions",
            "rewards", "failures", "rollout_states", "instruction_text", "duration_seconds",
            "model_name",
        } <= set(result)  # fmt: skip
        assert len(result["states"]) == result["n_steps"] + 1
        assert len(result["rollout_states"]) == (0 if result["success"] else result["n_steps"])
        for state in result["rollout_states"]:
            assert {
                "step_idx", "observation", "valid_actions", "action_taken", "reward", "done",
                "action_probs", "confidence", "raw_output", "env_state_b64", "instruction_text",
            } <= set(state)  # fmt: skip
            assert state["confidence"] == max(state["action_probs"].values())
    for failure in document["failures"]:
        assert {
            "trajectory_id", "step_idx", "failure_type", "state", "action_taken", "valid_actions",
            "recent_actions", "recent_states", "cumulative_reward", "steps_remaining",
            "action_probs", "model_confidence", "teacher_action", "teacher_would_succeed",
        } <= set(failure)  # fmt: skip
        assert failure["recent_actions"][-1] == failure["action_taken"]


def test_collect_all_is_heeded(tmp_path: Path) -> None:
    run_phase(tmp_path / "run", "teach.rollouts", {**SMALL, "collect_all": True})
    document = json.loads((tmp_path / "run/rollouts.json").read_text())
    assert any(result["success"] for result in document["results"])
    assert all(len(r["rollout_states"]) == r["n_steps"] for r in document["results"])


def test_blocks_change_nothing(tmp_path: Path) -> None:
    for name, block in (("one", 1), ("all", 64)):
        run_phase(tmp_path / name, "teach.rollouts", {**SMALL, "block": block})
    for file in ("episodes.jsonl", "rollouts.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "all" / file).read_bytes()


def test_killed_at_random_blocks_it_writes_the_very_bytes_of_an_unbroken_run(
    tmp_path: Path,
) -> None:
    """Rows are appended block by block, so a crash at the end does not lose what came before."""
    settings = {**SMALL, "n_tasks": 120, "block": 2}
    run_phase(tmp_path / "unbroken", "teach.rollouts", settings)
    broken = planned_phase(tmp_path / "broken", "teach.rollouts", settings)
    assert run_killed(broken, blocks=60, kills=2, seed=1) >= 1
    assert differing_streams(broken, tmp_path / "unbroken") == []
    derived = [folder / "rollouts.json" for folder in (broken, tmp_path / "unbroken")]
    assert derived[0].read_bytes() == derived[1].read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip_rate": 0.1}, "flip_rate is the expert's"),
        ({"task_ids": [1, 1]}, "a task is named twice"),
        ({"task_ids": []}, "task_ids is empty"),
        ({"n_tasks": 0}, "n_tasks"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_run(load_recipe("teach.rollouts"), "teach.rollouts", passed=settings, seed=1)


def episode(actions: str, *, probs: tuple[float, ...] | None = (0.5, 0.5), **more: Any) -> Episode:
    steps = tuple(
        StepRecord(observation="o", valid_actions=("a", "b"), action=action, probs=probs,
                   reward=0.0, key_hash="h")
        for action in actions
    )  # fmt: skip
    given = {"stop_reason": "ended", **more}
    return Episode(id="e", environment="corridor", level="", version="1", seed=0,
                   task_id="corridor-000000", task="t", actor="x", replicate=0, steps=steps,
                   **given)  # fmt: skip


@pytest.mark.parametrize(
    ("actions", "looped"),
    [("aaaaaa", True), ("xxaaaaaa", True), ("ababab", True), ("abcabc", True), ("abcdab", True),
     ("abcdef", False), ("aaaaa", False), ("abcdeabcde", False)],
)  # fmt: skip
def test_loops_are_seen_in_the_last_six_actions(actions: str, looped: bool) -> None:
    assert is_loop(list(actions)) == looped


def test_a_loop_is_found_where_it_first_shows() -> None:
    assert loop_steps(list("cdeabababx"))[0] == 8
    assert loop_steps(list("aaaaa")) == []


def test_failures_are_named_in_order() -> None:
    assert failure_type(episode("aaaaaa")) == "stuck_loop"
    assert failure_type(episode("ab", stop_reason="limit")) == "timeout"
    assert failure_type(episode("ab", probs=(0.2,) * 5)) == "confusion"
    assert failure_type(episode("ab")) == "wrong_action"
    assert failure_type(episode("ab", probs=None)) == "wrong_action"
    assert failure_type(episode("")) == "early_term"
    assert failure_type(episode("aaaaaa", stop_reason="error")) == "none"
    won = episode("aaaa", success=True, stop_reason="success")
    assert failure_type(won) == "none"
    assert failure_type(won, shortest=2) == "suboptimal"
    assert failure_type(won, shortest=3) == "none"
    assert least_confident_step(episode("ab")) == 0
    assert least_confident_step(episode("ab", probs=None)) is None


def test_slow_successes_are_counted_where_the_shortest_way_is_known(tmp_path: Path) -> None:
    run_phase(tmp_path / "run", "teach.rollouts", {**SMALL, "n_tasks": 60})
    document = json.loads((tmp_path / "run/rollouts.json").read_text())
    slow = [row for row in document["failures"] if row["failure_type"] == "suboptimal"]
    assert slow
    by_id = {row["trajectory_id"]: row for row in document["results"]}
    for row in slow:
        result = by_id[row["trajectory_id"]]
        assert result["success"]
        (best,) = run_episodes(CORRIDOR, ExpertActor(), [result["seed"]], uniforms=UNIFORMS)
        assert result["n_steps"] > 1.5 * best.n_steps


def test_episodes_survive_the_way_to_json() -> None:
    for made in run_episodes(CORRIDOR, UniformStudent(), range(4), uniforms=UNIFORMS):
        assert episode_of(json.loads(json.dumps(to_row(made)))) == made
        without = run_episodes(
            CORRIDOR, UniformStudent(), [made.seed], uniforms=UNIFORMS, keep_probs=False
        )
        bare = tuple(replace(step, probs=None) for step in made.steps)
        assert without == [replace(made, steps=bare)]
