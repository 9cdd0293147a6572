"""Recovery trajectories: the expert's way to the end, continued where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.errors import DataError
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.labelling.labels import Estimate, LabelledMoment, Leverage
from cupel.teach.records import Moment
from cupel.teach.rollouts.files import read_moments
from cupel.teach.rollouts.recovery import write_recoveries
from tests.teach.phase_runs import run_phase

CORRIDOR = EnvironmentConfig(name="corridor", max_steps=6)


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> tuple[Moment, ...]:
    """Failure states, and with offset -1 the state after: some of them in the pit."""
    folder = tmp_path_factory.mktemp("phase0")
    settings = {"environment": {"name": "corridor", "max_steps": 6}, "n_tasks": 30}
    run_phase(
        folder / "rollouts", "teach.rollouts", {**settings, "student": {"backend": "uniform"}}
    )
    mine = {"rollouts": [str(folder / "rollouts")], "offsets": [0, 1, -1]}
    run_phase(folder / "mined", "teach.mine", mine)
    return read_moments(folder / "mined")


def test_the_expert_recovers_what_is_in_reach_and_nothing_else(
    moments: tuple[Moment, ...], tmp_path: Path
) -> None:
    file = tmp_path / "recovery_trajectories.jsonl"
    counts = write_recoveries(file, moments, CORRIDOR)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["snapshot_id"] for row in rows] == [moment.id for moment in moments]
    for row, moment in zip(rows, moments, strict=True):
        assert {
            "snapshot_id", "task_id", "quadrant", "L_upper", "expert", "success", "total_reward",
            "n_steps", "steps",
        } <= set(row)  # fmt: skip
        assert row["success"] == (moment.offset >= 0)
        assert row["n_steps"] == len(row["steps"]) <= 6 - moment.step_idx
        assert row["quadrant"] is None
        assert row["L_upper"] is None
        for t, step in enumerate(row["steps"]):
            assert step["t"] == t
            assert step["action"] in step["valid_actions"]
        if row["steps"]:
            assert row["steps"][0]["observation"] == moment.observation
    lost = sum(moment.offset < 0 for moment in moments)
    assert (counts.failures, counts.successes, counts.errors) == (lost, len(moments) - lost, 0)
    assert lost > 0


def test_a_fresh_budget_reaches_further(moments: tuple[Moment, ...], tmp_path: Path) -> None:
    left = write_recoveries(tmp_path / "left.jsonl", moments, CORRIDOR)
    fresh = write_recoveries(tmp_path / "fresh.jsonl", moments, CORRIDOR, fresh=True)
    assert fresh.successes > left.successes


def test_labels_are_carried_along(moments: tuple[Moment, ...], tmp_path: Path) -> None:
    one, zero = (Estimate(value=v, lo=v, hi=v) for v in (1.0, 0.0))
    leverage = Leverage(p_policy=zero, p_force=one, p_expert=one, L_local=one, L_upper=one)
    label = LabelledMoment(
        moment=moments[0], hint=None, leverage=leverage, quadrant="Q4_lowU_highL"
    )
    write_recoveries(tmp_path / "r.jsonl", [label], CORRIDOR)
    row = json.loads((tmp_path / "r.jsonl").read_text())
    assert (row["quadrant"], row["L_upper"]) == ("Q4_lowU_highL", 1.0)


@pytest.mark.parametrize("cut", [0, 5, 400, 4000])
def test_cut_short_anywhere_it_continues_to_the_same_bytes(
    moments: tuple[Moment, ...], tmp_path: Path, cut: int
) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    counts = write_recoveries(whole, moments, CORRIDOR)
    broken.write_bytes(whole.read_bytes()[:cut])
    assert write_recoveries(broken, moments, CORRIDOR) == counts
    assert broken.read_bytes() == whole.read_bytes()


def test_a_file_of_something_else_is_left_alone(
    moments: tuple[Moment, ...], tmp_path: Path
) -> None:
    file = tmp_path / "r.jsonl"
    write_recoveries(file, moments[:4], CORRIDOR)
    before = file.read_bytes()
    with pytest.raises(DataError, match="of other snapshots"):
        write_recoveries(file, moments[1:], CORRIDOR)
    assert file.read_bytes() == before
    file.write_text("hello\n")
    with pytest.raises(DataError, match="not a file of recovery trajectories"):
        write_recoveries(file, moments, CORRIDOR)
