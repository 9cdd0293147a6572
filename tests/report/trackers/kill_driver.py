"""Kills followers of a growing, sometimes rewritten file at chosen moments; counts what was killed.

    python kill_driver.py FOLDER RUNS KILLS SEED

A follower runs in a forked process under a line trace, and dies there with os._exit at the n-th
line that it executes of Cupel's tracker code: nothing is flushed, no `finally` runs. Between the
deaths the file grows to an arbitrary byte, so lines are torn; now and then the event file loses
what a machine might not have written yet. At the end of each run one follower goes to its end.
Everything is drawn from SEED.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from cupel.report.trackers import FollowOptions, follow
from cupel.report.trackers.event_files import records
from cupel.report.trackers.names import evaluation_names, names_of
from cupel.report.trackers.opening import opener
from tests.report.trackers.run_files import end_run, lines, make_run, row

STEPS = 30
KILLED = 77
LINES = 900
"""Lines that a follower executes with a few rows to send, roughly."""
PART = "cupel/report/trackers/"


def follow_until(folder: Path, fatal_line: int, place: Path) -> int:
    """Follow in a process of its own that dies at a line; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [fatal_line]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if PART not in code.co_filename or code.co_name.startswith("<"):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                place.write_text(f"{Path(code.co_filename).name}:{code.co_name}")
                os._exit(KILLED)
        return trace

    sys.settrace(trace)
    once(folder)
    os._exit(0)


def once(folder: Path) -> None:
    """Send what is there."""
    follow(folder, FollowOptions(tracker="tensorboard", follow=False), say=lambda text: None)


def lose_the_end(folder: Path, rng: random.Random) -> None:
    """Cut the event file anywhere behind its second record, as a lost machine might leave it."""
    for path in (folder / "tensorboard").glob("events.out.tfevents.*"):
        least = sum(16 + len(data) for data in list(records(path))[:2])
        size = path.stat().st_size
        if size > least:
            os.truncate(path, rng.randint(least, size))


def main(root: Path, runs: int, kills: int, seed: int) -> None:
    """Follow `runs` runs, each with `kills` deaths on its way."""
    opener("tensorboard"), names_of("rlvr.train"), evaluation_names("rlvr.train")  # imported once
    rng = random.Random(seed)
    place = root / "place"
    places: Counter[str] = Counter()
    killed = 0
    for number in range(runs):
        rows = [row(step) for step in range(STEPS)]
        data = lines(rows)
        folder = make_run(root / f"run{number:03d}", [])
        metrics, written = folder / "metrics.jsonl", 0
        for _ in range(kills):
            written = min(len(data), written + rng.randint(0, 2 * len(data) // kills))
            if rng.random() < 0.1:  # a resume: some rows are cut away and will be written again
                written = rng.randint(0, written)
            metrics.write_bytes(data[:written])
            ended = follow_until(folder, rng.randint(1, LINES), place)
            if ended == KILLED:
                killed += 1
                places[place.read_text()] += 1
            elif ended != 0:
                sys.exit(f"a follower failed with {ended}")
            if rng.random() < 0.2:
                lose_the_end(folder, rng)
        metrics.write_bytes(data)
        end_run(folder)
        once(folder)
    print(json.dumps({"killed": killed, "places": dict(places)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
