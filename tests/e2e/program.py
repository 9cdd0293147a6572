"""The program as a user's shell starts it: a process and a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LINE = (sys.executable, "-m", "cupel")
TINY = (
    *("train", "--max-steps", "10", "--batch-size", "4", "--save-every", "2"),
    *("--set", "evaluation.problems=8", "--set", "evaluation.every=5"),
    *("--set", "evaluation.start_band=[0.0, 1.0]"),
)
"""Ten steps of the tiny model, in seconds; eight problems say nothing of its accuracy."""

ASSET = Path(__file__).parents[2] / "src/cupel/policy/assets/tiny-arithmetic/build.json"
NO_TINY = "the tiny model is not in this tree; `cupel models build tiny` makes it"


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        [*LINE, *(str(word) for word in words)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a command to end."""
    stdout, stderr = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def call(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return finish(start(folder, *words))


def succeed(folder: Path, *words: object) -> str:
    """Run a command to its end, which must be good, and return what it printed."""
    done = call(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def values_of(run: Path) -> dict[str, Any]:
    """Return the numbers of result.json."""
    values: dict[str, Any] = json.loads((run / "result.json").read_text())["values"]
    return values


def analysis_of(study: Path) -> dict[str, Any]:
    """Return the reports of a study without the hashes of files that hold timings."""
    reports = {}
    for path in sorted((study / "analysis").glob("*.json")):
        reports[path.name] = _without_hashes_of_timings(json.loads(path.read_text()))
    return reports


def _without_hashes_of_timings(value: Any) -> Any:
    if isinstance(value, Mapping):
        timed = ("/metrics.jsonl", "/evaluations.jsonl", "source_sha256")  # the last: of the others
        return {
            key: _without_hashes_of_timings(item)
            for key, item in value.items()
            if not key.endswith(timed)
        }
    return (
        [_without_hashes_of_timings(item) for item in value] if isinstance(value, list) else value
    )
