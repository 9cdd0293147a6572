"""Running a phase in a folder, in this process or in one that is killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cupel.lab import RunFolder, execute_run, load_recipe, plan_run, read_run


def planned_phase(folder: Path, recipe: str, settings: dict[str, Any], seed: int = 7) -> Path:
    """Plan a run and return its folder."""
    spec = plan_run(load_recipe(recipe), recipe, passed=settings, seed=seed, condition="phase")
    RunFolder(folder).create(spec)
    return folder


def run_phase(folder: Path, recipe: str, settings: dict[str, Any], seed: int = 7) -> dict[str, Any]:
    """Run to the end and return the result's values."""
    planned_phase(folder, recipe, settings, seed)
    status = execute_run(folder, fsync=False)
    record = read_run(folder)
    assert status == "done", record.failure
    assert record.result is not None
    return dict(record.result["values"])


def failure_of(folder: Path, recipe: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Run, expecting a failure, and return it."""
    planned_phase(folder, recipe, settings)
    assert execute_run(folder, fsync=False) == "failed"
    failure = read_run(folder).failure
    assert failure is not None
    return dict(failure)


def run_killed(folder: Path, *, blocks: int, kills: int, seed: int) -> int:
    """Run a planned phase in processes killed at random blocks, then to its end.

    Returns:
        How many processes were killed before they had finished.
    """
    rng = random.Random(seed)
    killed = 0
    for at in sorted(rng.sample(range(1, blocks - 2), kills)):
        worker = subprocess.Popen([sys.executable, "-m", "cupel.lab.worker", str(folder)])
        while worker.poll() is None and _rows(folder) < at:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.004))
        killed += worker.poll() is None
        worker.kill()
        worker.wait()
        assert not RunFolder(folder).is_complete
    assert execute_run(folder, fsync=False) == "done"
    return killed


def _rows(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0
