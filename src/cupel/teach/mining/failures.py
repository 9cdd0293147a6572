"""What kind of failure an episode is, from its steps alone.

Knows loops, limits and confidence. Refuses to know values: where success was lost is found by
`mining`, which can ask the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cupel.teach.records import Episode

FailureType = Literal[
    "stuck_loop", "wrong_action", "timeout", "early_term", "suboptimal", "confusion", "none"
]
FAILURE_TYPES: tuple[FailureType, ...] = (
    "stuck_loop", "wrong_action", "timeout", "early_term", "suboptimal", "confusion", "none",
)  # fmt: skip

LOOP_WINDOW = 6
"""Actions looked at for a loop."""
CONFUSED_BELOW = 0.3
"""Mean probability of the likeliest action below which a failed episode counts as confusion."""
SUBOPTIMAL_FACTOR = 1.5
"""A success of more than so many times the shortest number of steps is suboptimal."""


def is_loop(actions: Sequence[str]) -> bool:
    """Say whether the last six actions repeat: all equal, or their leading pair or triple again.

    Windows do not overlap: a pair counts at positions 0, 2, 4 of the six, a triple at 0, 3.

    >>> is_loop(list("xababab")), is_loop(list("abcabc")), is_loop(list("abcdef"))
    (True, True, False)
    """
    last = list(actions[-LOOP_WINDOW:])
    if len(last) < LOOP_WINDOW:
        return False
    if len(set(last)) == 1:
        return True
    for size in (2, 3):
        windows = [last[at : at + size] for at in range(0, LOOP_WINDOW, size)]
        if windows.count(windows[0]) >= 2:
            return True
    return False


def loop_steps(actions: Sequence[str]) -> list[int]:
    """Return the steps at which a loop is seen, given the actions up to each."""
    return [step for step in range(len(actions)) if is_loop(actions[: step + 1])]


def confidence(probs: Sequence[float] | None) -> float | None:
    """Return the probability of the likeliest action; None where no student was asked."""
    return None if probs is None else max(probs)


def least_confident_step(episode: Episode) -> int | None:
    """Return the first step of the lowest confidence; None where no student was asked."""
    known = [
        (value, number)
        for number, step in enumerate(episode.steps)
        if (value := confidence(step.probs)) is not None
    ]
    return min(known)[1] if known else None


def failure_type(episode: Episode, *, shortest: int | None = None) -> FailureType:
    """Name the failure of an episode: the first that holds, in the order of the enumeration below.

    A success is "none", or "suboptimal" where the shortest way is known and was missed by far; an
    episode whose instrument broke is "none": it says nothing of the agent. A failure is a
    stuck_loop, where a loop was seen; a timeout, where steps ran out; early_term, where the
    environment ended it before any action; confusion, where the student was unsure on average;
    else wrong_action.

    Args:
        shortest: fewest steps in which the task can be done, where known.
    """
    if episode.stop_reason == "error":
        return "none"
    if episode.success:
        slow = shortest is not None and episode.n_steps > SUBOPTIMAL_FACTOR * shortest
        return "suboptimal" if slow else "none"
    if loop_steps([step.action for step in episode.steps]):
        return "stuck_loop"
    if episode.stop_reason == "limit":
        return "timeout"
    if not episode.steps:
        return "early_term"
    sure = [value for step in episode.steps if (value := confidence(step.probs)) is not None]
    if sure and sum(sure) / len(sure) < CONFUSED_BELOW:
        return "confusion"
    return "wrong_action"
