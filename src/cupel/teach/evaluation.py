"""Judging one student on fixed tasks and fixed failure states, one row an episode.

Knows episodes from a task's start and from a restored snapshot, acted greedily, and the exact
success probability at temperature 1 beside them. Refuses to know how the student was made, to
compare two students, and to count an instrument's failure as the student's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from cupel.config import Config
from cupel.lab.metrics import Scalar
from cupel.lab.randomness import Randomness
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.labels import LabelledMoment, Quadrant
from cupel.teach.records import StopReason
from cupel.teach.student import Student

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
    probability: Literal["exact", "sampled", "none"] = "exact"
    """Success probability at temperature 1 beside each episode: by mass propagation, by
    `probability_rollouts` rollouts, or not at all."""
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
            `cupel.teach.stuckness`.
        first_action_correct: the first greedy action keeps success within reach where the
            environment can tell, else it is the teacher's; None where neither is known.
        expert_probability: what the student gives the teacher's action in the start state.
        success_probability: at temperature 1; None where not known to `max_width`.
        retention_base: success of BASE in its own, independent pass (BASE rows of tasks only).
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
    retention_base: bool | None = None
    message: str = ""

    def to_row(self) -> dict[str, Any]:
        """Return the row as plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The failure states that every model is evaluated on.

    Attributes:
        moments: by quadrant, in the order of the hash of their ids.
        counts: how many each quadrant has; those below what was asked for are `short`.
        asked: how many were asked for in each quadrant.
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
        tasks: seeds of test tasks, from `cupel.teach.panel.evaluation_tasks`.
        panel: from `cupel.teach.panel.build_panel`.
        model: its name in every row, e.g. `Q1_highU_highL_hint`.

    Raises:
        DataError: a snapshot cannot be restored.
    """
    raise NotImplementedError


def summary(rows: Sequence[EpisodeRow]) -> dict[str, Scalar]:
    """Return the numbers of one evaluation, as evaluations.jsonl holds them.

    Keys: success_rate and success_probability of the tasks; panel_success_rate and
    panel_success_probability of the snapshots; mean_reward, mean_steps, n_tasks, n_snapshots,
    n_errors. None where there is nothing to average.
    """
    raise NotImplementedError
