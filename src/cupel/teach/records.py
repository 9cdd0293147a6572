"""The rows that the phases hand to one another: episodes, snapshots, outcomes.

Knows their fields and their JSON. Refuses to know how they came about, and to hold a number that
was derived: rates, gains and quadrants are computed from outcomes whenever they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cupel.errors import DataError
from cupel.teach.environments.base import Snapshot
from cupel.teach.splits import Split, split_of

StopReason = Literal["success", "ended", "limit", "error"]
"""success; over by the environment's rules without success; out of steps; the environment or its
expert broke down (an instrument failure, counted apart and never as a failure of the agent)."""

Condition = Literal["policy", "force", "expert", "placebo", "shuffled", "demo", "contrast", "hint"]
"""How a branch is driven from a snapshot. policy: the student alone; force: the teacher's action
once, then the student; expert: the expert to the end; the others: the student with a note."""

CONDITIONS: tuple[Condition, ...] = (
    "policy", "force", "expert", "placebo", "shuffled", "demo", "contrast", "hint",
)  # fmt: skip
FORMATS: tuple[Condition, ...] = ("demo", "contrast", "hint")
"""The formats of supervision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of an episode, the state BEFORE the action.

    Attributes:
        observation, valid_actions: what was seen.
        action: what was done.
        probs: the student's distribution over `valid_actions`; None where an expert acted.
        reward: of this step.
        key_hash: the state's hash, as `Snapshot.state_hash`: over its key (where it has one),
            instruction, observation and valid actions.
    """

    observation: str
    valid_actions: tuple[str, ...]
    action: str
    probs: tuple[float, ...] | None
    reward: float
    key_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One episode from a task's start (`start` empty) or from a snapshot (`start` its id).

    Attributes:
        actor: who acted: a student's identity, or the expert.
        replicate: number of the episode among those of the same start.
        start_actions: the actions that lie before it, when it starts from a snapshot.
        message: what broke down, when `stop_reason` is "error".
    """

    id: str
    environment: str
    level: str
    version: str
    seed: int
    task_id: str
    task: str
    actor: str
    replicate: int
    start: str = ""
    steps: tuple[StepRecord, ...] = ()
    final_observation: str = ""
    success: bool = False
    total_reward: float = 0.0
    stop_reason: StopReason = "limit"
    message: str = ""
    start_actions: tuple[str, ...] = ()

    @property
    def n_steps(self) -> int:
        """Number of steps taken."""
        return len(self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A mined state: the snapshot, and what was seen, done and known there.

    Attributes:
        snapshot: how to get back.
        step_idx: number of actions before it.
        trajectory_id: the episode it was mined from, and `outcome` how that one ended.
        student_action: what the student did there.
        student_probs: its distribution over `valid_actions` then.
        failure_type: stuck_loop, wrong_action, timeout, early_term, suboptimal, confusion, none.
        anchor_step, offset: where the failure was located, and how many steps before it this is.
        anchor_rule: regret, loop, timeout, low_confidence, or sampled.
    """

    snapshot: Snapshot
    task: str
    observation: str
    valid_actions: tuple[str, ...]
    step_idx: int
    trajectory_id: str
    outcome: str
    student_action: str
    student_probs: tuple[float, ...] | None
    failure_type: str
    anchor_step: int
    anchor_rule: str
    offset: int
    key_hash: str

    @property
    def id(self) -> str:
        """The snapshot's id."""
        return self.snapshot.id

    @property
    def task_id(self) -> str:
        """The task's name."""
        return self.snapshot.task_id

    @property
    def split(self) -> Split:
        """The task's split."""
        return split_of(self.task_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What became of the branches of one (moment, condition): the primary record of all labels.

    Attributes:
        mode: exact: `lo` <= success probability <= `hi` by mass propagation; monte_carlo:
            `success` holds one entry a rollout, None where the instrument failed.
        first_replicate: number of the first rollout; batches of one condition never overlap.
    """

    snapshot_id: str
    condition: Condition
    mode: Literal["exact", "monte_carlo"]
    horizon: int
    student: str
    first_replicate: int = 0
    success: tuple[bool | None, ...] = ()
    steps: tuple[int, ...] = ()
    lo: float | None = None
    hi: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A teacher's answer about one moment; `valid` False keeps the row and uses nothing of it.

    Attributes:
        teacher: which teacher, with its model's name.
        suggested_action: one of the valid actions when `valid`.
        rationale: why, in one or two sentences; diagnosis: what the student got wrong.
        error_type: affordance_miss, attribute_confusion, planning_error, exploration_failure.
        leaks_action: the rationale or the diagnosis contains the action's text.
        problem: what was wrong with the answer, when not `valid`.
    """

    snapshot_id: str
    teacher: str
    valid: bool
    suggested_action: str | None = None
    rationale: str = ""
    diagnosis: str = ""
    error_type: str = "unknown"
    confidence: str = "low"
    leaks_action: bool = False
    problem: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)


def to_row(record: Episode | Moment | Outcomes | Hint | Snapshot) -> dict[str, Any]:
    """Return a record as plain JSON data."""
    return asdict(record)


def episode_of(row: Mapping[str, Any]) -> Episode:
    """Read an episode's row.

    Raises:
        DataError: a field is missing or unknown.
    """
    steps = tuple(_make(StepRecord, step) for step in row.get("steps", ()))
    made: Episode = _make(Episode, {**row, "steps": steps})
    return made


def moment_of(row: Mapping[str, Any]) -> Moment:
    """Read a moment's row.

    Raises:
        DataError: a field is missing or unknown.
    """
    made: Moment = _make(Moment, {**row, "snapshot": _make(Snapshot, row.get("snapshot", {}))})
    return made


def outcomes_of(row: Mapping[str, Any]) -> Outcomes:
    """Read an outcome row.

    Raises:
        DataError: a field is missing or unknown.
    """
    made: Outcomes = _make(Outcomes, row)
    return made


def hint_of(row: Mapping[str, Any]) -> Hint:
    """Read a hint's row.

    Raises:
        DataError: a field is missing or unknown.
    """
    made: Hint = _make(Hint, row)
    return made


def _make(kind: Any, row: Mapping[str, Any]) -> Any:
    values = {name: _frozen(value) for name, value in row.items()}
    try:
        return kind(**values)
    except TypeError as error:
        known: Sequence[str] = list(kind.__dataclass_fields__)
        raise DataError(
            f"{kind.__name__.lower()} row: {str(error).split(') ')[-1]}; fields: {', '.join(known)}"
        ) from None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
