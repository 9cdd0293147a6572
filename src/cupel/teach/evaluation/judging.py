"""Judging one student on fixed tasks and fixed failure states, one row an episode.

Knows episodes from a task's start and from a restored snapshot, acted greedily, and the exact
success probability at temperature 1 beside them. Refuses to know how the student was made, to
compare two students, and to count an instrument's failure as the student's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from cupel.config import Config
from cupel.lab.metrics import Scalar
from cupel.lab.randomness import Randomness
from cupel.teach.branches.branching import uniforms_of
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.evaluation.starts import Answer, Chance, answers, chances, start_of
from cupel.teach.labelling.labels import LabelledMoment, Quadrant
from cupel.teach.mining.stuckness import stuckness
from cupel.teach.records import Episode, StopReason
from cupel.teach.rollouts.episodes import run_episodes
from cupel.teach.students.student import ActionProbs, Query, Student, tempered

Dataset = Literal["tasks", "snapshots"]


class EvaluationSettings(Config):
    """What every model is evaluated on, and how."""

    environment: EnvironmentConfig = Field(default_factory=EnvironmentConfig)
    """Where the tasks and snapshots live; its `max_steps` bounds every episode."""
    n_tasks: Annotated[int, Field(ge=1)] = 200
    """Tasks from their start: the first so many seeds of the test split."""
    n_snapshots_per_quadrant: Annotated[int, Field(ge=0)] = 100
    """Failure states of each quadrant, from the panel split; a quadrant that has fewer is
    reported short, and never filled from tasks that were trained on."""
    horizon: Literal["remaining", "fresh"] = "remaining"
    """Steps an episode from a snapshot may take: what was left there, or `max_steps` anew."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the episodes; 0 is greedy."""
    probability: Literal["auto", "exact", "sampled", "none"] = "auto"
    """Success probability at temperature 1 beside each episode. exact: by mass propagation, with
    bounds; sampled: by `probability_rollouts` rollouts; auto: exact where the environment can name
    its states, else sampled; none: not measured."""
    probability_rollouts: Annotated[int, Field(ge=1)] = 8
    """Rollouts behind a sampled success probability."""
    prune_mass: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Probability that mass propagation may leave undecided."""
    max_states: Annotated[int, Field(ge=1)] = 20_000
    """States of one start that mass propagation may visit before it leaves the rest undecided."""
    max_width: Annotated[float, Field(gt=0, le=1)] = 0.05
    """An exact success probability whose bounds lie further apart is missing, not its middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRow:
    """One evaluated start: the row of episodes.jsonl.

    Attributes:
        model, train_seed: who acted; BASE has no train_seed.
        dataset: tasks, from the start of a test task; snapshots, from a failure state.
        snapshot_id, quadrant: of the failure state; "" for a task.
        success: None when the instrument failed (`stop_reason` error): no outcome of the model.
        repeat_rate, loop_rate, immediate_repeat_rate, wasted_rate, escape_latency: see
            `cupel.teach.mining.stuckness`.
        first_action_correct: the first greedy action keeps success within reach where the
            environment can tell, else it is the teacher's; None where neither is known.
        expert_probability: what the student gives the teacher's action in the start state.
        success_probability: at temperature 1; None where the bounds are wider than `max_width`.
        probability_lo, probability_hi: rigorous bounds when exact, a 95 % interval when sampled.
    """

    model: str
    train_seed: int | None
    dataset: Dataset
    task_id: str
    snapshot_id: str
    quadrant: str
    success: bool | None
    total_reward: float | None
    steps: int
    repeat_rate: float | None
    loop_rate: float | None
    stop_reason: StopReason
    first_action_correct: bool | None = None
    success_probability: float | None = None
    probability_lo: float | None = None
    probability_hi: float | None = None
    immediate_repeat_rate: float | None = None
    wasted_rate: float | None = None
    escape_latency: float | None = None
    expert_probability: float | None = None
    message: str = ""

    def to_row(self) -> dict[str, Any]:
        """Return the row as plain JSON data."""
        return asdict(self)

    @property
    def start(self) -> str:
        """What the episode started from: the snapshot's id, or the task's."""
        return self.snapshot_id or self.task_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The failure states that every model is evaluated on.

    Attributes:
        moments: by quadrant, in the order of the hash of their ids.
        counts: how many each quadrant has; those below what was asked for are `short`.
        asked: how many were asked for in each quadrant; 0 where a file listed the panel.
    """

    moments: tuple[LabelledMoment, ...]
    counts: Mapping[Quadrant, int]
    asked: int

    @property
    def short(self) -> dict[Quadrant, int]:
        """Quadrants with fewer failure states than were asked for."""
        return {name: n for name, n in self.counts.items() if n < self.asked}


def evaluate_model(
    student: Student,
    settings: EvaluationSettings,
    *,
    tasks: Sequence[int],
    panel: Panel,
    randomness: Randomness,
    model: str,
    train_seed: int | None = None,
) -> tuple[EpisodeRow, ...]:
    """Evaluate one student; rows in the order of `tasks`, then of `panel.moments`.

    Args:
        tasks: seeds of test tasks, from `cupel.teach.evaluation.panel.evaluation_tasks`.
        panel: from `cupel.teach.evaluation.panel.build_panel`.
        model: its name in every row, e.g. `Q1_highU_highL_hint`.

    Raises:
        DataError: a snapshot cannot be restored.
    """
    base = settings.environment
    fresh = base.max_steps if settings.horizon == "fresh" else None
    acting = at_temperature(student, settings.temperature)
    uniforms = uniforms_of(randomness, "evaluation")
    snapshots = [each.moment.snapshot for each in panel.moments]
    from_tasks = run_episodes(base, acting, tasks, uniforms=uniforms, keep_probs=False)
    from_snapshots = run_episodes(
        base, acting, snapshots, uniforms=uniforms, max_steps=fresh, keep_probs=False
    )
    roots = [*(start_of(base, seed) for seed in tasks), *snapshots]
    odds = chances(student, settings, roots, randomness)
    right = answers(student, settings, panel.moments)
    starts: list[LabelledMoment | None] = [*(None for _ in tasks), *panel.moments]
    return tuple(
        _row(episode, moment, chance, answer, model=model, train_seed=train_seed)
        for episode, moment, chance, answer in zip(
            [*from_tasks, *from_snapshots],
            starts,
            odds,
            [*(Answer() for _ in tasks), *right],
            strict=True,
        )
    )


def summary(rows: Sequence[EpisodeRow]) -> dict[str, Scalar]:
    """Return the numbers of one evaluation, as evaluations.jsonl holds them.

    Keys: success_rate and success_probability of the tasks; panel_success_rate and
    panel_success_probability of the snapshots; mean_reward, mean_steps, n_tasks, n_snapshots,
    n_errors. None where there is nothing to average.
    """
    tasks = [row for row in rows if row.dataset == "tasks" and row.success is not None]
    panel = [row for row in rows if row.dataset == "snapshots" and row.success is not None]
    return {
        "success_rate": mean_or_none([row.success for row in tasks]),
        "success_probability": mean_or_none([row.success_probability for row in tasks]),
        "panel_success_rate": mean_or_none([row.success for row in panel]),
        "panel_success_probability": mean_or_none([row.success_probability for row in panel]),
        "mean_reward": mean_or_none([row.total_reward for row in tasks]),
        "mean_steps": mean_or_none([row.steps for row in tasks]),
        "n_tasks": len(tasks),
        "n_snapshots": len(panel),
        "n_errors": len(rows) - len(tasks) - len(panel),
    }


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Return the mean of what was measured; None when nothing was."""
    given = [float(value) for value in values if value is not None]
    return math.fsum(given) / len(given) if given else None


