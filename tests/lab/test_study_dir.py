"""A study folder says what was declared, before anything runs, and refuses a silent change."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lab_studies import planned, run_folders, toy_study
from lab_toy_recipe import RECIPE

from cupel.config import canonical_json
from cupel.errors import PlanError, UsageError
from cupel.lab import execute_study, plan_study, read_study, write_plan
from cupel.lab.study_dir import lock_sha256, study_toml


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def test_a_plan_is_written_whole_and_read_back(tmp_path: Path) -> None:
    study = toy_study(seeds=(5, 6), steps=3)
    plan = plan_study(study, RECIPE)
    write_plan(plan, tmp_path / "new" / "study", ["cupel", "run", "--api-key", "hush"])
    record = read_study(tmp_path / "new" / "study")
    assert record.study == study
    assert record.lock is not None
    assert record.lock["sha256"] == lock_sha256(record.lock["lock"]) == lock_sha256(plan.lock)
    assert record.manifest["argv"] == ["cupel", "run", "--api-key", "[hidden]"]
    assert record.manifest["costs"] == {"steps": 12, "completions": 36}
    assert [(run.condition, run.seed, run.status) for run in record.runs] == [
        ("still", 5, "planned"), ("drifting", 5, "planned"),
        ("still", 6, "planned"), ("drifting", 6, "planned"),
    ]  # fmt: skip
    assert record.run("drifting", 6).config["resolved"]["steps"] == 3
    assert record.run("drifting", 6).config["passed"] == {"steps": 3, "drift": 0.2}


def test_the_lock_is_canonical_and_older_than_any_outcome(tmp_path: Path) -> None:
    folder = planned(tmp_path, toy_study(steps=2))
    text = (folder / "plan.lock").read_text()
    lock = json.loads(text)
    assert text == canonical_json(lock) + "\n"
    execute_study(folder, executor="inline")
    for run in read_study(folder).manifest["runs"]:
        assert lock["locked_at"] <= run["started_at"]


def test_planning_again_changes_nothing(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    before = snapshot(tmp_path)
    planned(tmp_path, toy_study(steps=2))
    assert snapshot(tmp_path) == before
    execute_study(tmp_path, executor="inline")
    before = snapshot(tmp_path)
    planned(tmp_path, toy_study(steps=2))
    assert snapshot(tmp_path) == before
    assert {entry["status"] for entry in read_study(tmp_path).manifest["runs"]} == {"done"}


def test_another_plan_is_free_before_and_refused_after_outcomes(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    planned(tmp_path, toy_study(steps=3))
    assert read_study(tmp_path).study.config == {"steps": 3}
    assert execute_study(tmp_path, executor="inline").is_complete
    before = snapshot(tmp_path)
    longer = toy_study(seeds=(1, 2, 3), steps=3)
    with pytest.raises(PlanError, match=r"differs from plan\.lock in looks, seeds, and runs have"):
        planned(tmp_path, longer)
    assert snapshot(tmp_path) == before


def test_an_amendment_keeps_what_was_declared_before(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    execute_study(tmp_path, executor="inline")
    old = read_study(tmp_path).lock
    longer = plan_study(toy_study(seeds=(1, 2, 3), steps=2), RECIPE)
    write_plan(longer, tmp_path, amend="a third seed became affordable")
    record = read_study(tmp_path)
    assert old is not None
    assert record.lock is not None
    (amendment,) = record.lock["amendments"]
    assert amendment["reason"] == "a third seed became affordable"
    assert amendment["outcomes_seen"] is True
    assert amendment["replaced_lock"] == old["lock"]
    assert [run.status for run in record.runs].count("done") == 4
    outcome = execute_study(tmp_path, executor="inline")
    assert [run.skipped for run in outcome.runs] == [True] * 4 + [False] * 2


def test_the_script_is_executable_and_holds_a_line_a_run(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    script = tmp_path / "run_commands.sh"
    assert script.stat().st_mode & 0o777 == 0o755
    lines = script.read_text().splitlines()
    assert [line for line in lines if line.startswith("cupel")] == [
        "cupel resume runs/still_s1", "cupel resume runs/drifting_s1",
        "cupel resume runs/still_s2", "cupel resume runs/drifting_s2",
    ]  # fmt: skip
    assert subprocess.run(["bash", "-n", str(script)], check=True).returncode == 0


def test_what_toml_cannot_say_is_refused() -> None:
    with pytest.raises(PlanError, match="explicit None"):
        study_toml(toy_study(seed_in_trouble=None))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    with pytest.raises(UsageError, match=r"file/study: cannot be written \(Not a directory\)"):
        planned(blocker / "study", toy_study())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UsageError, match="Permission denied"):
            planned(tmp_path / "study", toy_study())
    finally:
        tmp_path.chmod(0o755)


def test_a_run_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    execute_study(tmp_path, executor="inline")
    (tmp_path / "plan.lock").unlink()
    before = (tmp_path / "study.toml").read_bytes()
    with pytest.raises(UsageError, match="holds another run"):
        planned(tmp_path, toy_study(steps=3))
    assert all(run.is_complete for run in run_folders(tmp_path))
    assert (tmp_path / "study.toml").read_bytes() == before
    assert not (tmp_path / "plan.lock").exists()


def test_provenance_says_what_ran_where(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    execute_study(tmp_path, executor="inline")
    for state in [read_study(tmp_path).manifest, run_folders(tmp_path)[0].state()]:
        provenance: dict[str, Any] = state["provenance"]
        assert provenance["python"].startswith("3.")
        assert provenance["cpu_count"] >= 1
        assert "numpy" in provenance["packages"]
        assert set(provenance) >= {"argv", "git", "os", "cpu", "torch", "environment"}
