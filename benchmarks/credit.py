"""Credit over a million tokens: Cupel's blocks against a per-token Python loop, and the limit.

    python benchmarks/credit.py

Both sides compute GTPO + SEPA + HICRA on the same batch and must agree. They run in alternation.
The limit is the time to read the inputs and write the result once at the measured bandwidth of
arrays that fit no cache.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.rlvr.credit import token_advantages

ROUNDS = 5
SIZES = (250_000, 1_000_000)
WIDTH = 1024
BETA, ALPHA, LAMBDA = 0.1, 0.2, 0.5
Batch = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def draw_batch(tokens: int, rng: np.random.Generator) -> Batch:
    """Return advantages [N], uncertainty, mask and planning mask [N, T] with ~`tokens` tokens."""
    rows = round(tokens / (0.75 * WIDTH))
    mask_NT = np.arange(WIDTH) < rng.integers(WIDTH // 2, WIDTH + 1, rows)[:, None]
    planning_NT = (rng.random(mask_NT.shape) < 0.1) & mask_NT
    uncertainty_NT = np.where(mask_NT, rng.gamma(0.8, 0.6, mask_NT.shape), 0.0)
    return rng.normal(size=rows), uncertainty_NT, mask_NT, planning_NT


def loop(batch: Batch) -> list[list[float]]:
    """Shape credit token by token, on Python lists, as the formulas read."""
    advantages, uncertainty, mask, planning = (part.tolist() for part in batch)
    shaped = []
    for advantage, h_T, mask_T, plan_T in zip(advantages, uncertainty, mask, planning, strict=True):
        length = sum(mask_T)
        h, plan = h_T[:length], plan_T[:length]
        execution = [value for value, is_plan in zip(h, plan, strict=True) if not is_plan]
        mean = sum(execution) / len(execution)
        pooled = [
            value if is_plan else LAMBDA * mean + (1 - LAMBDA) * value
            for value, is_plan in zip(h, plan, strict=True)
        ]
        average = sum(pooled) / length
        row = []
        for value, is_plan in zip(pooled, plan, strict=True):
            credit = advantage * max(0.0, 1 + BETA * (value / average - 1))
            row.append(credit + ALPHA * abs(credit) if is_plan else credit)
        shaped.append(row)
    return shaped


def blocks(batch: Batch) -> NDArray[np.float64]:
    """Shape credit with Cupel."""
    return token_advantages(
        "gtpo_sepa",
        *batch,
        beta=BETA,
        alpha=ALPHA,
        sepa_lambda=LAMBDA,
        hicra_after_sepa=True,
    )


def seconds(function: Callable[[], object]) -> float:
    """Return the CPU time of one call: one thread, and other load on the machine stays out."""
    started = time.process_time()
    function()
    return time.process_time() - started


def copy_bandwidth() -> float:
    """Return bytes per second of a copy that fits no cache, reads and writes counted."""
    source = np.ones(64 * 1024 * 1024)
    target = np.empty_like(source)
    np.copyto(target, source)
    return 2 * source.nbytes / min(seconds(lambda: np.copyto(target, source)) for _ in range(5))


def compare(tokens: int, bandwidth: float) -> dict[str, float]:
    """Check that both sides agree, then time them in alternation."""
    batch = draw_batch(tokens, np.random.default_rng(0))
    counted = int(batch[2].sum())
    expected, found = loop(batch), blocks(batch)
    for row, lengths in zip(range(len(found)), batch[2].sum(axis=1), strict=True):
        np.testing.assert_allclose(found[row, :lengths], expected[row], rtol=1e-9)
    loops, ours = [], []
    for _ in range(ROUNDS):
        loops.append(seconds(lambda: loop(batch)))
        ours.append(min(seconds(lambda: blocks(batch)) for _ in range(5)))
    moved = sum(part.nbytes for part in batch) + found.nbytes
    loop_s, ours_s = statistics.median(loops), statistics.median(ours)
    return {
        "tokens": counted,
        "padded_tokens": int(batch[2].size),
        "loop_s": loop_s,
        "cupel_s": ours_s,
        "ratio": loop_s / ours_s,
        "cupel_tokens_per_s": counted / ours_s,
        "limit_s": moved / bandwidth,
        "times_the_limit": ours_s * bandwidth / moved,
    }


def main() -> None:
    """Run both sizes, print and write the result."""
    bandwidth = copy_bandwidth()
    results = [compare(tokens, bandwidth) for tokens in SIZES]
    print(f"copy bandwidth {bandwidth / 1e9:.1f} GB/s; CPU time, medians of {ROUNDS} rounds")
    for row in results:
        print(
            f"{row['tokens']:>9,} tokens: loop {row['loop_s']:.3f} s, cupel "
            f"{1e3 * row['cupel_s']:.2f} ms: {row['ratio']:.0f}x, "
            f"{row['cupel_tokens_per_s'] / 1e6:.0f} M tokens/s, "
            f"{row['times_the_limit']:.1f} times the limit of {1e3 * row['limit_s']:.2f} ms"
        )
    record = {
        "benchmark": "credit",
        "results": results,
        "copy_bandwidth_bytes_per_s": bandwidth,
        "clock": "process CPU time, one thread",
        "rounds": ROUNDS,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "credit.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