@dataclass(slots=True, kw_only=True)
class TemperedStudent:
    """A student whose probabilities are raised to 1/T and scaled again; T = 0 is greedy."""

    student: Student
    temperature: float
    identity: str

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        """Return one distribution a query."""
        found = self.student.distributions(queries)
        with np.errstate(divide="ignore"):
            return [tempered(np.log(probs_A), self.temperature) for probs_A in found]


def at_temperature(student: Student, temperature: float) -> Student:
    """Return the student acting at a temperature relative to its own distribution."""
    if temperature == 1:
        return student
    name = f"{student.identity}/T{temperature:g}"
    return TemperedStudent(student=student, temperature=temperature, identity=name)


def retention_pass(
    base: Student, settings: EvaluationSettings, *, tasks: Sequence[int], randomness: Randomness
) -> dict[str, bool | None]:
    """Return by task whether BASE succeeds in a pass of its own at temperature 1.

    The tasks that it then solves are the retention set. The pass shares no random number with any
    scored episode: a set chosen by the episode that is scored would have BASE at 1.0 by
    construction, and would charge the return to the mean to every other model.
    """
    episodes = run_episodes(
        settings.environment,
        base,
        tasks,
        uniforms=uniforms_of(randomness, "retention"),
        keep_probs=False,
    )
    return {
        each.task_id: None if each.stop_reason == "error" else each.success for each in episodes
    }


def _row(
    episode: Episode,
    label: LabelledMoment | None,
    chance: Chance,
    answer: Answer,
    *,
    model: str,
    train_seed: int | None,
) -> EpisodeRow:
    failed = episode.stop_reason == "error"
    circles = stuckness(episode)
    acted = bool(episode.steps) and bool(answer.right)
    return EpisodeRow(
        model=model,
        train_seed=train_seed,
        dataset="tasks" if label is None else "snapshots",
        task_id=episode.task_id,
        snapshot_id="" if label is None else label.id,
        quadrant="" if label is None else label.quadrant,
        success=None if failed else episode.success,
        total_reward=None if failed else episode.total_reward,
        steps=episode.n_steps,
        repeat_rate=circles.repeat_rate,
        loop_rate=circles.loop_rate,
        stop_reason=episode.stop_reason,
        first_action_correct=episode.steps[0].action in answer.right if acted else None,
        success_probability=chance.value,
        probability_lo=chance.lo,
        probability_hi=chance.hi,
        immediate_repeat_rate=circles.immediate_repeat_rate,
        wasted_rate=circles.wasted_rate,
        escape_latency=circles.escape_latency,
        expert_probability=answer.expert_probability,
        message=episode.message,
    )
