"""From one episode to its moments: the ladder before a failure, or a sample of all its steps.

Knows one episode and a replay of it. Refuses to know the other episodes: duplicates and caps are
in `mining_caps`.
"""

from __future__ import annotations

from collections.abc import Sequence

from cupel.lab.randomness import Randomness, counter_of
from cupel.teach.environments.base import Environment, EnvironmentConfig, EnvironmentName
from cupel.teach.mining.anchors import AnchorMethod, find_anchor, largest_drop, replay
from cupel.teach.mining.failures import failure_type
from cupel.teach.records import Episode, Moment
from cupel.teach.rollouts.export import snapshot_at
from cupel.teach.students.student import Student


def mine_episode(
    episode: Episode,
    environment: Environment,
    *,
    max_steps: int,
    offsets: Sequence[int],
    method: AnchorMethod = "auto",
    include_successes: bool = False,
    student: Student | None = None,
) -> list[Moment]:
    """Return the ladder of moments of one episode, nearest to the anchor first; [] if unused.

    Args:
        max_steps: steps the episode had from the task's start.
        offsets: steps before the anchor at which states are taken; negative: after it.
        method: how the failure is located; a `student` locates it by its own values instead.

    Raises:
        DataError: the episode does not replay.
    """
    wanted = include_successes if episode.success else episode.stop_reason != "error"
    if not wanted or not episode.steps:
        return []
    ways = replay(episode, environment)
    if student is not None and not episode.success:
        place = place_of(episode)
        anchor = largest_drop(episode, student, place, max_steps=max_steps)
    else:
        anchor = find_anchor(episode, ways, max_steps=max_steps, method=method)
    kind = failure_type(episode)
    last = episode.n_steps - 1
    steps = dict.fromkeys(min(max(anchor.step - back, 0), last) for back in offsets)
    return [
        moment_at(episode, step, kind=kind, anchor=anchor.step, rule=anchor.rule) for step in steps
    ]


def sample_episode(
    episode: Episode, environment: Environment, *, rate: float, randomness: Randomness
) -> list[Moment]:
    """Return each decision point of an episode with probability `rate`, keyed by its own name.

    Raises:
        DataError: the episode does not replay.
    """
    if episode.stop_reason == "error" or not episode.steps:
        return []
    replay(episode, environment)
    keys = [(counter_of(episode.id), step) for step in range(episode.n_steps)]
    uniforms = randomness.uniforms("mining", keys, 1)[:, 0]
    kind = failure_type(episode)
    return [
        moment_at(episode, step, kind=kind, anchor=step, rule="sampled")
        for step in range(episode.n_steps)
        if uniforms[step] < rate
    ]


def moment_at(episode: Episode, step: int, *, kind: str, anchor: int, rule: str) -> Moment:
    """Return the moment before a step of an episode."""
    record = episode.steps[step]
    return Moment(
        snapshot=snapshot_at(episode, step),
        task=episode.task,
        observation=record.observation,
        valid_actions=record.valid_actions,
        step_idx=len(episode.start_actions) + step,
        trajectory_id=episode.id,
        outcome="success" if episode.success else "failure",
        student_action=record.action,
        student_probs=record.probs,
        failure_type=kind,
        anchor_step=len(episode.start_actions) + anchor,
        anchor_rule=rule,
        offset=anchor - step,
        key_hash=record.key_hash,
    )


def place_of(episode: Episode) -> EnvironmentConfig:
    """Return the environment that an episode was made in."""
    name: EnvironmentName = episode.environment  # type: ignore[assignment]
    return EnvironmentConfig(name=name, level=episode.level)
