"""Episodes as the documented rollouts.json, and back: statistics, results, failures.

Knows that schema. Derives everything from episodes.jsonl, one episode in memory at a time. Writes
null where the schema wants a clock: equal runs make equal files. Errors are counted apart and are
neither successes nor failures.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.lab.files import write_atomically
from cupel.stats.intervals import wilson
from cupel.teach.environments.base import (
    Environment,
    EnvironmentConfig,
    Snapshot,
    make_environment,
)
from cupel.teach.mining.failures import (
    confidence,
    failure_type,
    least_confident_step,
    loop_steps,
)
from cupel.teach.records import Episode, episode_of, to_row

_RECENT_ACTIONS, _RECENT_STATES = 5, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutsHeader:
    """What rollouts.json says of the run as a whole."""

    model_name: str
    environment: EnvironmentConfig
    n_tasks: int
    seed: int
    collect_all: bool


def iter_episodes(path: Path) -> Iterator[Episode]:
    """Read the episodes of an episodes.jsonl, one at a time.

    Raises:
        DataError: names the file and the line that is malformed.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not strict JSON: {error}") from None
            try:
                yield episode_of(row)
            except (DataError, AttributeError) as error:
                raise DataError(f"{path}:{number}: {error}") from None


def write_rollouts(episodes: Path, target: Path, header: RolloutsHeader) -> dict[str, Any]:
    """Derive rollouts.json from episodes.jsonl, whole or not at all; return its statistics."""
    shortest = ShortestWays(header.environment)
    tally = _Tally()
    results, failures = [], []
    for episode in iter_episodes(episodes):
        kind = failure_type(episode, shortest=shortest.of(episode))
        event = failure_event(episode, kind, header) if kind != "none" else None
        tally.add(episode, kind)
        results.append(orjson.dumps(_result(episode, event, header)))
        failures += [] if event is None else [orjson.dumps(event)]
    statistics = tally.statistics()
    environment = header.environment
    config = {
        "model_name": header.model_name,
        "n_tasks": header.n_tasks,
        "max_steps": environment.max_steps,
        "environment": environment.name,
        "level": environment.level,
        "seed": header.seed,
        "collect_all": header.collect_all,
    }
    parts = [
        b'{\n"config": ', orjson.dumps(config), b',\n"statistics": ',
        canonical_json(statistics).encode(), b',\n"results": [\n', b",\n".join(results),
        b'\n],\n"failures": [\n', b",\n".join(failures), b"\n]\n}\n",
    ]  # fmt: skip
    write_atomically(target, b"".join(parts))
    return statistics


def snapshot_at(episode: Episode, step: int) -> Snapshot:
    """Return the snapshot of the state before a step, from what the episode holds."""
    done = tuple(record.action for record in episode.steps[:step])
    return Snapshot(
        environment=episode.environment,
        level=episode.level,
        version=episode.version,
        seed=episode.seed,
        actions=(*episode.start_actions, *done),
        state_hash=episode.steps[step].key_hash,
    )


def encoded(snapshot: Snapshot) -> str:
    """Return a snapshot as base64 of its JSON."""
    return base64.b64encode(canonical_json(to_row(snapshot)).encode()).decode()


def decoded(text: Any, *, where: str) -> Snapshot:
    """Read what `encoded` wrote.

    Raises:
        DataError: it is something else, e.g. a pickled state of another system.
    """
    try:
        row = json.loads(base64.b64decode(text, validate=True))
        return Snapshot(**{**row, "actions": tuple(row["actions"])})
    except (binascii.Error, ValueError, TypeError, KeyError):
        raise DataError(
            f"{where}: env_state_b64 is not a way back to the state (base64 of JSON with "
            "environment, level, version, seed, actions, state_hash); states saved by another "
            "system cannot be restored. Run the rollouts again with cupel teach rollouts"
        ) from None


def failure_event(episode: Episode, kind: str, header: RolloutsHeader) -> dict[str, Any]:
    """Return the one failure event of an episode, at the step where it shows.

    A loop shows where it is first seen; a timeout and a slow success at the last step; anything
    else at the step of least confidence. Where success was lost is another matter: see `mining`.
    """
    step = _shows_at(episode, kind)
    record = episode.steps[step] if episode.steps else None
    seen = [*(r.observation for r in episode.steps), episode.final_observation]
    actions = [r.action for r in episode.steps]
    return {
        "trajectory_id": episode.id,
        "step_idx": step,
        "failure_type": kind,
        "state": seen[step],
        "action_taken": None if record is None else record.action,
        "valid_actions": [] if record is None else record.valid_actions,
        "recent_actions": actions[max(0, step + 1 - _RECENT_ACTIONS) : step + 1],
        "recent_states": seen[max(0, step + 1 - _RECENT_STATES) : step + 1],
        "cumulative_reward": float(sum(r.reward for r in episode.steps[: step + 1])),
        "steps_remaining": header.environment.max_steps - len(episode.start_actions) - step,
        "action_probs": None if record is None else _named(record.valid_actions, record.probs),
        "model_confidence": None if record is None else confidence(record.probs),
        "teacher_action": None,
        "teacher_would_succeed": None,
    }


