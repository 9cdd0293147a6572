"""Letting somebody act on tasks and keeping every step: phase 0, and every evaluation's engine.

Knows students, the expert, and episodes. Refuses to know what an episode is used for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cupel.teach.branching import Uniforms
from cupel.teach.environments.base import EnvironmentConfig, Snapshot
from cupel.teach.records import Episode
from cupel.teach.student import Student


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertActor:
    """The environment's expert, erring with probability `flip_rate` (another valid action)."""

    flip_rate: float = 0.0

    @property
    def identity(self) -> str:
        """expert, or expert-flip0.1."""
        return f"expert-flip{self.flip_rate:g}" if self.flip_rate else "expert"


def run_episodes(
    environment: EnvironmentConfig,
    actor: Student | ExpertActor,
    starts: Sequence[int | Snapshot],
    *,
    uniforms: Uniforms,
    actor_name: str | None = None,
    replicates: int = 1,
    max_steps: int | None = None,
    keep_probs: bool = True,
) -> list[Episode]:
    """Run `replicates` episodes from every start, all together; start by start in the result.

    Args:
        starts: task seeds (from the task's start), or snapshots (from there).
        uniforms: keyed (counter of the task or snapshot id, replicate, step); unused by a student
            of temperature 0.
        actor_name: what `Episode.actor` says; default: the actor's identity.
        max_steps: of each episode; default: the environment's `max_steps`, less the actions that
            lie before a snapshot.
        keep_probs: False leaves the distributions out of the steps.

    Raises:
        ConfigError, DataError: a snapshot cannot be restored.
    """
    raise NotImplementedError
