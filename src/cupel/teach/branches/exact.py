"""Success probabilities without sampling: probability mass pushed forward and merged by state.

Knows environments whose states can be named (`key()`) and a student's distributions. Refuses to
round: what is not followed (mass below `prune_mass`, states beyond `max_states`) widens the
interval [lo, hi], which always holds the true probability.

From a root, mass moves step by step; mass that meets in a state is merged, a state reached with
less than `prune_mass` is not followed, and values are then read backwards: a state at step t is
worth sum_a pi(a|s) v_{t+1}(s'), with v = 1 at success, 0 at the horizon or after any other end,
and [0, 1] where nothing was followed. All roots advance together, so each step asks the student
for all new states in one batch; but a root prunes by its own mass only, so that its interval does
not depend on its company. Source: forward-backward evaluation of a Markov chain of finite horizon,
e.g. Puterman, Markov Decision Processes, 1994, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cupel.errors import ConfigError, DataError
from cupel.teach.branches.mass_flow import Flow, spread
from cupel.teach.branches.state_graph import StateGraph, check_action
from cupel.teach.environments.base import EnvironmentConfig, Snapshot
from cupel.teach.rollouts.walks import PatchSteps, Scorer
from cupel.teach.students.student import ActionProbs, Student

PRUNE_MASS = 1e-4
MAX_STATES = 20_000


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
        lo, hi = _within(float(probs @ self.lo), float(probs @ self.hi))
        return Bounds(lo=lo, hi=hi, queries=self.queries, complete=self.complete)

    def of(self, action: str) -> Bounds:
        """Return the bounds of one action.

        Raises:
            DataError: the action is not valid there.
        """
        if action not in self.actions:
            raise DataError(
                f"snapshot {self.snapshot_id}: action '{action}' is not valid there; "
                f"valid: {', '.join(self.actions) or 'none, the episode is over'}"
            )
        chosen = np.array([other == action for other in self.actions], dtype=np.float64)
        return self.under(chosen)


def success_bounds(
    roots: Sequence[Root],
    student: Student,
    environment: EnvironmentConfig,
    *,
    prune_mass: float = PRUNE_MASS,
    max_states: int = MAX_STATES,
) -> list[Bounds]:
    """Return the success probability of every root; all roots advance together, step by step.

    Each root's interval depends on that root alone, never on the others.

    Args:
        prune_mass: a state reached with less probability at some step is not followed.
        max_states: most (state, step) pairs followed for one root.

    Raises:
        ConfigError: the environment's states cannot be named.
        DataError: a snapshot cannot be restored, a `first_action` is not valid, a horizon is 0.
    """
    graph, scorer = StateGraph(environment), Scorer(student)
    flows = [_flow(root, graph) for root in roots]
    spread(flows, graph, scorer, prune_mass=prune_mass, max_states=max_states)
    found = []
    for flow in flows:
        probs = flow.levels[0].probs_E if flow.levels else np.zeros(0)
        lo_A, hi_A = flow.edge_values()
        lo, hi = _within(float(probs @ lo_A), float(probs @ hi_A))
        found.append(Bounds(lo=lo, hi=hi, queries=len(flow.queries), complete=flow.complete))
    return found


def action_values(
    roots: Sequence[tuple[Snapshot, int]],
    student: Student,
    environment: EnvironmentConfig,
    *,
    prune_mass: float = PRUNE_MASS,
    max_states: int = MAX_STATES,
) -> list[ActionValues]:
    """Return Q of every valid action of every (snapshot, horizon), sharing all work.

    Raises:
        as `success_bounds`.
    """
    graph, scorer = StateGraph(environment), Scorer(student)
    flows = [
        Flow(at=_origin(graph, snapshot), horizon=_steps(snapshot, horizon), every_action=True)
        for snapshot, horizon in roots
    ]
    spread(flows, graph, scorer, prune_mass=prune_mass, max_states=max_states)
    found = []
    for (snapshot, horizon), flow in zip(roots, flows, strict=True):
        lo_A, hi_A = flow.edge_values()
        values = ActionValues(
            snapshot_id=snapshot.id,
            horizon=horizon,
            actions=graph.states[flow.at].seen.actions,
            lo=lo_A.clip(0.0, 1.0),
            hi=hi_A.clip(0.0, 1.0),
            probs=flow.root_probs,
            queries=len(flow.queries),
            complete=flow.complete,
        )
        found.append(values)
    return found


def _flow(root: Root, graph: StateGraph) -> Flow:
    at = _origin(graph, root.snapshot)
    if root.first_action is not None:
        check_action(graph.states[at].seen, root.first_action, f"snapshot {root.snapshot.id}")
    return Flow(
        at=at,
        horizon=_steps(root.snapshot, root.horizon),
        patch=root.patch,
        patch_steps=root.patch_steps,
        first_action=root.first_action,
    )


def _origin(graph: StateGraph, snapshot: Snapshot) -> int:
    at = graph.origin(snapshot)
    if not graph.named:
        raise ConfigError(
            f"snapshot {snapshot.id}: states of {snapshot.environment} cannot be named, so "
            "success probabilities cannot be computed exactly there; use rollouts"
        )
    return at


def _steps(snapshot: Snapshot, horizon: int) -> int:
    if horizon < 1:
        raise DataError(
            f"snapshot {snapshot.id}: horizon {horizon}; at least one step must be left"
        )
    return horizon


def _within(lo: float, hi: float) -> tuple[float, float]:
    """Take away what rounding adds: probabilities lie in [0, 1], and lo is not above hi."""
    low = min(max(lo, 0.0), 1.0)
    return low, min(max(hi, low), 1.0)
