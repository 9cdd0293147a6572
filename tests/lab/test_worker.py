"""One run folder, executed alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lab_toy_recipe import RECIPE

from cupel.errors import DataError, InfrastructureFailure, UsageError
from cupel.lab import RunFolder, execute_run, plan_run, read_run
from cupel.lab.locks import claim
from cupel.lab.worker import kind_of, main


def create(folder: Path, **passed: object) -> Path:
    spec = plan_run(RECIPE, "lab_toy_recipe:RECIPE", passed={"steps": 4, **passed}, seed=3)
    RunFolder(folder).create(spec)
    return folder


def test_a_run_ends_with_its_result(tmp_path: Path) -> None:
    create(tmp_path)
    assert read_run(tmp_path).status == "planned"
    assert execute_run(tmp_path) == "done"
    record = read_run(tmp_path)
    assert record.status == "done"
    assert record.result is not None
    assert set(record.result["values"]) == {"total", "final"}
    assert record.result["streams"]["metrics.jsonl"] == (tmp_path / "metrics.jsonl").stat().st_size
    assert [event["message"] for event in record.events] == ["evaluated", "evaluated"]


def test_a_complete_run_is_left_alone_even_when_it_was_killed_before_saying_so(
    tmp_path: Path,
) -> None:
    execute_run(create(tmp_path))
    result = (tmp_path / "result.json").read_bytes()
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"done"', '"running"'))
    assert execute_run(tmp_path) == "done"
    assert (tmp_path / "result.json").read_bytes() == result
    assert RunFolder(tmp_path).state()["status"] == "done"


def test_a_result_that_is_not_finite_is_no_result(tmp_path: Path) -> None:
    run = RunFolder(create(tmp_path))
    with pytest.raises(UsageError, match="only finite JSON"):
        run.finish({"total": float("nan")}, {}, fsync=False)
    assert not run.is_complete


def test_a_failure_says_at_which_step(tmp_path: Path) -> None:
    assert execute_run(create(tmp_path, trouble="bug", at=2)) == "failed"
    failure = read_run(tmp_path).failure
    assert failure is not None
    assert (failure["kind"], failure["step"]) == ("error", 1)
    assert "ZeroDivisionError: a bug" in failure["traceback"]


def test_two_processes_never_run_the_same_run(tmp_path: Path) -> None:
    create(tmp_path)
    with (
        claim(tmp_path / ".lock", what="run"),
        pytest.raises(UsageError, match="already being run by process"),
    ):
        execute_run(tmp_path, wait_s=0.1)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.json: no such file"):
        execute_run(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert main([]) == 2


@pytest.mark.parametrize(("passed", "code"), [({}, 0), ({"trouble": "gate", "at": 1}, 3)])
def test_the_module_runs_a_folder_and_its_exit_code_says_how_it_went(
    tmp_path: Path, passed: dict[str, object], code: int
) -> None:
    create(tmp_path, **passed)
    ended = subprocess.run(
        [sys.executable, "-m", "cupel.lab.worker", str(tmp_path)],
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )
    assert ended.returncode == code


def test_out_of_memory_on_an_accelerator_is_the_machines_fault() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    kinds = [OutOfMemoryError(), MemoryError(), OSError(), InfrastructureFailure()]
    assert {kind_of(error) for error in kinds} == {"infrastructure"}
