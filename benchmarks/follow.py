"""Following a file of rows into TensorBoard, against reading it again at every look.

    python benchmarks/follow.py

First part: a backfill of n, 2n and 4n rows must cost n, 2n and 4n. Second part: a file grows by 500
rows between two looks; one side is the engine of `cupel follow`, which sends the rows too, the
other parses the whole file at every look, keeps the steps it has not seen, and sends nothing. Both
must find the same steps. The clock is CPU time; the sides run in alternation.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cupel.report.trackers.names import names_of
from cupel.report.trackers.opening import opener
from cupel.report.trackers.protocol import TrackedRun
from cupel.report.trackers.run_follower import RunFollower
from cupel.report.trackers.state import take_over

BACKFILL = (250_000, 500_000, 1_000_000)
GROWING = (10_000, 20_000, 40_000)
ROWS_A_LOOK = 500


def rows(start: int, end: int) -> bytes:
    """Return rows of eleven keys, as a file."""
    return b"".join(
        (
            f'{{"step":{n},"condition":"maxrl+gtpo_sepa","seed":42,"correct_rate":{n % 11 / 11},'
            f'"running_correct_rate":{n % 97 / 97},"mean_reward":{n % 13 / 13},"loss":{-n % 7 / 7},'
            f'"exec_entropy_var":{1 / (n + 1)},"sepa_lambda":{min(1.0, n / 1000)},'
            f'"sepa_gate_open":true,"step_time_s":{0.5 + n % 10 / 1000}}}\n'
        ).encode()
        for n in range(start, end)
    )


def follower(folder: Path) -> RunFollower:
    """Open a follower of a folder's rows."""
    return RunFollower(
        TrackedRun(folder=folder, name="run", run_id="run", project="p"),
        take_over(folder, "tensorboard", {"project": "p", "entity": None, "mode": "local"}),
        opener("tensorboard"),
        metrics=folder / "metrics.jsonl",
        names=names_of("rlvr.train"),
    )


def seconds(function: Callable[[], Any]) -> float:
    """Return the CPU time of one call."""
    started = time.process_time()
    function()
    return time.process_time() - started


def backfill(root: Path, number: int) -> float:
    """Send `number` rows that are there already; return the CPU time."""
    folder = root / f"backfill{number}"
    folder.mkdir()
    (folder / "metrics.jsonl").write_bytes(rows(0, number))
    following = follower(folder)
    spent = seconds(following.poll)
    assert (following.sent, following.last_step) == (number, number - 1)
    following.close(ended=None)
    shutil.rmtree(folder)
    return spent


def growing(root: Path, number: int) -> tuple[float, float]:
    """Follow a file that grows to `number` rows; return CPU times of both sides."""
    folder = root / f"growing{number}"
    folder.mkdir()
    path = folder / "metrics.jsonl"
    path.touch()
    following, seen, ours, theirs = follower(folder), set[int](), 0.0, 0.0
    for start in range(0, number, ROWS_A_LOOK):
        with path.open("ab") as handle:
            handle.write(rows(start, start + ROWS_A_LOOK))
        ours += seconds(following.poll)
        theirs += seconds(lambda: look_again(path, seen))
    assert following.sent == len(seen) == number
    following.close(ended=None)
    shutil.rmtree(folder)
    return ours, theirs


def look_again(path: Path, seen: set[int]) -> None:
    """Parse the whole file and keep the steps that were not there before."""
    with path.open() as lines:
        for line in lines:
            seen.add(json.loads(line)["step"])


def measure(root: Path) -> dict[str, Any]:
    """Measure both parts."""
    sent = {number: backfill(root, number) for number in BACKFILL}
    pairs = {number: growing(root, number) for number in GROWING}
    return {
        "backfill": [{"rows": n, "s": s, "us_a_row": 1e6 * s / n} for n, s in sent.items()],
        "growing": [
            {"rows": n, "cupel_s": ours, "again_s": theirs, "ratio": theirs / ours}
            for n, (ours, theirs) in pairs.items()
        ],
    }


def show(results: dict[str, Sequence[dict[str, Any]]]) -> None:
    """Print both parts."""
    for row in results["backfill"]:
        print(f"backfill {row['rows']:>9,} rows: {row['s']:6.2f} s, {row['us_a_row']:.1f} us a row")
    for row in results["growing"]:
        print(
            f"growing to {row['rows']:>7,} rows: cupel {row['cupel_s']:.2f} s with sending, "
            f"reading again {row['again_s']:.2f} s without: {row['ratio']:.1f}x"
        )


def main() -> None:
    """Measure, print and write the result."""
    root = Path(tempfile.mkdtemp(prefix="cupel-follow-"))
    try:
        results = measure(root)
    finally:
        shutil.rmtree(root)
    print(f"CPU time, load average {os.getloadavg()[0]:.1f}")
    show(results)
    record = {
        "benchmark": "follow",
        **results,
        "clock": "process CPU time, one thread",
        "rows_a_look": ROWS_A_LOOK,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "follow.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
