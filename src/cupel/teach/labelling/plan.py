"""What a first measurement of a moment consists of: horizon, notes and how many rollouts.

Knows hints, stages and what the environment can prove. Refuses to run anything, and to force or
to note anything without a valid hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cupel.errors import ConfigError, DataError
from cupel.teach.branches.branching import Uniforms
from cupel.teach.environments.base import Environment, make_environment, restore
from cupel.teach.labelling.config import LabelConfig
from cupel.teach.labelling.patching import build_notes
from cupel.teach.records import Condition, Hint, Moment
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import ActionProbs, Query, Student

NOTES: tuple[Condition, ...] = ("placebo", "shuffled", "demo", "contrast", "hint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """All that measuring needs besides the moments.

    Attributes:
        expert: a model as expert; None: the environment's.
        shuffled: note of another task's hint, by snapshot id.
        exact, sampled: whether probabilities are bounded, and whether they are sampled.
    """

    config: LabelConfig
    student: Student
    expert: Student | None
    uniforms: Uniforms
    hints: Mapping[str, Hint]
    shuffled: Mapping[str, str]
    exact: bool
    sampled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one moment's first measurement consists of.

    Attributes:
        hint: a valid one, or None.
        notes: by condition; empty without a patch test.
        dead_end: no action leads to success within the horizon, as the environment proves.
    """

    moment: Moment
    horizon: int
    hint: Hint | None
    notes: Mapping[Condition, str]
    dead_end: bool
    counts: Mapping[Condition, int]

    @property
    def episodes(self) -> int:
        """Rollouts that sampling it takes."""
        return sum(self.counts.values())


def modes(config: LabelConfig, moments: Sequence[Moment]) -> tuple[bool, bool]:
    """Return whether to bound exactly and whether to sample.

    Raises:
        ConfigError: exact bounds are asked for where states cannot be named.
    """
    named = True
    if moments and config.estimate != "monte_carlo":
        environment = make_environment(config.environment)
        restore(moments[0].snapshot, environment)
        named = environment.key() is not None
    if config.estimate in ("exact", "both") and not named:
        raise ConfigError(
            f"estimate '{config.estimate}': states of {config.environment.name} cannot be named, "
            "so no exact bounds exist there; set estimate to monte_carlo"
        )
    exact = config.estimate in ("exact", "both") or (config.estimate == "auto" and named)
    return exact, config.estimate in ("monte_carlo", "both") or not exact


def distributions(moments: Sequence[Moment], student: Student) -> list[ActionProbs]:
    """Return the student's distribution at each moment, by the prompt that it acts by."""
    return student.distributions([query_of(moment) for moment in moments])


def query_of(moment: Moment, note: str | None = None) -> Query:
    """Return the state as the student sees it, instruction included."""
    prompt = build_prompt(moment.task, moment.observation, moment.valid_actions, patch=note)
    return Query(prompt=prompt, actions=moment.valid_actions)


def plans_of(moments: Iterable[Moment], lab: Lab) -> list[Plan]:
    """Plan the first measurement of each moment.

    Without a valid hint nothing is forced and no note is given; such a moment is measured only
    where the environment proves a dead end, and then its probabilities are known to be 0.

    Raises:
        DataError: a moment has no steps left.
    """
    environment = make_environment(lab.config.environment)
    return [_plan(moment, lab, environment) for moment in moments]


def _plan(moment: Moment, lab: Lab, environment: Environment) -> Plan:
    config = lab.config
    horizon = config.horizon_at(moment.step_idx)
    if horizon < 1:
        raise DataError(
            f"snapshot {moment.id} is at step {moment.step_idx} of {config.environment.max_steps}: "
            "no step is left to act in; give a larger --max-steps, or horizon 'fresh'"
        )
    hint = lab.hints.get(moment.id)
    if hint is None or not hint.valid or hint.suggested_action is None:
        leverage = "leverage" in config.stages
        dead = leverage and _is_dead_end(moment, horizon, environment)
        return Plan(moment=moment, horizon=horizon, hint=None, notes={}, dead_end=dead, counts={})
    notes: dict[Condition, str] = {}
    if "patch" in config.stages:
        notes = build_notes(moment, hint, shuffled=lab.shuffled.get(moment.id))
    counts: dict[Condition, int] = {}
    if "leverage" in config.stages:
        first = config.rollouts
        counts = {"policy": first.policy, "force": first.force, "expert": first.expert}
    if notes:
        counts.setdefault("policy", config.rollouts.patch)
        counts |= {name: config.rollouts.patch for name in NOTES if name in notes}
    return Plan(
        moment=moment, horizon=horizon, hint=hint, notes=notes, dead_end=False, counts=counts
    )


def _is_dead_end(moment: Moment, horizon: int, environment: Environment) -> bool:
    restore(moment.snapshot, environment)
    within_reach = environment.optimal_q(horizon)
    return within_reach is not None and not any(within_reach.values())
