"""Success of a student from given states, exactly or by rollouts of their own randomness.

Knows horizons, bounds and rollouts. Refuses to share a random number with the labels: its purpose
is `validation`. Students before and after a training share theirs, so that luck cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cupel.lab.randomness import Randomness
from cupel.teach.branches.branching import Branch, run_branches, uniforms_of
from cupel.teach.branches.exact import Root, success_bounds
from cupel.teach.environments.base import (
    Snapshot,
    make_environment,
    take_snapshot,
)
from cupel.teach.evaluation.panel import evaluation_tasks
from cupel.teach.students.student import Student
from cupel.teach.validation.config import ValidateConfig

PURPOSE = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Success from one state.

    Attributes:
        success: None where every rollout's instrument failed.
        lo, hi: bounds, where exact; noise: sampling variance, 0 where exact.
        reward, steps: means over rollouts; None where exact.
        n: rollouts that count; None where exact. errors: those whose instrument failed.
    """

    mode: str
    success: float | None
    lo: float | None = None
    hi: float | None = None
    noise: float = 0.0
    reward: float | None = None
    steps: float | None = None
    n: int | None = None
    errors: int = 0


class Meter:
    """Measures one student after another in the same way."""

    def __init__(self, config: ValidateConfig, randomness: Randomness) -> None:
        self._config = config
        self._uniforms = uniforms_of(randomness, PURPOSE)
        self._exact = config.values == "exact" or (config.values == "auto" and self._named())
        tasks = (
            evaluation_tasks(config.environment, config.retention_tasks)
            if config.retention_tasks
            else ()
        )
        self._starts = [self._start(seed) for seed in tasks]

    def success(self, student: Student, states: Sequence[Snapshot]) -> list[Measured]:
        """Return the success from each state."""
        if self._exact:
            return self._bounds(student, states)
        n = self._config.n_validation_rollouts
        branches = [
            Branch(snapshot=state, condition="policy", replicate=at, horizon=self._horizon(state))
            for state in states
            for at in range(n)
        ]
        results = run_branches(branches, student, self._config.environment, uniforms=self._uniforms)
        found = []
        for first in range(0, len(results), n):
            told = [each for each in results[first : first + n] if each.success is not None]
            k = sum(bool(each.success) for each in told)
            found.append(
                Measured(
                    mode="sampled",
                    success=k / len(told) if told else None,
                    noise=_variance(k, len(told)),
                    reward=_mean([each.total_reward for each in told]),
                    steps=_mean([each.n_steps for each in told]),
                    n=len(told),
                    errors=n - len(told),
                )
            )
        return found

    def retention(self, student: Student) -> float | None:
        """Return the mean success on the retention tasks; None without any."""
        values = [each.success for each in self.success(student, self._starts)]
        known = [value for value in values if value is not None]
        return _mean(known)

    def _bounds(self, student: Student, states: Sequence[Snapshot]) -> list[Measured]:
        roots = [Root(snapshot=state, horizon=self._horizon(state)) for state in states]
        found = success_bounds(
            roots,
            student,
            self._config.environment,
            prune_mass=self._config.prune_mass,
            max_states=self._config.max_states,
        )
        return [
            Measured(mode="exact", success=each.value, lo=each.lo, hi=each.hi) for each in found
        ]

    def _horizon(self, state: Snapshot) -> int:
        most = self._config.environment.max_steps
        return most if self._config.horizon == "fresh" else most - len(state.actions)

    def _named(self) -> bool:
        """Say whether the environment can name its states."""
        world = make_environment(self._config.environment)
        world.reset(0)
        return world.key() is not None

    def _start(self, seed: int) -> Snapshot:
        world = make_environment(self._config.environment)
        world.reset(seed)
        return take_snapshot(world)


def _variance(k: int, n: int) -> float:
    """Return the variance of a proportion, never 0 for a few equal outcomes (Jeffreys' mean)."""
    if n == 0:
        return 0.0
    p = (k + 0.5) / (n + 1)
    return p * (1 - p) / n


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
