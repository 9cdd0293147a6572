"""Circles of an episode, against counts made by hand."""

from __future__ import annotations

from cupel.teach.mining.stuckness import escape_latency, loop_rate, repeat_rate, stuckness
from cupel.teach.records import Episode, StepRecord


def episode(actions: str, states: str, final: str, *, success: bool = False) -> Episode:
    steps = tuple(
        StepRecord(
            observation=state,
            valid_actions=("a", "b"),
            action=action,
            probs=None,
            reward=0.0,
            key_hash=state,
        )
        for action, state in zip(actions, states, strict=True)
    )
    return Episode(
        id="e", environment="corridor", level="", version="1", seed=0, task_id="t", task="x",
        actor="s", replicate=0, steps=steps, final_observation=final, success=success,
    )  # fmt: skip


def test_rates_of_a_hand_made_episode() -> None:
    found = stuckness(episode("ababab", "123123", "4"))
    assert found.repeat_rate == 1 - 2 / 6
    assert found.loop_rate == 1.0
    assert found.immediate_repeat_rate == 0.0
    assert found.wasted_rate == 0.0
    assert found.escape_latency == 3.0


def test_waiting_is_wasted_and_the_last_step_counts() -> None:
    found = stuckness(episode("aaa", "111", "1"))
    assert found.wasted_rate == 1.0
    assert found.immediate_repeat_rate == 1.0
    assert found.escape_latency == 2.0


def test_a_success_is_not_wasted_though_the_text_stays() -> None:
    assert stuckness(episode("a", "1", "1", success=True)).wasted_rate == 0.0


def test_an_episode_without_steps_has_no_rates() -> None:
    found = stuckness(episode("", "", "1"))
    assert (found.repeat_rate, found.loop_rate, found.escape_latency) == (None, None, None)


def test_two_occurrences_of_a_pair_are_no_loop() -> None:
    assert loop_rate(list("abab")) == 0.0
    assert loop_rate(list("aaaa")) == 1.0
    assert repeat_rate(list("abcd")) == 0.0


def test_each_stretch_of_known_states_counts_once() -> None:
    assert escape_latency(list("abcabdabe")) == 2.0
    assert escape_latency(list("abc")) is None