def _shows_at(episode: Episode, kind: str) -> int:
    last = max(episode.n_steps - 1, 0)
    if kind == "stuck_loop":
        return loop_steps([step.action for step in episode.steps])[0]
    if kind in ("timeout", "suboptimal"):
        return last
    least = least_confident_step(episode)
    return last if least is None else least


def _result(
    episode: Episode, event: Mapping[str, Any] | None, header: RolloutsHeader
) -> dict[str, Any]:
    shown = header.collect_all or not episode.success
    return {
        "trajectory_id": episode.id,
        "task_id": episode.task_id,
        "success": None if episode.stop_reason == "error" else episode.success,
        "total_reward": episode.total_reward,
        "n_steps": episode.n_steps,
        "states": [*(step.observation for step in episode.steps), episode.final_observation],
        "actions": [step.action for step in episode.steps],
        "rewards": [step.reward for step in episode.steps],
        "failures": [] if event is None else [event],
        "rollout_states": _states(episode) if shown else [],
        "instruction_text": episode.task,
        "duration_seconds": None,
        "model_name": header.model_name,
        "stop_reason": episode.stop_reason,
        "message": episode.message,
        "seed": episode.seed,
        "replicate": episode.replicate,
        "actor": episode.actor,
        "start": episode.start,
        "version": episode.version,
    }


def _states(episode: Episode) -> list[dict[str, Any]]:
    return [
        {
            "step_idx": number,
            "observation": step.observation,
            "valid_actions": step.valid_actions,
            "action_taken": step.action,
            "reward": step.reward,
            "done": number == episode.n_steps - 1 and episode.stop_reason in ("success", "ended"),
            "action_probs": _named(step.valid_actions, step.probs),
            "confidence": confidence(step.probs),
            "raw_output": step.action,
            "env_state_b64": encoded(snapshot_at(episode, number)),
            "instruction_text": episode.task,
        }
        for number, step in enumerate(episode.steps)
    ]


def _named(actions: Sequence[str], probs: Sequence[float] | None) -> dict[str, float] | None:
    return None if probs is None else dict(zip(actions, probs, strict=True))


@dataclass(slots=True)
class _Tally:
    """Counts over episodes."""

    episodes: int = 0
    successes: int = 0
    errors: int = 0
    steps: int = 0
    reward: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, episode: Episode, kind: str) -> None:
        self.episodes += 1
        if episode.stop_reason == "error":
            self.errors += 1
            return
        self.successes += episode.success
        self.steps += episode.n_steps
        self.reward += episode.total_reward
        if kind != "none":
            self.kinds[kind] += 1

    def statistics(self) -> dict[str, Any]:
        judged = self.episodes - self.errors
        interval = wilson(self.successes, judged) if judged else None
        return {
            "n_rollouts": self.episodes,
            "n_successes": self.successes,
            "n_failures": judged - self.successes,
            "success_rate": self.successes / judged if judged else None,
            "total_failure_events": sum(self.kinds.values()),
            "failure_type_breakdown": dict(sorted(self.kinds.items())),
            "avg_steps": self.steps / judged if judged else None,
            "avg_reward": self.reward / judged if judged else None,
            "avg_duration": None,
            "n_errors": self.errors,
            "success_lo": None if interval is None else interval.low,
            "success_hi": None if interval is None else interval.high,
        }


class ShortestWays:
    """The fewest steps in which tasks can be done, where the environment can tell."""

    def __init__(self, environment: EnvironmentConfig) -> None:
        self._most = environment.max_steps
        self._environment: Environment | None = make_environment(environment)
        self._known: dict[int, int | None] = {}

    def of(self, episode: Episode) -> int | None:
        """Return the fewest steps of a successful episode's task; None where it is not known."""
        if self._environment is None or not episode.success or episode.start:
            return None
        if episode.seed not in self._known:
            self._known[episode.seed] = self._shortest(self._environment, episode.seed)
        return self._known[episode.seed]

    def _shortest(self, environment: Environment, seed: int) -> int | None:
        environment.reset(seed)
        for steps in range(1, self._most + 1):
            reach = environment.optimal_q(steps)
            if reach is None:
                self._environment = None  # it cannot tell of any task
                return None
            if any(reach.values()):
                return steps
        return None
