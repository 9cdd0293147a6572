"""Every run that was started ends as a row: done, or failed with a kind and a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab_studies import planned, run_folders, toy_study

from cupel.errors import ConfigError, DataError, UsageError
from cupel.lab import Progress, Slot, differing_streams, execute_study, read_run, read_study
from cupel.lab.executors.base import StudyOutcome
from cupel.lab.executors.tail import Tail
from cupel.lab.locks import claim
from cupel.lab.run_dir import RunFolder
from cupel.lab.store import read_jsonl

BOTH = pytest.mark.parametrize("executor", ["inline", "processes"])


def run_toy(folder: Path, executor: str, **config: Any) -> StudyOutcome:
    planned(folder, toy_study(**{"steps": 8, **config}))
    return execute_study(folder, executor=executor, workers=2)


def values(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())["values"]


@BOTH
def test_a_study_runs_to_the_end_and_then_has_nothing_to_do(tmp_path: Path, executor: str) -> None:
    outcome = run_toy(tmp_path, executor)
    assert outcome.is_complete
    assert [run.attempts for run in outcome.runs] == [1, 1, 1, 1]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/metrics.jsonl")}
    again = execute_study(tmp_path, executor=executor)
    assert all(run.skipped and run.status == "done" for run in again.runs)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_both_executors_write_the_same_results(tmp_path: Path) -> None:
    run_toy(tmp_path / "a", "inline")
    run_toy(tmp_path / "b", "processes")
    for one, other in zip(run_folders(tmp_path / "a"), run_folders(tmp_path / "b"), strict=True):
        assert differing_streams(one.path, other.path) == []
        assert values(one.path) == values(other.path)


@BOTH
def test_only_what_is_missing_is_executed(tmp_path: Path, executor: str) -> None:
    run_toy(tmp_path, executor)
    (tmp_path / "runs/still_s2/result.json").unlink()
    outcome = execute_study(tmp_path, executor=executor)
    assert [run.run for run in outcome.runs if not run.skipped] == ["still_s2"]
    assert outcome.is_complete


@BOTH
@pytest.mark.parametrize(
    ("trouble", "kind", "says", "attempts"),
    [
        ("nan", "algorithmic", "metrics.jsonl step 5: correct_rate is nan", 1),
        ("limit", "algorithmic", "correct_rate = 51 is outside its health limits [-50, 50]", 1),
        ("gate", "gate", "the gate said no", 1),
        ("os", "infrastructure", "No space left on device", 2),
        ("infra", "infrastructure", "the sampler went away", 2),
        ("usage", "usage", "the data are not there", 1),
        ("bug", "error", "a bug", 1),
    ],
)
def test_a_failed_seed_is_a_row(
    tmp_path: Path, executor: str, trouble: str, kind: str, says: str, attempts: int
) -> None:
    outcome = run_toy(tmp_path, executor, trouble=trouble, seed_in_trouble=2)
    assert [run.status for run in outcome.runs] == ["done", "done", "failed", "failed"]
    for run in outcome.failed:
        assert run.failure is not None
        assert run.failure["kind"] == kind
        assert says in run.failure["message"]
        assert run.attempts == attempts
    record = read_study(tmp_path).run("still", 2)
    assert record.failure is not None
    assert (record.status, record.result, record.failure["kind"]) == ("failed", None, kind)
    assert (record.failure["traceback"] is None) == (kind in ("algorithmic", "gate", "usage"))
    rows = record.rows("metrics.jsonl")
    assert len(rows) == (6 if trouble in ("nan", "limit") else 5)
    if trouble == "nan":
        assert rows[-1]["correct_rate"] is None
    assert read_study(tmp_path).manifest["runs"][2]["failure"]["kind"] == kind


@pytest.mark.parametrize(
    ("trouble", "says"), [("kill", "killed by SIGKILL"), ("exit", "ended with exit code 9; see ")]
)
def test_a_process_that_dies_is_tried_again_and_then_a_row(
    tmp_path: Path, trouble: str, says: str
) -> None:
    outcome = run_toy(tmp_path, "processes", trouble=trouble, seed_in_trouble=2)
    assert [run.status for run in outcome.runs] == ["done", "done", "failed", "failed"]
    assert [run.attempts for run in outcome.runs] == [1, 1, 2, 2]
    assert all(run.failure and says in run.failure["message"] for run in outcome.failed)
    assert all(run.failure and run.failure["kind"] == "infrastructure" for run in outcome.failed)
    if trouble == "exit":
        assert "going down" in (tmp_path / "runs/still_s2/log.txt").read_text()
    assert [run.attempts for run in execute_study(tmp_path).runs] == [1, 1, 4, 4]


@BOTH
def test_an_infrastructure_failure_that_passes_leaves_no_trace_in_the_record(
    tmp_path: Path, executor: str
) -> None:
    outcome = run_toy(tmp_path / "troubled", executor, trouble="infra", once=True)
    assert outcome.is_complete
    assert [run.attempts for run in outcome.runs] == [2, 2, 2, 2]
    run_toy(tmp_path / "smooth", executor)
    for name in ("still_s1", "drifting_s2"):
        troubled, smooth = (tmp_path / kind / "runs" / name for kind in ("troubled", "smooth"))
        assert differing_streams(troubled, smooth) == []
        assert values(troubled) == values(smooth)
        assert len(read_jsonl(troubled / "metrics.jsonl")) == 8


@BOTH
def test_an_algorithmic_failure_stays_unless_asked_for(tmp_path: Path, executor: str) -> None:
    run_toy(tmp_path, executor, trouble="limit", seed_in_trouble=2, once=True)
    again = execute_study(tmp_path, executor=executor)
    assert [run.status for run in again.runs] == ["done", "done", "failed", "failed"]
    assert all(run.skipped for run in again.runs)
    retried = execute_study(tmp_path, executor=executor, retry_failed=True)
    assert retried.is_complete
    assert [run.attempts for run in retried.runs] == [1, 1, 2, 2]
    for folder in ("still_s2", "drifting_s2"):
        messages = [event["message"] for event in read_run(tmp_path / "runs" / folder).events]
        assert not any("continued" in str(message) for message in messages)


@BOTH
def test_progress_tells_every_run_from_start_to_end(tmp_path: Path, executor: str) -> None:
    told: list[Progress] = []
    planned(tmp_path, toy_study(steps=8, trouble="gate", seed_in_trouble=2))
    execute_study(tmp_path, executor=executor, workers=2, progress=told.append)
    for name in ("still_s1", "drifting_s1", "still_s2", "drifting_s2"):
        events = [event for event in told if event.run == name]
        assert events[0].status == "running"
        assert events[-1].status == ("failed" if name.endswith("2") else "done")
        assert all(event.total == 8 for event in events)
        steps = [event.step for event in events if event.step is not None]
        assert steps[-1] == (4 if name.endswith("2") else 7)
    assert any(event.message == "the gate said no" for event in told)


def test_a_listener_that_raises_stops_the_study_and_leaves_it_resumable(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=8, sleep_s=0.1))

    def refuse(event: Progress) -> None:
        if event.step is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_study(tmp_path, workers=2, progress=refuse)
    assert {run.status for run in read_study(tmp_path).runs} == {"planned"}
    assert execute_study(tmp_path, workers=4).is_complete


@pytest.mark.parametrize(
    ("visible", "device", "told"),
    [
        (None, "cpu", "cpu None"),
        (None, "cuda:1", "cuda 1"),
        ("4,7", "cuda:1", "cuda 7"),
        ("GPU-a,GPU-b", "cuda:0", "cuda GPU-a"),
    ],
)
def test_a_run_sees_only_its_own_device_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str, told: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    planned(tmp_path, toy_study(seeds=(1,), steps=2, trouble="tell", at=1))
    assert execute_study(tmp_path, slots=[Slot(device=device, threads=2)]).is_complete
    rows = read_jsonl(tmp_path / "runs/baseline/events.jsonl")
    assert f"{told} threads 2 2" in [row["message"] for row in rows]
    assert "told on stdout" in (tmp_path / "runs/baseline/log.txt").read_text()


def test_as_many_runs_at_a_time_as_there_are_slots(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(seeds=(1, 2, 3), steps=4, sleep_s=0.02))
    running: set[str] = set()
    most = 0

    def count(event: Progress) -> None:
        nonlocal most
        (running.add if event.status == "running" else running.discard)(event.run)
        most = max(most, len(running))

    execute_study(tmp_path, slots=[Slot()] * 3, progress=count)
    assert most == 3


def test_a_recipe_that_cannot_be_found_in_a_run_is_a_usage_failure(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    path = tmp_path / "runs/still_s1/config.json"
    path.write_text(path.read_text().replace("lab_toy_recipe:RECIPE", "lab_toy_recipe:RECIP"))
    outcome = execute_study(tmp_path, executor="processes")
    (failed,) = outcome.failed
    assert failed.failure is not None
    assert failed.failure["kind"] == "usage"
    assert "did you mean 'RECIPE'" in failed.failure["message"]


def test_one_executor_at_a_time(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    with (
        claim(tmp_path / ".lock", what="study"),
        pytest.raises(UsageError, match=r"is already being run by process \d+ on "),
    ):
        execute_study(tmp_path, executor="inline")
    (tmp_path / ".lock").write_text('{"pid": 1, "host": "elsewhere"}')  # its holder is dead
    assert execute_study(tmp_path, executor="inline").is_complete


def test_a_complete_record_that_lost_a_row_is_noticed(tmp_path: Path) -> None:
    run_toy(tmp_path, "inline")
    path = tmp_path / "runs/still_s1/metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="rows were lost or added since"):
        read_study(tmp_path).run("still", 1).rows("metrics.jsonl")


def test_what_is_no_study_or_no_executor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json: no such file"):
        execute_study(tmp_path)
    with pytest.raises(ConfigError, match="executor 'proceses': did you mean 'processes'"):
        execute_study(tmp_path, executor="proceses")


def test_the_tail_reads_only_whole_new_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(RunFolder(tmp_path))
    assert tail.last_row() is None
    path.write_text('{"step":0}\n{"step":1}\n{"st')
    assert tail.last_row() == {"step": 1}
    assert tail.last_row() is None
    with path.open("a") as handle:
        handle.write('ep":2}\n')
    assert tail.last_row() == {"step": 2}
    path.write_text('{"step":0}\n')
    assert tail.last_row() == {"step": 0}
