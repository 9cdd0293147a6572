"""A million completions from their file to counts, against a loop over json.loads.

    python benchmarks/ingest.py

Both sides read the same file and must count the same. They run in alternation; the clock is CPU
time. The limit is the time to read the file's bytes and hash them, which every report does.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cupel.analysis.completions import GENERATIONS, read_completions
from cupel.analysis.count_cache import SETTLED_S
from cupel.lab.store import RunRecord

ROUNDS = 3
SIZES = (250_000, 1_000_000)
LAYOUTS = ("earlier system", "cupel")


def rows_of(layout: str, number: int) -> Iterator[str]:
    """Yield rows of 16 completions a prompt and 160 prompts a step."""
    rng = np.random.default_rng(0)
    right, ratio = (rng.random(number) < 0.3).tolist(), rng.random(number).round(6).tolist()
    for n in range(number):
        step, group = n // 2560, n // 16 % 160
        word = "true" if right[n] else "false"
        prompt = f"What is {group + 10} + {step + 10}?"
        if layout == "cupel":
            yield (
                f'{{"step":{step},"problem_id":"{step * 160 + group:012x}","group":{group},'
                f'"sample":{n % 16},"prompt":"{prompt}","completion":"wait, it is \\\\boxed{{19}}",'
                f'"reward":{float(right[n])},"correct":{word},"answer":"19","answer_found":"19",'
                f'"finish_reason":"stop","num_tokens":17,"planning_token_ratio":{ratio[n]},'
                f'"gram_entropy_delta":{ratio[n]},"metadata":{{"correctness":{word}}}}}\n'
            )
        else:
            yield (
                f'{{"step": {step}, "prompt": "{prompt}", "completion": "that is 19", '
                f'"reward": {float(right[n])}, "num_tokens": 17, '
                f'"metadata": {{"correctness": {word}}}}}\n'
            )


def loop(path: Path) -> tuple[int, int, int]:
    """Count what Cupel counts with the standard library, a line at a time."""
    right, total, grams = 0, 0, 0.0
    cells = Counter[tuple[int, str, bool | None, float]]()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            correct = row["correct"] if "correct" in row else row["metadata"]["correctness"]
            right += correct is True
            total += 1
            grams += row.get("gram_entropy_delta") or 0.0
            problem = row.get("problem_id") or row["prompt"]
            cells[row["step"], problem, correct, row["reward"]] += 1
    return right, total, len(cells)


def cupel(run_folder: Path) -> tuple[int, int, int]:
    """Count with Cupel."""
    run = RunRecord(folder=run_folder, condition=None, seed=None, status="unknown")
    completions = read_completions(run)
    assert completions is not None
    return *completions.counts, len(completions.count_C)


def seconds(function: Callable[[], Any]) -> float:
    """Return the CPU time of one call."""
    started = time.process_time()
    function()
    return time.process_time() - started


def measure(layout: str, number: int, root: Path) -> dict[str, Any]:
    """Check that both sides agree, then time them in alternation; the kept counts come last."""
    study = root / f"{layout.replace(' ', '_')}_{number}"
    run = study / "runs" / "a_s1"
    path = run / GENERATIONS
    path.parent.mkdir(parents=True)
    with path.open("w") as sink:
        sink.writelines(rows_of(layout, number))
    assert cupel(run) == loop(path)
    loops, ours, limits = [], [], []
    for _ in range(ROUNDS):
        loops.append(seconds(lambda: loop(path)))
        ours.append(seconds(lambda: cupel(run)))
        limits.append(seconds(lambda: hashlib.sha256(path.read_bytes()).hexdigest()))
    (study / "study.toml").touch()
    (study / "manifest.json").touch()
    time.sleep(SETTLED_S + 0.1)
    counted = cupel(run)
    kept = [seconds(lambda: cupel(run)) for _ in range(ROUNDS)]
    assert cupel(run) == counted
    loop_s, cupel_s, limit_s, kept_s = map(statistics.median, (loops, ours, limits, kept))
    return {
        "layout": layout,
        "rows": number,
        "bytes": path.stat().st_size,
        "loop_s": loop_s,
        "cupel_s": cupel_s,
        "ratio": loop_s / cupel_s,
        "second_read_s": kept_s,
        "limit_s": limit_s,
        "times_the_limit": cupel_s / limit_s,
    }


def main() -> None:
    """Measure both layouts at both sizes, print and write the result."""
    root = Path(tempfile.mkdtemp(prefix="cupel-ingest-"))
    try:
        results = [measure(layout, number, root) for layout in LAYOUTS for number in SIZES]
    finally:
        shutil.rmtree(root)
    load = os.getloadavg()[0]
    print(f"CPU time, medians of {ROUNDS} rounds, load average {load:.1f}")
    for row in results:
        print(
            f"{row['layout']:>14}, {row['rows']:>9,} rows, {row['bytes'] / 1e6:3.0f} MB: "
            f"json loop {row['loop_s']:.2f} s, cupel {row['cupel_s']:.2f} s: {row['ratio']:.1f}x, "
            f"{row['times_the_limit']:.1f} times read and hash; second read "
            f"{1e3 * row['second_read_s']:.0f} ms"
        )
    record = {
        "benchmark": "ingest",
        "results": results,
        "clock": "process CPU time, one thread",
        "rounds": ROUNDS,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "msgspec": msgspec.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": load,
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "ingest.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
