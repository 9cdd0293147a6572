"""What phase 0 hands on survives the way to disk; what cannot be used says where and why."""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cupel.errors import DataError
from cupel.teach.labelling.files import read_labels
from cupel.teach.records import Moment, moment_of, to_row
from cupel.teach.rollouts.files import (
    read_episodes,
    read_moments,
    recorded_max_steps,
    write_moments,
)
from tests.teach.phase_runs import run_phase

SETTINGS: dict[str, Any] = {
    "environment": {"name": "corridor", "max_steps": 6},
    "student": {"backend": "uniform"},
    "n_tasks": 20,
    "collect_all": True,
}
SNAPSHOT_FIELDS = {
    "id", "task_id", "step_idx", "trajectory_id", "env_state_b64", "observation", "valid_actions",
    "agent_prefix", "last_action", "action_type", "teacher_hint", "trajectory_outcome",
    "timestamp",
}  # fmt: skip


@pytest.fixture(scope="module")
def phase0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phase0")
    run_phase(folder / "rollouts", "teach.rollouts", SETTINGS)
    run_phase(folder / "mined", "teach.mine", {"rollouts": [str(folder / "rollouts")]})
    return folder


def test_episodes_come_back_from_the_run_and_from_the_export(phase0: Path) -> None:
    rows = read_episodes(phase0 / "rollouts/episodes.jsonl")
    assert read_episodes(phase0 / "rollouts") == rows
    exported = read_episodes(phase0 / "rollouts/rollouts.json")
    assert exported == rows
    for source in ("rollouts", "rollouts/episodes.jsonl", "rollouts/rollouts.json"):
        assert recorded_max_steps(phase0 / source) == 6


def test_mining_the_export_equals_mining_the_run(phase0: Path, tmp_path: Path) -> None:
    export = str(phase0 / "rollouts/rollouts.json")
    run_phase(tmp_path / "mined", "teach.mine", {"rollouts": [export]})
    for name in ("snapshots.jsonl", "failure_snapshots.json"):
        assert (tmp_path / "mined" / name).read_bytes() == (phase0 / "mined" / name).read_bytes()


def test_moments_come_back_in_every_accepted_form(phase0: Path, tmp_path: Path) -> None:
    moments = read_moments(phase0 / "mined")
    assert read_moments(phase0 / "mined/snapshots.jsonl") == moments
    assert read_moments(phase0 / "mined/failure_snapshots.json") == moments
    rows = json.loads((phase0 / "mined/failure_snapshots.json").read_text())
    for name in ("snapshots", "items", "data"):
        (tmp_path / f"{name}.json").write_text(json.dumps({name: rows, "n": 3}))
        assert read_moments(tmp_path / f"{name}.json") == moments
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(lines)
    assert read_moments(tmp_path / "rows.jsonl") == moments
    labels = read_labels(phase0 / "mined/failure_snapshots.json")
    assert tuple(label.moment for label in labels) == moments


def test_the_documented_fields_alone_are_enough_to_get_back(phase0: Path, tmp_path: Path) -> None:
    moments = read_moments(phase0 / "mined")
    rows = json.loads((phase0 / "mined/failure_snapshots.json").read_text())
    assert set(rows[0]) >= SNAPSHOT_FIELDS
    assert len({row["id"] for row in rows}) == len(rows)
    bare = [{key: row[key] for key in SNAPSHOT_FIELDS} for row in rows]
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    for ours, read in zip(moments, read_moments(tmp_path / "bare.json"), strict=True):
        assert read.snapshot == ours.snapshot
        assert read.id == ours.id
        assert (read.task, read.observation, read.valid_actions) == (
            ours.task,
            ours.observation,
            ours.valid_actions,
        )


def test_moments_survive_the_way_to_json(phase0: Path, tmp_path: Path) -> None:
    moments = read_moments(phase0 / "mined")
    write_moments(tmp_path / "again.json", moments)
    assert read_moments(tmp_path / "again.json") == moments
    assert all(moment_of(json.loads(json.dumps(to_row(m)))) == m for m in moments)


def state_of(value: Any) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env_state_b64": None}, "nothing says how to get back"),
        ({"env_state_b64": state_of(pickle.dumps({"cell": 3}))}, "states saved by another system"),
        ({"env_state_b64": "?"}, "states saved by another system"),
        ({"env_state_b64": state_of(b"{}")}, "states saved by another system"),
        ({"observation": ...}, "no 'observation'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    phase0: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    row = json.loads((phase0 / "mined/failure_snapshots.json").read_text())[0]
    row = {key: row[key] for key in SNAPSHOT_FIELDS} | change
    row = {key: value for key, value in row.items() if value is not ...}
    (tmp_path / "bad.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match=message) as caught:
        read_moments(tmp_path / "bad.json")
    assert "row 1" in str(caught.value)


def test_files_that_hold_nothing_usable_are_refused(phase0: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no snapshots in it"):
        read_moments(tmp_path / "empty.json")
    with pytest.raises(DataError, match="expected a list of snapshots"):
        read_moments(tmp_path / "object.json")
    with pytest.raises(DataError, match="no such file"):
        read_moments(tmp_path / "missing.json")
    with pytest.raises(DataError, match="no 'config' and 'results'"):
        read_episodes(tmp_path / "object.json")
    with pytest.raises(DataError, match="not strict JSON"):
        read_episodes(tmp_path / "broken.json")
    with pytest.raises(DataError, match="no episodes in it"):
        read_episodes(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="no such file"):
        read_episodes(tmp_path / "missing.jsonl")
    (tmp_path / "cut.jsonl").write_text('{"id": "x"')
    with pytest.raises(DataError, match=r"cut\.jsonl:1"):
        read_episodes(tmp_path / "cut.jsonl")
    rows = (phase0 / "mined/snapshots.jsonl").read_text().splitlines()
    (tmp_path / "twice.jsonl").write_text("\n".join([rows[0], rows[0]]) + "\n")
    with pytest.raises(DataError, match=r"row 2: snapshot .* again"):
        read_moments(tmp_path / "twice.jsonl")


def test_a_moment_knows_its_task_and_split(phase0: Path) -> None:
    moment: Moment = read_moments(phase0 / "mined")[0]
    assert moment.task_id == moment.snapshot.task_id
    other = replace(moment, snapshot=replace(moment.snapshot, seed=moment.snapshot.seed + 1))
    assert other.id != moment.id


def test_two_ways_back_that_disagree_are_refused(phase0: Path, tmp_path: Path) -> None:
    path = tmp_path / "failure_snapshots.json"
    write_moments(path, read_moments(phase0 / "mined"))
    rows = json.loads(path.read_bytes())
    state = json.loads(base64.b64decode(rows[0]["env_state_b64"]))
    state["state_hash"] = "0" * 32
    rows[0]["env_state_b64"] = base64.b64encode(json.dumps(state).encode()).decode()
    path.write_text(json.dumps(rows))
    for read in (read_moments, read_labels):
        with pytest.raises(DataError, match="row 1: env_state_b64 and 'moment' lead to different"):
            read(path)
    del rows[0]["moment"]
    path.write_text(json.dumps(rows))
    assert read_moments(path)[0].snapshot.state_hash == "0" * 32
