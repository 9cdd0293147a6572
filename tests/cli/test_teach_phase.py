"""One phase in its folder: skipped when complete, closed to others, begun again after bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from cupel.cli.teach.phase import run_phase
from cupel.errors import UsageError

CORRIDOR = {"environment": {"name": "corridor", "max_steps": 8}, "student": {"backend": "uniform"}}


def rollouts(folder: Path, n_tasks: int) -> dict[str, object]:
    return run_phase("teach.rollouts", {**CORRIDOR, "n_tasks": n_tasks}, folder=folder, seed=1)


def mine(folder: Path, source: Path) -> dict[str, object]:
    return run_phase("teach.mine", {"rollouts": [str(source)]}, folder=folder, seed=1)


def test_a_complete_phase_is_not_run_again_and_other_settings_are_refused(tmp_path: Path) -> None:
    first = rollouts(tmp_path / "a", 6)
    written = (tmp_path / "a/episodes.jsonl").stat().st_mtime_ns
    assert rollouts(tmp_path / "a", 6) == first
    assert (tmp_path / "a/episodes.jsonl").stat().st_mtime_ns == written
    with pytest.raises(UsageError, match="holds another run"):
        rollouts(tmp_path / "a", 7)


def test_settings_that_were_refused_give_way_to_corrected_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rollouts(tmp_path / "all", 12)
    perfect = {**CORRIDOR, "actor": "expert", "n_tasks": 3}
    run_phase("teach.rollouts", perfect, folder=tmp_path / "perfect", seed=1)
    with pytest.raises(UsageError, match="no failure"):
        mine(tmp_path / "mined", tmp_path / "perfect")
    assert (tmp_path / "mined/run.json").is_file()
    (tmp_path / "mined/paid.sqlite").write_bytes(b"kept")
    assert mine(tmp_path / "mined", tmp_path / "all")
    assert "begun again" in capsys.readouterr().err
    assert (tmp_path / "mined/paid.sqlite").read_bytes() == b"kept"
    assert (tmp_path / "mined/snapshots.jsonl").stat().st_size > 0
