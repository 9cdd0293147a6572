"""Followers killed at any moment leave no row out and send none twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.report.trackers.run_files import (
    end_run,
    line,
    make_run,
    row,
    shown,
    shown_numbers,
    tensorboard_rows,
    wandb_rows,
)

ROOT = Path(__file__).parents[3]


def driven(folder: Path, *, runs: int, kills: int, seed: int) -> dict[str, Any]:
    """Run the kill driver, and return what it says."""
    script = Path(__file__).with_name("kill_driver.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(runs), str(kills), str(seed)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def assert_no_row_is_lost_or_doubled(folder: Path) -> None:
    expected = [(step, shown_numbers(row(step))) for step in range(30)]
    runs = sorted(folder.glob("run*"))
    assert runs
    for run in runs:
        assert tensorboard_rows(run) == expected, run.name


def test_a_hundred_deaths_at_any_line_leave_no_gap_and_no_duplicate(tmp_path: Path) -> None:
    told = driven(tmp_path, runs=8, kills=16, seed=5)
    assert told["killed"] >= 80
    assert_no_row_is_lost_or_doubled(tmp_path)


@pytest.mark.slow
def test_a_thousand_deaths_at_any_line_leave_no_gap_and_no_duplicate(tmp_path: Path) -> None:
    told = driven(tmp_path, runs=70, kills=20, seed=7)
    assert told["killed"] >= 1000
    between = {"run_follower.py:_send", "run_follower.py:_hand_over", "run_follower.py:_save"}
    windows = {"tensorboard_run.py:commit", "ledger.py:append", "state.py:save"}
    assert between | windows <= told["places"].keys()
    assert_no_row_is_lost_or_doubled(tmp_path)


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start `cupel follow` as a process of its own."""
    command = [sys.executable, "-m", "cupel", "follow", str(folder), "--poll-seconds", "0.02"]
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder.parent
    )


def killed_again_and_again(
    folder: Path, *words: str, kills: int, rows: int, after_s: tuple[float, float], seed: int
) -> None:
    """Kill followers of a file that grows all the while; the last one goes to the end."""
    rng = random.Random(seed)
    each = rows // (kills + 1)
    with (folder / "metrics.jsonl").open("ab", buffering=0) as handle:
        for part in range(kills + 1):
            process = start(folder, *words)
            deadline = time.monotonic() + rng.uniform(*after_s)
            data = b"".join(line(row(step)) for step in range(part * each, (part + 1) * each))
            while data:
                count = rng.randint(1, 400)
                handle.write(data[:count])
                data = data[count:]
                time.sleep(0.001)
            if part == kills:
                end_run(folder)
                _, errors = process.communicate(timeout=120)
                assert process.returncode == 0, errors.decode()
                return
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.01)
            assert process.poll() is None, process.communicate()
            process.send_signal(signal.SIGKILL)
            process.communicate()


@pytest.mark.parametrize("kills", [4, pytest.param(24, marks=pytest.mark.slow)])
def test_sigkilled_tensorboard_followers(tmp_path: Path, kills: int) -> None:
    folder = make_run(tmp_path / "run", [])
    words = ("--tracker", "tensorboard")
    rows = 40 * (kills + 1)
    killed_again_and_again(folder, *words, kills=kills, rows=rows, after_s=(0.5, 2.0), seed=1)
    expected = [(step, shown_numbers(row(step))) for step in range(rows)]
    assert tensorboard_rows(folder) == expected


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_sigkilled_wandb_followers(tmp_path: Path, kills: int) -> None:
    """W&B's own process loses rows it was handed when its parent dies: none may stay out."""
    folder = make_run(tmp_path / "run", [])
    rows = 100 * (kills + 1)
    killed_again_and_again(folder, "--offline", kills=kills, rows=rows, after_s=(3.0, 5.0), seed=2)
    expected = [{**shown(row(step)), "_step": step} for step in range(rows)]
    assert wandb_rows(folder) == expected
