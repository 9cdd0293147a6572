"""The settings of a labelling, and the rows it reports progress in.

Knows names, defaults and limits. Refuses to know how anything is measured.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cupel.config import Config
from cupel.lab.metrics import Metric
from cupel.teach.branches.allocation import AllocationConfig, RolloutConfig
from cupel.teach.branches.branching import PatchSteps
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.labelling.quadrants import QuadrantConfig
from cupel.teach.labelling.uncertainty import Measure
from cupel.teach.students.student import StudentConfig
from cupel.teach.teachers.teacher import TeacherConfig

Stage = Literal["hints", "uncertainty", "leverage", "patch", "depth"]
STAGES: tuple[Stage, ...] = ("hints", "uncertainty", "leverage", "patch", "depth")

HINTS = "hints.jsonl"
DISTRIBUTIONS = "distributions.jsonl"
OUTCOMES = "outcomes.jsonl"


class LabelConfig(Config):
    """What is labelled, and how."""

    snapshots: str
    """Mined snapshots, or labelled ones (.jsonl or .json): labels that are not measured again are
    kept, so that stages can be run one after the other."""
    stages: tuple[Stage, ...] = STAGES
    """What is measured: hints, uncertainty, leverage, patch, depth."""
    environment: EnvironmentConfig = Field(default_factory=EnvironmentConfig)
    """Where the snapshots were mined."""
    student: StudentConfig = Field(default_factory=StudentConfig)
    """Who is labelled."""
    expert: StudentConfig | None = None
    """A model as the expert of p_expert; default: the environment's own expert."""
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    """Who is asked for hints."""
    estimate: Literal["auto", "exact", "monte_carlo", "both"] = "auto"
    """exact: bounds on every success probability, where states can be named; monte_carlo:
    rollouts; both: exact labels, and rollouts to hold them against; auto: exact where possible."""
    prune_mass: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Exact: states reached with less probability are not followed; what they weigh widens the
    bounds."""
    max_states: Annotated[int, Field(ge=1)] = 20_000
    """Exact: most (state, step) pairs followed for one probability."""
    horizon: Literal["remaining", "fresh"] = "remaining"
    """remaining: a branch may take the steps that its episode had left; fresh: max_steps again."""
    patch_steps: PatchSteps = "first"
    """first: a note stands in the prompt of the first step only; every: of every step, where it
    goes on naming an action that has long been taken."""
    rollouts: RolloutConfig = Field(default_factory=RolloutConfig)
    """Monte Carlo: first rollouts of each condition."""
    allocation: AllocationConfig = Field(default_factory=AllocationConfig)
    """Monte Carlo: further rollouts, for undecided moments."""
    primary_uncertainty: Measure = "entropy"
    """What stands as U. entropy grows with the number of actions; entropy_norm does not."""
    quadrants: QuadrantConfig = Field(default_factory=QuadrantConfig)
    """How U and L_local are cut."""
    tau_recover: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Success probability from which a state counts as recoverable, for depth."""
    block: Annotated[int, Field(ge=1)] = 32
    """Moments measured between two checkpoints; changes no label."""

    def horizon_at(self, step_idx: int) -> int:
        """Return how many steps a branch may take from a state after `step_idx` actions."""
        most = self.environment.max_steps
        return most if self.horizon == "fresh" else most - step_idx


METRICS: tuple[Metric, ...] = (
    Metric(name="step", meaning="Number of the block.", unit="count"),
    Metric(name="condition", meaning="Condition of the run.", unit="text"),
    Metric(name="seed", meaning="Seed of the run.", unit="count"),
    Metric(name="stage", meaning="What the block did.", unit="text"),
    Metric(name="moments", meaning="Moments done in this stage.", unit="count"),
    Metric(name="moments_total", meaning="Moments of this stage.", unit="count"),
    Metric(name="episodes", meaning="Rollouts so far, of all conditions.", unit="count"),
    Metric(name="hints_invalid", meaning="Invalid hints so far.", unit="count"),
    Metric(name="instrument_errors", meaning="Rollouts that broke down so far.", unit="count"),
    Metric(name="undecided", meaning="Moments with an open question.", unit="count"),
)
