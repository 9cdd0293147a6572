"""A study as jobs: submitit's own local cluster, which starts the processes that Slurm would."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from lab_studies import planned, run_folders, toy_study, wait_until

from cupel.errors import ConfigError, MissingExtraError, UsageError
from cupel.lab import Progress, differing_streams, execute_study
from cupel.lab.executors.options import SlurmOptions
from cupel.lab.executors.slurm_settings import minutes, parameters_of

pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")
LOCAL = SlurmOptions(settings={"cluster": "local"})


def parent_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def run_pid(folder: Path) -> int:
    """Return the process that holds a run's lease."""
    return int(json.loads((folder / ".lock.lease").read_text())["pid"])


def test_jobs_write_the_bytes_of_processes(tmp_path: Path) -> None:
    planned(tmp_path / "a", toy_study(seeds=(1,), steps=6))
    planned(tmp_path / "b", toy_study(seeds=(1,), steps=6))
    execute_study(tmp_path / "a", executor="processes")
    told: list[Progress] = []
    outcome = execute_study(tmp_path / "b", executor="slurm", options=LOCAL, progress=told.append)
    assert outcome.is_complete
    assert [run.attempts for run in outcome.runs] == [1, 1]
    for one, other in zip(run_folders(tmp_path / "a"), run_folders(tmp_path / "b"), strict=True):
        assert differing_streams(one.path, other.path) == []
        assert [event.step for event in told if event.run == one.path.name][-2] == 5
    assert "executor slurm: node" in str(other.state()["events"])


@pytest.mark.slow
def test_a_preempted_job_goes_back_into_the_queue_and_continues(tmp_path: Path) -> None:
    study = toy_study(seeds=(1,), steps=24, every=2, sleep_s=0.2)
    planned(tmp_path / "preempted", study)
    preempted: list[int] = []

    def preempt(event: Progress) -> None:
        if event.run == "baseline" and (event.step or 0) >= 6 and not preempted:
            run = run_pid(tmp_path / "preempted/runs/baseline")
            preempted.append(run)
            server = parent_of(run)
            for pid in (run, server, parent_of(server)):  # Slurm signals every process of a job
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGUSR2)

    outcome = execute_study(
        tmp_path / "preempted", executor="slurm", options=LOCAL, retries=0, progress=preempt
    )
    assert preempted
    assert outcome.is_complete
    planned(tmp_path / "unbroken", study)
    execute_study(tmp_path / "unbroken", executor="inline")
    for one, other in zip(
        run_folders(tmp_path / "preempted"), run_folders(tmp_path / "unbroken"), strict=True
    ):
        assert differing_streams(one.path, other.path) == []
    assert outcome.runs[0].attempts == 2
    assert "continued from the checkpoint of step" in str(
        run_folders(tmp_path / "preempted")[0].state()["events"]
    )


@pytest.mark.slow
def test_a_job_that_dies_is_submitted_again_and_ctrl_c_cancels(tmp_path: Path) -> None:
    planned(tmp_path / "kill", toy_study(seeds=(1,), steps=6, trouble="kill", once=True))
    outcome = execute_study(tmp_path / "kill", executor="slurm", options=LOCAL)
    assert outcome.is_complete
    assert [run.attempts for run in outcome.runs] == [2, 2]
    planned(tmp_path / "stop", toy_study(seeds=(1,), steps=200, every=2, sleep_s=0.1))
    pids: list[int] = []

    def interrupt(event: Progress) -> None:
        if event.step is not None:
            pids.append(run_pid(tmp_path / "stop/runs" / event.run))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_study(tmp_path / "stop", executor="slurm", options=LOCAL, progress=interrupt)
    assert {run.state()["status"] for run in run_folders(tmp_path / "stop")} == {"planned"}
    wait_until(lambda: not Path(f"/proc/{pids[0]}").exists())


def test_without_slurm_the_way_out_is_named(tmp_path: Path) -> None:
    planned(tmp_path, toy_study(steps=2))
    with pytest.raises(UsageError, match=r"no Slurm here.*--slurm cluster=local"):
        execute_study(tmp_path, executor="slurm")


def test_without_submitit_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(tmp_path, toy_study(steps=2))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cupel\[slurm\]'"):
        execute_study(tmp_path, executor="slurm", options=LOCAL)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"partitoin": "gpu"}, "did you mean 'partition'"),
        ({"time": "soon"}, "write minutes, H:MM:SS or D-HH:MM:SS"),
        ({"time": "0"}, "more than no time"),
        ({"mem_gb": "much"}, "write a number"),
        ({"gpus_per_node": "1"}, "--gpus-per-run"),
        ({"nodes": "2"}, "one task on one node"),
    ],
)
def test_settings_that_nobody_would_read_are_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parameters_of(
            SlurmOptions(settings=settings), study="s", at_a_time=None, specific=["partition"]
        )


def test_settings_reach_slurm_under_its_names() -> None:
    options = SlurmOptions(
        settings={"partition": "gpu", "time": "1-00:30", "setup": "module load a; export B=1"},
        cpus=4,
        gpus=1,
    )
    assert parameters_of(options, study="s", at_a_time=8, specific=["partition", "setup"]) == {
        "name": "cupel-s",
        "timeout_min": 1470,
        "cpus_per_task": 4,
        "tasks_per_node": 1,
        "gpus_per_node": 1,
        "slurm_array_parallelism": 8,
        "slurm_partition": "gpu",
        "slurm_setup": ["module load a", "export B=1"],
    }
    assert [minutes(text) for text in ("90", "0:90", "2:00:00", "1-12")] == [90, 2, 120, 2160]
