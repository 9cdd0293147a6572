"""Killed at any moment and run again, a study writes the very bytes an unbroken one writes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lab_studies import planned, run_folders, toy_study, wait_until

from cupel.lab import (
    Progress,
    comparable_bytes,
    differing_streams,
    execute_study,
    read_run,
    read_study,
)
from cupel.lab.store import read_jsonl

STEPS = 30


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = planned(tmp_path_factory.mktemp("unbroken"), toy_study(steps=STEPS, sleep_s=0.0))
    assert execute_study(folder, executor="inline").is_complete
    return folder


def assert_same_record(broken: Path, unbroken: Path) -> None:
    for one, other in zip(run_folders(broken), run_folders(unbroken), strict=True):
        assert one.path.name == other.path.name
        assert differing_streams(one.path, other.path) == []
        assert read_run(one.path).result is not None
        assert read_run(one.path).result["values"] == read_run(other.path).result["values"]
        assert len(read_jsonl(one.path / "metrics.jsonl")) == STEPS


def slow_study(folder: Path, unbroken: Path, sleep_s: float = 0.01) -> Path:
    """The same study, slow enough to be hit; its rows are the same because sleep changes none."""
    planned(folder, toy_study(steps=STEPS, sleep_s=sleep_s))
    assert [run.path.name for run in run_folders(folder)] == [
        run.path.name for run in run_folders(unbroken)
    ]
    return folder


def pid_of(run_folder: Path) -> int | None:
    try:
        return int(json.loads((run_folder / ".lock").read_text())["pid"])
    except (OSError, ValueError):
        return None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Killer(threading.Thread):
    """Kills a random running run at random moments, a given number of times."""

    def __init__(self, study: Path, kills: int, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.study, self.kills, self.rng = study, kills, rng
        self.killed: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        while len(self.killed) < self.kills and not self.over.is_set():
            time.sleep(self.rng.uniform(0.005, 0.15))
            running = [
                pid
                for run in run_folders(self.study)
                if not run.is_complete and (pid := pid_of(run.path)) is not None
                if pid not in self.killed and is_alive(pid)
            ]
            if running:
                pid = self.rng.choice(running)
                os.kill(pid, signal.SIGKILL)
                self.killed.append(pid)


def kill_workers(tmp_path: Path, unbroken: Path, kills: int, seed: int) -> None:
    study = slow_study(tmp_path / "study", unbroken)
    killer = Killer(study, kills, random.Random(seed))
    killer.start()
    outcome = execute_study(study, executor="processes", workers=2, retries=kills)
    killer.over.set()
    killer.join()
    assert outcome.is_complete, outcome.failed
    assert len(killer.killed) == kills
    # A kill that lands between a run's last write and its exit finds nothing left to do again.
    retried = sum(run.attempts for run in outcome.runs) - len(outcome.runs)
    assert kills - kills // 3 <= retried <= kills
    assert_same_record(study, unbroken)


def test_workers_killed_at_random_moments(tmp_path: Path, unbroken: Path) -> None:
    kill_workers(tmp_path, unbroken, kills=5, seed=0)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the parent of a worker")
def test_the_fork_server_is_killed_and_its_runs_are_tried_again(
    tmp_path: Path, unbroken: Path
) -> None:
    study = slow_study(tmp_path, unbroken, sleep_s=0.03)
    killed: list[int] = []

    def kill_parent_of_a_worker(event: Progress) -> None:
        pid = pid_of(study / "runs" / event.run)
        if event.step is not None and not killed and pid is not None:
            stat = Path(f"/proc/{pid}/stat").read_text()
            killed.append(int(stat.rpartition(")")[2].split()[1]))
            assert killed[0] != os.getpid()
            os.kill(killed[0], signal.SIGKILL)

    outcome = execute_study(study, workers=2, progress=kill_parent_of_a_worker)
    assert outcome.is_complete
    assert [run.attempts for run in outcome.runs] == [2, 2, 1, 1]
    assert_same_record(study, unbroken)


@pytest.mark.slow
def test_workers_killed_many_times(tmp_path: Path, unbroken: Path) -> None:
    for seed in range(5):
        kill_workers(tmp_path / str(seed), unbroken, kills=8, seed=seed)


def start_study(study: Path) -> subprocess.Popen[bytes]:
    """Execute a study in a process of its own, as a user's shell would."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from cupel.lab import execute_study\n"
        f"try:\n    execute_study({str(study)!r}, executor='processes', workers=2)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code])


