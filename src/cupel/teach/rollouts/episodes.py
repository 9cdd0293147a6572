"""Episodes: somebody acts from a task's start, or from a snapshot, and every step is kept.

Knows students, the expert, and how walks become records. Refuses to know what episodes are for,
and to call a broken environment a failed episode: it has stop_reason "error".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cupel.errors import UsageError
from cupel.lab.randomness import counter_of
from cupel.teach.branches.state_graph import StateGraph
from cupel.teach.environments.base import (
    Environment,
    EnvironmentConfig,
    Snapshot,
    make_environment,
    task_id,
)
from cupel.teach.records import Episode, StepRecord
from cupel.teach.rollouts.walks import Scorer, Taken, Uniforms, Walk, advance, walk_expert
from cupel.teach.students.student import Student, StudentConfig, UniformStudent


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
    graph = StateGraph(environment)
    named = make_environment(environment)  # knows its level's name where the config leaves it out
    walks: list[tuple[int | Snapshot, Walk]] = []
    for start in starts:
        before = 0 if isinstance(start, int) else len(start.actions)
        horizon = max(environment.max_steps - before, 0) if max_steps is None else max_steps
        name = _name(named, start)
        for replicate in range(replicates):
            walk = Walk(counter=counter_of(name), replicate=replicate, horizon=horizon)
            _place(walk, graph, start)
            walks.append((start, walk))
    if isinstance(actor, ExpertActor):
        for start, walk in walks:
            if walk.stop is None:
                twin = graph.environment(start)
                walk_expert(walk, twin, flip_rate=actor.flip_rate, uniforms=uniforms)
    else:
        advance([walk for _, walk in walks], graph, Scorer(actor), uniforms)
    maker = _Maker(
        environment=named,
        who="expert" if isinstance(actor, ExpertActor) else "student",
        actor=actor.identity if actor_name is None else actor_name,
        keep_probs=keep_probs,
    )
    return [maker.episode(start, walk, graph) for start, walk in walks]


def student_of(config: StudentConfig, *, device: str, threads: int) -> Student:
    """Build the student that a config names; a model is imported only where one is named.

    Raises:
        ConfigError, DataError: as `cupel.teach.students.language.build_student`.
    """
    if config.backend == "uniform" and config.model is None:
        return UniformStudent()
    from cupel.teach.students.language import build_student

    return build_student(config, device=device, threads=threads, cache=None)


def _name(environment: Environment, start: int | Snapshot) -> str:
    if isinstance(start, int):
        return task_id(environment.name, environment.level, start)
    return start.id


def _place(walk: Walk, graph: StateGraph, start: int | Snapshot) -> None:
    """Put a walk at its start; an environment that breaks down there is recorded."""
    try:
        walk.at = graph.origin(start)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - an environment breaking down is recorded
        walk.stop, walk.message = "error", f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """Makes records of walks."""

    environment: Environment
    who: str
    actor: str
    keep_probs: bool

    def episode(self, start: int | Snapshot, walk: Walk, graph: StateGraph) -> Episode:
        assert walk.stop is not None
        snapshot = None if isinstance(start, int) else start
        seed = start if isinstance(start, int) else start.seed
        name = _name(self.environment, start)
        return Episode(
            id=f"{self.who}-{name}-r{walk.replicate}",
            environment=self.environment.name,
            level=self.environment.level,
            version=self.environment.version,
            seed=seed,
            task_id=task_id(self.environment.name, self.environment.level, seed),
            task=graph.states[walk.at].seen.task if walk.at >= 0 else "",
            actor=self.actor,
            replicate=walk.replicate,
            start="" if snapshot is None else snapshot.id,
            steps=tuple(self._step(taken) for taken in walk.taken),
            final_observation=walk.final.observation if walk.final is not None else "",
            success=walk.stop == "success",
            total_reward=walk.total_reward,
            stop_reason=walk.stop,
            message=walk.message,
            start_actions=() if snapshot is None else snapshot.actions,
        )

    def _step(self, taken: Taken) -> StepRecord:
        probs = None if taken.probs is None or not self.keep_probs else taken.probs.tolist()
        return StepRecord(
            observation=taken.seen.observation,
            valid_actions=taken.seen.actions,
            action=taken.action,
            probs=None if probs is None else tuple(probs),
            reward=taken.reward,
            key_hash=taken.seen.state_hash,
        )
