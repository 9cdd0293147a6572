"""Where in an episode success was lost: by values where they are known, by rules otherwise.

Knows one replay of one episode. Refuses to guess silently: the rule that found the step is named
beside it. The regret step is the last one at which success was still within reach of the steps
left and after whose action it no longer was; reach is the environment's own (`optimal_q`), or what
its expert still achieves from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cupel.errors import DataError
from cupel.teach.branches.exact import action_values
from cupel.teach.environments.base import Environment, EnvironmentConfig, state_hash
from cupel.teach.mining.failures import LOOP_WINDOW, least_confident_step, loop_steps
from cupel.teach.records import Episode
from cupel.teach.rollouts.export import snapshot_at
from cupel.teach.rollouts.walks import EXPERT_SILENT, Walk, walk_expert
from cupel.teach.students.student import Student

AnchorMethod = Literal["auto", "optimal", "expert", "rules", "student_value"]
Reach = Callable[[Environment, int], bool | None]
"""Whether success is within reach in so many steps; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A step of an episode and the rule that named it: regret, expert_regret, value_drop, loop,
    timeout, low_confidence or last_step."""

    step: int
    rule: str


def replay(episode: Episode, environment: Environment) -> list[Environment]:
    """Walk an episode again; return the environment before each step and after the last.

    Raises:
        DataError: a state is not the one that was recorded.
    """
    environment.reset(episode.seed)
    for action in episode.start_actions:
        environment.step(action)
    ways = []
    for number, step in enumerate(episode.steps):
        found = state_hash(environment)
        if found != step.key_hash:
            raise DataError(
                f"episode {episode.id}, step {number}: state {found}, recorded as "
                f"{step.key_hash}; the environment is not the one the episode was made in. "
                "Run the rollouts again"
            )
        ways.append(environment.copy())
        environment.step(step.action)
    return [*ways, environment.copy()]


def find_anchor(
    episode: Episode, ways: list[Environment], *, max_steps: int, method: AnchorMethod = "auto"
) -> Anchor:
    """Locate a failure (or, of a success, the least confident step).

    Args:
        ways: from `replay`.
        max_steps: steps the episode had from the task's start.
        method: auto takes the first that knows: optimal, then expert, then rules; student_value
            is `largest_drop`, which needs a student.
    """
    before = len(episode.start_actions)
    if not episode.success and episode.steps:
        if method in ("auto", "optimal"):
            step = _lost_at(ways, max_steps - before, _optimal)
            if step is not None:
                return Anchor(step=step, rule="regret")
        if method in ("auto", "expert"):
            step = _lost_at(ways, max_steps - before, _by_expert)
            if step is not None:
                return Anchor(step=step, rule="expert_regret")
    return _by_rules(episode)


def largest_drop(
    episode: Episode, student: Student, environment: EnvironmentConfig, *, max_steps: int
) -> Anchor:
    """Return the step that cost most of the student's own success probability, exactly.

    The drop of a step is V(s) - Q(s, a) with the action taken; of equal drops the first counts.

    Raises:
        ConfigError: the environment's states cannot be named.
    """
    left = max_steps - len(episode.start_actions)
    roots = [(snapshot_at(episode, step), left - step) for step in range(episode.n_steps)]
    values = action_values(roots, student, environment)
    drops = [
        value.under(value.probs).value - value.of(step.action).value
        for value, step in zip(values, episode.steps, strict=True)
    ]
    return Anchor(step=drops.index(max(drops)), rule="value_drop")


def _lost_at(ways: list[Environment], steps: int, reach: Reach) -> int | None:
    """Return the last step from which success was in reach and after which it was not."""
    after: bool | None = False  # the episode is over, without success
    for step in range(len(ways) - 2, -1, -1):
        here = reach(ways[step], steps - step)
        if here and after is False:
            return step
        after = here
    return None


def _optimal(environment: Environment, left: int) -> bool | None:
    reach = environment.optimal_q(left)
    return None if reach is None else any(reach.values())


def _by_expert(environment: Environment, left: int) -> bool | None:
    walk = Walk(counter=0, replicate=0, horizon=left)
    walk_expert(walk, environment.copy())
    return False if walk.message == EXPERT_SILENT else walk.success


def _by_rules(episode: Episode) -> Anchor:
    loops = loop_steps([step.action for step in episode.steps])
    last = max(episode.n_steps - 1, 0)
    if loops and not episode.success:
        return Anchor(step=loops[0] - LOOP_WINDOW + 1, rule="loop")
    if episode.stop_reason == "limit":
        return Anchor(step=last, rule="timeout")
    least = least_confident_step(episode)
    if least is None:
        return Anchor(step=last, rule="last_step")
    return Anchor(step=least, rule="low_confidence")