def kill_parents(tmp_path: Path, unbroken: Path, moments: list[float]) -> None:
    study = slow_study(tmp_path / "study", unbroken, sleep_s=0.02)
    for moment in moments:
        parent = start_study(study)
        wait_until(lambda: any(pid_of(run.path) for run in run_folders(study)))
        time.sleep(moment)
        parent.kill()
        parent.wait()
    pids = {pid for run in run_folders(study) if (pid := pid_of(run.path)) is not None}
    wait_until(lambda: not any(is_alive(pid) for pid in pids), seconds=5)
    assert execute_study(study, executor="processes", workers=2).is_complete
    assert_same_record(study, unbroken)


def test_the_parent_is_killed_and_leaves_no_orphans(tmp_path: Path, unbroken: Path) -> None:
    kill_parents(tmp_path, unbroken, [0.15, 0.25])


@pytest.mark.slow
def test_the_parent_is_killed_many_times(tmp_path: Path, unbroken: Path) -> None:
    rng = random.Random(3)
    for trial in range(3):
        moments = [rng.uniform(0.0, 0.3) for _ in range(4)]
        kill_parents(tmp_path / str(trial), unbroken, moments)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_runs_and_leaves_a_resumable_study(
    tmp_path: Path, unbroken: Path, sign: signal.Signals
) -> None:
    study = slow_study(tmp_path / "study", unbroken, sleep_s=0.1)
    parent = start_study(study)
    wait_until(
        lambda: any(
            (run.path / "metrics.jsonl").is_file() and (run.path / "metrics.jsonl").stat().st_size
            for run in run_folders(study)
        )
    )
    pids = {pid for run in run_folders(study) if (pid := pid_of(run.path)) is not None}
    parent.send_signal(sign)
    assert parent.wait(20) == 130
    assert not any(is_alive(pid) for pid in pids)
    record = read_study(study)
    assert {run.status for run in record.runs} <= {"planned", "done"}
    assert {entry["status"] for entry in record.manifest["runs"]} <= {"planned", "done"}
    assert any("interrupted" in event["message"] for run in record.runs for event in run.events)
    assert execute_study(study, workers=4).is_complete
    assert_same_record(study, unbroken)


def test_a_damaged_checkpoint_is_reported_and_the_older_one_used(
    tmp_path: Path, unbroken: Path
) -> None:
    study = planned(tmp_path, toy_study(steps=STEPS))
    assert execute_study(study, executor="inline").is_complete
    run = run_folders(study)[0].path
    (run / "result.json").unlink()
    newest, older = sorted((run / "checkpoints").iterdir(), reverse=True)
    data = bytearray((newest / "walk.npy").read_bytes())
    data[-1] ^= 1
    (newest / "walk.npy").write_bytes(data)
    assert execute_study(study, executor="inline").is_complete
    assert_same_record(study, unbroken)
    messages = [event["message"] for event in read_run(run).events]
    assert (
        f"damaged checkpoint skipped: checkpoint {newest.name}: walk.npy was changed"
        in " ".join(messages)
    )
    assert f"continued from the checkpoint of step {int(older.name[5:])}" in messages


def test_rows_lost_since_the_checkpoint_send_the_run_back_to_the_start(
    tmp_path: Path, unbroken: Path
) -> None:
    study = planned(tmp_path, toy_study(steps=STEPS))
    execute_study(study, executor="inline")
    run = run_folders(study)[0].path
    (run / "result.json").unlink()
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:100])
    assert execute_study(study, executor="inline").is_complete
    assert_same_record(study, unbroken)
    messages = " ".join(event["message"] for event in read_run(run).events)
    assert "metrics.jsonl has lost rows" in messages
    assert "begun again" in messages


def test_the_comparison_sees_a_difference_and_only_where_it_is(
    tmp_path: Path, unbroken: Path
) -> None:
    study = planned(tmp_path, toy_study(steps=STEPS))
    execute_study(study, executor="inline")
    run, other = run_folders(study)[0].path, run_folders(unbroken)[0].path
    assert b"step_time_s" not in comparable_bytes(run)["metrics.jsonl"]
    path = run / "emergence/generations.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"sample":1', b'"sample":7', 1))
    assert differing_streams(run, other) == ["emergence/generations.jsonl"]
