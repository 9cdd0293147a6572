"""The report of a large study: how long it takes, how large it is, how soon a new step is served.

    python benchmarks/report.py

Forty runs of 500 steps (five conditions, eight seeds) with every number that `rlvr.train` declares
in every row. The page must stay below 3 MB and 5 seconds; the live page must tell a new step within
2 seconds. Compared with the time to parse the rows alone.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson
import tomli_w

from cupel.report import write_report
from cupel.report.live.page import LivePage
from cupel.rlvr.metrics import METRICS

CONDITIONS = ("grpo+none", "maxrl+none", "maxrl+gtpo", "maxrl+gtpo_hicra", "maxrl+gtpo_sepa")
SEEDS = (42, 101, 202, 303, 404, 505, 606, 707)
STEPS = 500
ROUNDS = 3
RUNNING = f"{CONDITIONS[-1]}_s{SEEDS[-1]}"
NUMBERS = [metric for metric in METRICS if metric.unit != "text"]


def write_study(folder: Path) -> None:
    """Write a study whose last run is still running."""
    cells = [(condition, seed) for seed in SEEDS for condition in CONDITIONS]
    conditions = [{"label": label} for label in CONDITIONS]
    study = {"name": "large", "recipe": "rlvr.train", "seeds": SEEDS, "conditions": conditions}
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(tomli_w.dumps(study))
    runs = [{"condition": c, "seed": s, "folder": f"runs/{c}_s{s}"} for c, s in cells]
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "runs": runs}))
    for condition, seed in cells:
        run = folder / "runs" / f"{condition}_s{seed}"
        run.mkdir(parents=True)
        status = "running" if run.name == RUNNING else "done"
        state = {"condition": condition, "seed": seed, "status": status, "attempts": 1}
        (run / "run.json").write_text(json.dumps(state))
        if status == "done":
            (run / "result.json").write_text('{"values": {}}')
        rng = np.random.default_rng(seed)
        with (run / "metrics.jsonl").open("wb") as handle:
            for step in range(STEPS):
                handle.write(row(condition, seed, step, rng))


def row(condition: str, seed: int, step: int, rng: np.random.Generator) -> bytes:
    """Return one row with every declared number."""
    values = dict(
        zip((each.name for each in NUMBERS), rng.random(len(NUMBERS)).tolist(), strict=True)
    )
    labels = {"step": step, "condition": condition, "seed": seed}
    return orjson.dumps(values | labels) + b"\n"


def parse_alone(folder: Path) -> float:
    """Return the CPU seconds that parsing every row takes."""
    start = time.process_time()
    for path in folder.rglob("metrics.jsonl"):
        for line in path.read_bytes().splitlines():
            orjson.loads(line)
    return time.process_time() - start


def page(folder: Path) -> float:
    """Return the CPU seconds that writing the page takes."""
    start = time.process_time()
    write_report(folder)
    return time.process_time() - start


def new_step(folder: Path, live: LivePage, step: int) -> float:
    """Append a step and return the seconds until the live page tells it."""
    before = orjson.loads(live.changes({}, {"correct_rate": ""}))
    digests = {name: piece["digest"] for name, piece in before["pieces"].items()}
    drawn = {"correct_rate": before["figures"]["correct_rate"]["digest"]}
    time.sleep(0.3)
    start = time.monotonic()
    with (folder / "runs" / RUNNING / "metrics.jsonl").open("ab") as handle:
        handle.write(row(CONDITIONS[-1], SEEDS[-1], step, np.random.default_rng(step)))
    news = orjson.loads(live.changes(digests, drawn))
    assert news["figures"], "the new step was not told"
    return time.monotonic() - start


def main() -> None:
    """Measure, print and write the result."""
    root = Path(tempfile.mkdtemp(prefix="cupel-report-"))
    folder = root / "large"
    try:
        write_study(folder)
        parse_s = statistics.median(parse_alone(folder) for _ in range(ROUNDS))
        page_s = statistics.median(page(folder) for _ in range(ROUNDS))
        size = (folder / "report.html").stat().st_size
        live = LivePage(folder)
        told_s = [new_step(folder, live, STEPS + n) for n in range(5)]
    finally:
        shutil.rmtree(root)
    load = os.getloadavg()[0]
    rows = len(CONDITIONS) * len(SEEDS) * STEPS
    print(f"CPU time, medians of {ROUNDS} rounds, load average {load:.1f}")
    print(f"{rows:,} rows of {len(NUMBERS)} numbers: page {page_s:.2f} s (limit 5)")
    print(f"  {page_s / parse_s:.1f} times the time to parse the rows alone, {parse_s:.2f} s")
    print(f"  {size / 1e6:.2f} MB (limit 3)")
    print(f"live page: a step is told after {max(told_s):.2f} s at most (limit 2), by the clock")
    record = {
        "benchmark": "report",
        "rows": rows,
        "numbers_a_row": len(NUMBERS),
        "page_s": page_s,
        "parse_alone_s": parse_s,
        "bytes": size,
        "live_step_s": told_s,
        "clock": "process CPU time; live steps by the clock",
        "rounds": ROUNDS,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": load,
    }
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "report.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
