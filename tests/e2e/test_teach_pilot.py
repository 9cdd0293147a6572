"""The pilot end to end: gates green, a second call resumes in seconds, kills change no byte."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cupel.teach.artifacts import ARTIFACTS

PILOT = (
    "teach", "pilot", "--out-dir", "pilot", "--n-tasks", "160", "--max-snapshots", "128",
)  # fmt: skip
KILLS = 4
DERIVED = (
    *(artifact.path for artifact in ARTIFACTS),
    "pilot_gates.json",
    "phase1_labeling/outcomes.jsonl",
    "phase3_eval/episodes.jsonl",
    "phase3_eval/gates.json",
    "phase4_predictor/predictions.jsonl",
    "phase4_predictor/predictor/model.pt",
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "cupel", *PILOT],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def hashes(folder: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((folder / "pilot" / name).read_bytes()).hexdigest() for name in DERIVED
    }


@pytest.mark.slow
def test_a_killed_pilot_ends_with_the_bytes_of_an_unbroken_one(tmp_path: Path) -> None:
    began = time.monotonic()
    assert start(tmp_path / "whole").wait() in (0, 1), (tmp_path / "whole/log").read_text()
    lasted = time.monotonic() - began
    whole = hashes(tmp_path / "whole")

    moments = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        process = start(tmp_path / "killed")
        try:
            process.wait(timeout=moments.uniform(0.1, 0.45) * lasted)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed >= 2
    assert start(tmp_path / "killed").wait() in (0, 1), (tmp_path / "killed/log").read_text()
    assert hashes(tmp_path / "killed") == whole

    again = time.monotonic()
    assert start(tmp_path / "whole").wait() in (0, 1)
    assert time.monotonic() - again < max(60.0, 0.3 * lasted)
    assert hashes(tmp_path / "whole") == whole
    gates = json.loads((tmp_path / "whole/pilot/pilot_gates.json").read_bytes())
    numeric = {gate["name"]: gate["passed"] for gate in gates["gates"]}
    assert all(numeric[name] for name in ("expert", "restored", "order", "files"))
