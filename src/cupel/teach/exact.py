"""Success probabilities without sampling: probability mass pushed forward and merged by state.

Knows environments whose states can be named (`key()`) and a student's distributions. Refuses to
round: what is not followed (mass below `prune_mass`, states beyond `max_states`) widens the
interval [lo, hi], which always holds the true probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cupel.teach.branching import PatchSteps
from cupel.teach.environments.base import EnvironmentConfig, Snapshot
from cupel.teach.student import ActionProbs, Student


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """Where a success probability is wanted; fields as in `Branch`."""

    snapshot: Snapshot
    horizon: int
    first_action: str | None = None
    patch: str | None = None
    patch_steps: PatchSteps = "first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """lo <= success probability <= hi.

    Attributes:
        queries: distinct queries that this root needed (other roots may have shared them).
        complete: False where `max_states` cut it short, not only `prune_mass`.
    """

    lo: float
    hi: float
    queries: int
    complete: bool = True

    @property
    def value(self) -> float:
        """The middle."""
        return (self.lo + self.hi) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionValues:
    """Q(s, a): success probability of taking each valid action once, then the student.

    Attributes:
        actions: the valid actions; lo, hi: bounds for each [A].
        probs: the student's own distribution there, without a note [A].
    """

    snapshot_id: str
    horizon: int
    actions: tuple[str, ...]
    lo: ActionProbs
    hi: ActionProbs
    probs: ActionProbs
    queries: int
    complete: bool = True

    def under(self, probs: ActionProbs) -> Bounds:
        """Return the success probability when the first action is drawn from `probs` [A].

        With a note at the first step only, p = sum_a pi_note(a|s) Q(s, a).
        """
        raise NotImplementedError

    def of(self, action: str) -> Bounds:
        """Return the bounds of one action.

        Raises:
            DataError: the action is not valid there.
        """
        raise NotImplementedError


def success_bounds(
    roots: Sequence[Root],
    student: Student,
    environment: EnvironmentConfig,
    *,
    prune_mass: float = 1e-4,
    max_states: int = 20_000,
) -> list[Bounds]:
    """Return the success probability of every root; all roots advance together, step by step.

    Each root's interval depends on that root alone, never on the others.

    Args:
        prune_mass: a state reached with less probability at some step is not followed.
        max_states: most (state, step) pairs followed for one root.

    Raises:
        ConfigError: the environment's states cannot be named.
        DataError: a snapshot cannot be restored, a `first_action` is not valid.
    """
    raise NotImplementedError


def action_values(
    roots: Sequence[tuple[Snapshot, int]],
    student: Student,
    environment: EnvironmentConfig,
    *,
    prune_mass: float = 1e-4,
    max_states: int = 20_000,
) -> list[ActionValues]:
    """Return Q of every valid action of every (snapshot, horizon), sharing all work.

    Raises:
        as `success_bounds`.
    """
    raise NotImplementedError
