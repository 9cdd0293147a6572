"""What is known of a state that an evaluation starts from: the chance of success, the right action.

Knows the exact values and their sampled stand-in. Refuses to call the middle of wide bounds a
probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupel.lab.randomness import Randomness
from cupel.stats.intervals import wilson
from cupel.teach.branches.branching import uniforms_of
from cupel.teach.branches.exact import Root, success_bounds
from cupel.teach.environments.base import (
    EnvironmentConfig,
    Snapshot,
    make_environment,
    restore,
    take_snapshot,
)
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.rollouts.episodes import run_episodes
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import Query, Student

if TYPE_CHECKING:
    from cupel.teach.evaluation.judging import EvaluationSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """A success probability: rigorous bounds when exact, a 95 % interval when sampled."""

    value: float | None = None
    lo: float | None = None
    hi: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is right in a start state, and what the student makes of it."""

    right: frozenset[str] = frozenset()
    expert_probability: float | None = None


def start_of(environment: EnvironmentConfig, seed: int) -> Snapshot:
    """Return the snapshot of a task's start."""
    world = make_environment(environment)
    world.reset(seed)
    return take_snapshot(world)


def chances(
    student: Student,
    settings: EvaluationSettings,
    roots: Sequence[Snapshot],
    randomness: Randomness,
) -> list[Chance]:
    """Return the success probability at temperature 1 from every start."""
    mode = settings.probability
    if mode == "auto":
        mode = "exact" if _names_states(settings.environment, roots) else "sampled"
    if mode == "none":
        return [Chance() for _ in roots]
    if mode == "sampled":
        return _sampled(student, settings, roots, randomness)
    bounds = success_bounds(
        [Root(snapshot=root, horizon=_horizon(settings, root)) for root in roots],
        student,
        settings.environment,
        prune_mass=settings.prune_mass,
        max_states=settings.max_states,
    )
    return [
        Chance(
            value=each.value if each.hi - each.lo <= settings.max_width else None,
            lo=each.lo,
            hi=each.hi,
        )
        for each in bounds
    ]


def _sampled(
    student: Student,
    settings: EvaluationSettings,
    roots: Sequence[Snapshot],
    randomness: Randomness,
) -> list[Chance]:
    n = settings.probability_rollouts
    episodes = run_episodes(
        settings.environment,
        student,
        roots,
        uniforms=uniforms_of(randomness, "evaluation_probability"),
        replicates=n,
        max_steps=settings.environment.max_steps if settings.horizon == "fresh" else None,
        keep_probs=False,
    )
    found: list[Chance] = []
    for start in range(0, len(episodes), n):
        told = [each for each in episodes[start : start + n] if each.stop_reason != "error"]
        if not told:
            found.append(Chance())
            continue
        right = sum(each.success for each in told)
        interval = wilson(right, len(told))
        found.append(Chance(value=right / len(told), lo=interval.low, hi=interval.high))
    return found


def _names_states(environment: EnvironmentConfig, roots: Sequence[Snapshot]) -> bool:
    if not roots:
        return False
    world = make_environment(environment)
    world.reset(roots[0].seed)
    return world.key() is not None


def _horizon(settings: EvaluationSettings, snapshot: Snapshot) -> int:
    most = settings.environment.max_steps
    return most if settings.horizon == "fresh" else max(0, most - len(snapshot.actions))


def answers(
    student: Student, settings: EvaluationSettings, moments: Sequence[LabelledMoment]
) -> list[Answer]:
    """Return what is right in each failure state, and the student's probability of it."""
    queries = [
        Query(
            prompt=build_prompt(each.moment.task, each.moment.observation, _actions(each)),
            actions=_actions(each),
        )
        for each in moments
    ]
    world = make_environment(settings.environment)
    found = []
    for each, probs_A in zip(moments, student.distributions(queries), strict=True):
        taught = each.hint.suggested_action if each.hint is not None and each.hint.valid else None
        restore(each.moment.snapshot, world)
        values = world.optimal_q(_horizon(settings, each.moment.snapshot))
        right = {taught} if values is None else {a for a, value in values.items() if value > 0}
        known = taught is not None and taught in _actions(each)
        found.append(
            Answer(
                right=frozenset(action for action in right if action is not None),
                expert_probability=(
                    float(probs_A[_actions(each).index(taught)]) if known and taught else None
                ),
            )
        )
    return found


def _actions(label: LabelledMoment) -> tuple[str, ...]:
    return label.moment.valid_actions
