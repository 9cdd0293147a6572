"""Reading and writing what phase 0 hands on: episodes, mined moments, and their exported JSON.

Knows files. Refuses to know how failures are found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from cupel.errors import DataError
from cupel.lab.files import read_lines, write_atomically
from cupel.teach.labelling.files import checked_moment, read_rows, snapshot_row
from cupel.teach.records import Episode, Moment, StepRecord, moment_of, to_row
from cupel.teach.rollouts.export import decoded, iter_episodes

EPISODES = "episodes.jsonl"
SNAPSHOTS = "snapshots.jsonl"


def read_moments(path: Path) -> tuple[Moment, ...]:
    """Read mined moments: snapshots.jsonl, or failure_snapshots.json as exported by Cupel.

    Accepts JSON lines, a JSON list, and an object with the list under snapshots, items or data;
    a folder stands for the snapshots.jsonl inside.

    Raises:
        DataError: the file is missing, malformed, empty, names a snapshot twice, or a snapshot
            cannot be restored from it.
    """
    file = path / SNAPSHOTS if path.is_dir() else path
    moments = []
    seen: set[str] = set()
    for number, row in enumerate(read_rows(file), start=1):
        moment = _moment(row, where=f"{file}: row {number}")
        if moment.id in seen:
            raise DataError(f"{file}: row {number}: snapshot {moment.id} again; remove one row")
        seen.add(moment.id)
        moments.append(moment)
    if not moments:
        raise DataError(f"{file}: no snapshots in it; mine some with cupel teach mine")
    return tuple(moments)


def write_moments(path: Path, moments: Sequence[Moment]) -> None:
    """Write failure_snapshots.json: a list with the documented fields, and the moment beside."""
    rows = [{**snapshot_row(moment), "moment": to_row(moment)} for moment in moments]
    data = b",\n".join(orjson.dumps(row) for row in rows)
    write_atomically(path, b"[\n" + data + b"\n]\n")


def read_episodes(path: Path) -> tuple[Episode, ...]:
    """Read episodes: a rollouts run folder, its episodes.jsonl, or an exported rollouts.json.

    An exported file holds the steps of failed episodes, and of successful ones where it was made
    with collect_all.

    Raises:
        DataError: the file is missing, malformed or empty.
    """
    file = path / EPISODES if path.is_dir() else path
    if file.suffix == ".jsonl":
        if not file.is_file():
            raise DataError(f"{file}: no such file; make it with cupel teach rollouts")
        episodes = tuple(iter_episodes(file))
    else:
        episodes = tuple(_exported(file))
    if not episodes:
        raise DataError(f"{file}: no episodes in it; run cupel teach rollouts again")
    return episodes


def recorded_max_steps(path: Path) -> int | None:
    """Return the steps an episode could take, as the run or the export of `path` says."""
    if path.is_dir() or path.suffix == ".jsonl":
        config = (path if path.is_dir() else path.parent) / "config.json"
        if not config.is_file():
            return None
        found = json.loads(config.read_bytes()).get("resolved", {}).get("environment", {})
    else:
        found = _document(path).get("config", {})
    steps = found.get("max_steps")
    return int(steps) if isinstance(steps, int) else None


def _moment(row: Mapping[str, Any], *, where: str) -> Moment:
    inner = row.get("moment", row)
    if isinstance(inner.get("snapshot"), Mapping) and "state_hash" in inner["snapshot"]:
        try:
            return moment_of(inner) if inner is row else checked_moment(row, where=where)
        except DataError as error:
            told = str(error)
            raise DataError(told if told.startswith(where) else f"{where}: {told}") from None
    if row.get("env_state_b64") is None:
        raise DataError(
            f"{where}: no env_state_b64 and no 'moment': nothing says how to get back to this "
            "state; mine the snapshots with cupel teach mine"
        )
    snapshot = decoded(row["env_state_b64"], where=where)
    try:
        return Moment(
            snapshot=snapshot,
            task=row.get("instruction_text") or row["agent_prefix"],
            observation=row["observation"],
            valid_actions=tuple(row["valid_actions"]),
            step_idx=row["step_idx"],
            trajectory_id=row["trajectory_id"],
            outcome=row["trajectory_outcome"],
            student_action=row.get("student_action", ""),
            student_probs=None,
            failure_type=row.get("action_type", "none"),
            anchor_step=row["step_idx"],
            anchor_rule="sampled",
            offset=0,
            key_hash=snapshot.state_hash,
        )
    except KeyError as error:
        raise DataError(f"{where}: no {error}; mine the snapshots with cupel teach mine") from None


def _exported(path: Path) -> Iterator[Episode]:
    document = _document(path)
    results = document.get("results")
    config = document.get("config")
    if not isinstance(results, list) or not isinstance(config, dict):
        raise DataError(f"{path}: no 'config' and 'results' in it; expected a rollouts.json")
    for number, row in enumerate(results, start=1):
        where = f"{path}: result {number}"
        try:
            yield _episode(row, config, where)
        except KeyError as error:
            raise DataError(
                f"{where}: no {error}; run the rollouts again with cupel teach rollouts"
            ) from None


def _episode(row: Mapping[str, Any], config: Mapping[str, Any], where: str) -> Episode:
    states = row["rollout_states"]
    steps = tuple(_step(state, where) for state in states)
    first = decoded(states[0]["env_state_b64"], where=where) if states else None
    return Episode(
        id=row["trajectory_id"],
        environment=config["environment"] if first is None else first.environment,
        level=config["level"] if first is None else first.level,
        version=row["version"],
        seed=row["seed"],
        task_id=row["task_id"],
        task=row["instruction_text"],
        actor=row["actor"],
        replicate=row["replicate"],
        start=row["start"],
        steps=steps,
        final_observation=row["states"][-1],
        success=bool(row["success"]),
        total_reward=row["total_reward"],
        stop_reason=row["stop_reason"],
        message=row["message"],
        start_actions=() if first is None else first.actions,
    )


def _step(state: Mapping[str, Any], where: str) -> StepRecord:
    probs = state["action_probs"]
    return StepRecord(
        observation=state["observation"],
        valid_actions=tuple(state["valid_actions"]),
        action=state["action_taken"],
        probs=None if probs is None else tuple(probs[a] for a in state["valid_actions"]),
        reward=state["reward"],
        key_hash=decoded(state["env_state_b64"], where=where).state_hash,
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(read_lines(path))
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: not strict JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a rollouts.json, found a list")
    return content
