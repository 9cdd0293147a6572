"""A study killed on the way and run again does only what is missing, and concludes the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cupel.lab import differing_streams
from tests.e2e.program import analysis_of, finish, start, succeed, values_of

STUDY = """
name = "killed"
question = "Does MaxRL learn faster than GRPO on a table?"
seeds = [1, 2, 3, 4]

[config]
backend = "toy"
max_steps = 100
save_every = 10
lr = 2.0

[[conditions]]
label = "grpo+none"
config = { advantage_mode = "grpo", transform_mode = "none" }

[[conditions]]
label = "maxrl+gtpo_sepa"
config = { advantage_mode = "maxrl", transform_mode = "gtpo_sepa" }

[decision]
resamples = 200
"""
RUN = ("run", "killed.toml", "--workers", "2", "--no-figures")
FOLDER = "results/killed"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the study without a kill."""
    root = tmp_path_factory.mktemp("unbroken")
    (root / "killed.toml").write_text(STUDY)
    succeed(root, *RUN)
    return root / FOLDER


def started(root: Path) -> subprocess.Popen[str]:
    (root / "killed.toml").write_text(STUDY)
    return start(root, *RUN)


def wait(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.001)


def finished(study: Path) -> dict[str, int]:
    """Return when each complete run of a study wrote its result."""
    results = sorted(study.glob("runs/*/result.json"))
    return {path.parent.name: path.stat().st_mtime_ns for path in results}


def workers_of(study: Path) -> set[int]:
    """Return the processes that hold a run."""
    pids = set()
    for path in study.glob("runs/*/.lock"):
        try:
            pids.add(int(json.loads(path.read_text())["pid"]))
        except (OSError, ValueError):  # released, or just being written
            continue
    return {pid for pid in pids if is_alive(pid)}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_concludes_the_same(study: Path, unbroken: Path) -> None:
    runs, others = (sorted((folder / "runs").iterdir()) for folder in (study, unbroken))
    assert [run.name for run in runs] == [run.name for run in others]
    for run, other in zip(runs, others, strict=True):
        assert differing_streams(run, other) == [], run.name
        assert values_of(run) == values_of(other)
    reports = analysis_of(study)
    assert set(reports) == {"comparison.json", "significance.json", "litmus.json"}
    assert reports == analysis_of(unbroken)
    assert (study / "plan.lock").is_file()
    assert (study / "report.html").stat().st_size > 10_000


def test_a_killed_study_runs_only_what_is_missing(tmp_path: Path, unbroken: Path) -> None:
    """SIGKILL for the parent and every child, twice, each time after one more run is complete."""
    study = tmp_path / FOLDER
    complete: dict[str, int] = {}
    for _ in range(2):
        running = started(tmp_path)
        least = len(complete) + 1
        wait(running, lambda n=least: len(finished(study)) >= n and bool(workers_of(study)))
        workers = workers_of(study)
        os.killpg(running.pid, signal.SIGKILL)
        for pid in workers:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        running.communicate()
        assert running.returncode == -signal.SIGKILL
        assert not (study / "analysis").exists()
        now = finished(study)
        assert len(complete) < len(now) < 8
        assert complete.items() <= now.items()
        complete = now
    succeed(tmp_path, *RUN)
    assert complete.items() <= finished(study).items()
    assert len(finished(study)) == 8
    assert_concludes_the_same(study, unbroken)


def test_an_interrupted_study_exits_with_130_and_continues(tmp_path: Path, unbroken: Path) -> None:
    study = tmp_path / FOLDER
    running = started(tmp_path)
    wait(running, lambda: bool(finished(study)) and bool(workers_of(study)))
    running.send_signal(signal.SIGINT)
    done = finish(running)
    assert done.returncode == 130, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("cupel: interrupted; ")
    assert last.endswith(f"continue with: cupel run {FOLDER}")
    assert not workers_of(study)
    complete = finished(study)
    assert 1 <= len(complete) < 8
    assert f"{len(complete)} of 8 runs are complete" in last
    succeed(tmp_path, "run", FOLDER, "--no-figures")
    assert complete.items() <= finished(study).items()
    assert_concludes_the_same(study, unbroken)


def test_a_complete_study_runs_nothing(unbroken: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in unbroken.glob("runs/*/*.jsonl")}
    times, reports = finished(unbroken), analysis_of(unbroken)
    succeed(unbroken.parents[1], "resume", FOLDER, "--no-figures")
    assert finished(unbroken) == times
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert analysis_of(unbroken) == reports
