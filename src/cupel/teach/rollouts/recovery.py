"""Recovery trajectories: from each snapshot, the expert to the end.

Knows the expert and a file of lines. Appends snapshot by snapshot and continues where it stopped;
a line cut short by a kill is taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.records import Episode, Moment
from cupel.teach.rollouts.episodes import ExpertActor, run_episodes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCounts:
    """How the expert fared; `errors` are not among `failures`."""

    snapshots: int
    successes: int
    failures: int
    errors: int


def recovery_rows(
    moments: Sequence[Moment | LabelledMoment], environment: EnvironmentConfig, *, fresh: bool
) -> Iterator[dict[str, Any]]:
    """Yield the recovery trajectory of each moment, in their order.

    Args:
        fresh: every trajectory may take `max_steps`; else what was left of them at its snapshot.

    Raises:
        ConfigError, DataError: a snapshot cannot be restored.
    """
    for given in moments:
        moment = given.moment if isinstance(given, LabelledMoment) else given
        label = given if isinstance(given, LabelledMoment) else None
        steps = environment.max_steps if fresh else environment.max_steps - moment.step_idx
        (episode,) = run_episodes(
            environment,
            ExpertActor(),
            [moment.snapshot],
            uniforms=_refused,
            max_steps=max(steps, 0),
        )
        yield _row(moment, label, episode)


def write_recoveries(
    path: Path,
    moments: Sequence[Moment | LabelledMoment],
    environment: EnvironmentConfig,
    *,
    fresh: bool = False,
) -> RecoveryCounts:
    """Write recovery_trajectories.jsonl, or continue one that was stopped midway.

    Raises:
        DataError: the file holds trajectories of other snapshots.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _done(path, [moment.id for moment in moments])
    counts = {True: 0, False: 0, None: 0}
    for row in done:
        counts[row["success"]] += 1
    with path.open("ab") as lines:
        for row in recovery_rows(moments[len(done) :], environment, fresh=fresh):
            canonical_json(row)
            lines.write(orjson.dumps(row) + b"\n")
            lines.flush()
            counts[row["success"]] += 1
    return RecoveryCounts(
        snapshots=len(moments),
        successes=counts[True],
        failures=counts[False],
        errors=counts[None],
    )


def _row(moment: Moment, label: LabelledMoment | None, episode: Episode) -> dict[str, Any]:
    leverage = None if label is None else label.leverage
    return {
        "snapshot_id": moment.id,
        "task_id": moment.task_id,
        "split": moment.split,
        "quadrant": None if label is None else label.quadrant,
        "L_upper": None if leverage is None else leverage.L_upper.value,
        "expert": {"type": "symbolic", "model": episode.environment},
        "success": None if episode.stop_reason == "error" else episode.success,
        "stop_reason": episode.stop_reason,
        "message": episode.message,
        "total_reward": episode.total_reward,
        "n_steps": episode.n_steps,
        "instruction_text": episode.task,
        "steps": [
            {
                "t": number,
                "observation": step.observation,
                "valid_actions": list(step.valid_actions),
                "action": step.action,
                "reward": step.reward,
            }
            for number, step in enumerate(episode.steps)
        ],
        "final_observation": episode.final_observation,
    }


def _done(path: Path, wanted: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the whole rows already there; a last line cut short is removed."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    try:
        rows: list[Mapping[str, Any]] = [orjson.loads(line) for line in whole.splitlines()]
        found = [row["snapshot_id"] for row in rows]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise DataError(f"{path}: not a file of recovery trajectories; name another") from None
    if found != list(wanted[: len(found)]):
        raise DataError(
            f"{path}: holds recovery trajectories of other snapshots; name another file, or "
            "remove this one"
        )
    if len(whole) < len(data):
        path.write_bytes(whole)
    return rows


def _refused(keys: Sequence[tuple[int, int, int]]) -> Any:
    raise AssertionError("an expert that never errs draws no random number")
