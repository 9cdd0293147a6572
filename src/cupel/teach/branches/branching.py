"""Driving many copies of a state to their ends: conditions x replicates, all branches together.

Knows that a branch is a snapshot, who acts, and for how long. Refuses to let a branch's company
matter: its randomness is keyed by snapshot, replicate and step, never by condition or by batch,
so conditions share random numbers and results do not depend on what else is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cupel.lab.randomness import Randomness, counter_of
from cupel.teach.branches.state_graph import StateGraph, check_action
from cupel.teach.environments.base import EnvironmentConfig, Snapshot
from cupel.teach.records import StopReason
from cupel.teach.rollouts.walks import PatchSteps, Scorer, Uniforms, Walk, advance, walk_expert
from cupel.teach.students.student import Student

__all__ = ["Branch", "BranchResult", "PatchSteps", "Uniforms", "run_branches", "uniforms_of"]

Controller = Literal["student", "expert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One way on from a snapshot.

    Attributes:
        snapshot: where it starts.
        condition: a name carried into the result; it enters neither randomness nor behaviour.
        replicate: number of the rollout; equal numbers share random numbers over conditions.
        horizon: most steps, `first_action` included.
        first_action: taken at the first step instead of the controller's choice.
        patch: a note in the student's prompt, at the steps that `patch_steps` says.
        controller: who acts after `first_action`.
    """

    snapshot: Snapshot
    condition: str
    replicate: int
    horizon: int
    first_action: str | None = None
    patch: str | None = None
    patch_steps: PatchSteps = "first"
    controller: Controller = "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchResult:
    """How a branch ended.

    Attributes:
        success: None where the instrument failed (`stop_reason` "error", `message` says how).
        n_steps: steps taken; total_reward: their sum.
        actions: what was done, in order.
    """

    snapshot_id: str
    condition: str
    replicate: int
    success: bool | None
    n_steps: int
    total_reward: float
    stop_reason: StopReason
    actions: tuple[str, ...]
    message: str = ""

    @property
    def first_action(self) -> str | None:
        """The first action taken; None in a branch of no steps."""
        return self.actions[0] if self.actions else None


def uniforms_of(randomness: Randomness, purpose: str) -> Uniforms:
    """Return the uniforms of a purpose, e.g. `"labels"`; another purpose is independent of it."""
    return lambda keys: randomness.uniforms(purpose, keys, 1)[:, 0]


def run_branches(
    branches: Sequence[Branch],
    student: Student,
    environment: EnvironmentConfig,
    *,
    uniforms: Uniforms,
) -> list[BranchResult]:
    """Run all branches to their ends, one result a branch in their order.

    Each tick scores the unique queries of all live branches at once. Snapshots are restored and
    verified once each, whatever their number of branches. An expert that gives no action ends its
    branch as "ended" where success is out of reach, and as "error" where that is not known.

    Raises:
        ConfigError, DataError: a snapshot cannot be restored, a `first_action` is not valid.
    """
    graph, scorer = StateGraph(environment), Scorer(student)
    names = {branch.snapshot: branch.snapshot.id for branch in branches}
    counters = {snapshot: counter_of(name) for snapshot, name in names.items()}
    walks: list[Walk] = []
    experts: dict[tuple[int, int, str | None], Walk] = {}
    for branch in branches:
        walk = _walk(branch, graph, counters[branch.snapshot])
        if branch.controller == "expert":  # it goes the same way in every condition and replicate
            way = (walk.counter, branch.horizon, branch.first_action)
            if way not in experts:
                walk_expert(walk, graph.environment(branch.snapshot))
                experts[way] = walk
            walk = experts[way]
        walks.append(walk)
    advance(walks, graph, scorer, uniforms)
    return [
        _result(branch, names[branch.snapshot], walk)
        for branch, walk in zip(branches, walks, strict=True)
    ]


def _walk(branch: Branch, graph: StateGraph, counter: int) -> Walk:
    at = graph.origin(branch.snapshot)
    if branch.first_action is not None:
        check_action(graph.states[at].seen, branch.first_action, f"snapshot {branch.snapshot.id}")
    return Walk(
        counter=counter,
        replicate=branch.replicate,
        horizon=branch.horizon,
        at=at,
        first_action=branch.first_action,
        patch=branch.patch,
        patch_steps=branch.patch_steps,
    )


def _result(branch: Branch, name: str, walk: Walk) -> BranchResult:
    assert walk.stop is not None
    return BranchResult(
        snapshot_id=name,
        condition=branch.condition,
        replicate=branch.replicate,
        success=walk.success,
        n_steps=len(walk.taken),
        total_reward=walk.total_reward,
        stop_reason=walk.stop,
        actions=tuple(step.action for step in walk.taken),
        message=walk.message,
    )
