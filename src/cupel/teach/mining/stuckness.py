"""How an episode goes in circles: repeats, loops, wasted steps, and how long it stays stuck.

Pure: actions and state hashes in, rates out. Refuses to know why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cupel.teach.records import Episode

LOOP_AT = 3
"""A bigram of actions that occurs this often is a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuckness:
    """Circles of one episode; every value None for an episode of no steps.

    Attributes:
        repeat_rate: 1 - unique actions / actions.
        loop_rate: 1.0 if some pair of neighbouring actions occurs at least three times, else 0.0.
        immediate_repeat_rate: share of steps that repeat the action before; None with one step.
        wasted_rate: share of steps after which the state is the one before.
        escape_latency: mean number of steps from reaching a state seen before to reaching a new
            one, or to the end; None where no state was seen twice.
    """

    repeat_rate: float | None
    loop_rate: float | None
    immediate_repeat_rate: float | None
    wasted_rate: float | None
    escape_latency: float | None


def stuckness(episode: Episode) -> Stuckness:
    """Measure one episode; its last state is known by what is seen there."""
    actions = [step.action for step in episode.steps]
    if not actions:
        return Stuckness(
            repeat_rate=None,
            loop_rate=None,
            immediate_repeat_rate=None,
            wasted_rate=None,
            escape_latency=None,
        )
    repeated = sum(first == second for first, second in pairwise(actions))
    return Stuckness(
        repeat_rate=repeat_rate(actions),
        loop_rate=loop_rate(actions),
        immediate_repeat_rate=repeated / (len(actions) - 1) if len(actions) > 1 else None,
        wasted_rate=_wasted(episode) / len(actions),
        escape_latency=escape_latency([step.key_hash for step in episode.steps]),
    )


def repeat_rate(actions: Sequence[str]) -> float:
    """Return 1 - unique actions / actions.

    >>> repeat_rate(["left", "right", "left", "right"])
    0.5
    """
    return 1 - len(set(actions)) / len(actions)


def loop_rate(actions: Sequence[str]) -> float:
    """Return 1.0 if some pair of neighbouring actions occurs at least three times.

    >>> loop_rate(["a", "b", "a", "b", "a", "b"]), loop_rate(["a", "b", "a", "b", "a"])
    (1.0, 0.0)
    """
    pairs = Counter(pairwise(actions))
    return float(any(count >= LOOP_AT for count in pairs.values()))


def escape_latency(states: Sequence[str]) -> float | None:
    """Return the mean length of the stretches spent in states that were seen before.

    >>> escape_latency(["a", "b", "a", "b", "c", "a"]), escape_latency(["a", "b"])
    (1.5, None)
    """
    seen: set[str] = set()
    stretches: list[int] = []
    stuck = 0
    for state in states:
        if state in seen:
            stuck += 1
        elif stuck:
            stretches.append(stuck)
            stuck = 0
        seen.add(state)
    if stuck:
        stretches.append(stuck)
    return sum(stretches) / len(stretches) if stretches else None


def _wasted(episode: Episode) -> int:
    steps = episode.steps
    wasted = sum(before.key_hash == after.key_hash for before, after in pairwise(steps))
    return wasted + (not episode.success and steps[-1].observation == episode.final_observation)
