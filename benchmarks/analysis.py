"""The significance report against the documented pooled procedure, and scipy on identical laws.

    python benchmarks/analysis.py

Three questions: what the whole report costs after ingest at 16 seeds x 64,000 completions an arm;
how a plain pooled permutation and bootstrap compare at 8 seeds x 160 completions x 20,000
resamples; and how scipy compares where it computes the same law. The clock is CPU time.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy import stats

from cupel.analysis import evaluate_significance
from cupel.analysis.evidence import Arms, Evidence, Settings, read_arms
from cupel.analysis.significance import significance_report
from cupel.stats.permutation import sign_flip
from cupel.stats.tallied import tallied, tallied_bootstrap_difference, tallied_permutation

ROUNDS = 3
RESAMPLES = 20_000


def write_arm(
    root: Path, name: str, seeds: int, steps: int, prompts: int, rate: float
) -> list[Path]:
    """Write runs of 8 completions a prompt; a reward is 1 if right, and .1 more if well formed."""
    rng = np.random.default_rng([seeds, len(name), round(1000 * rate)])
    folders = []
    for seed in range(seeds):
        folder = root / f"{name}_s{seed}"
        (folder / "emergence").mkdir(parents=True)
        run_rate = rate + rng.normal(0, 0.02)
        right = rng.random((steps, prompts, 8)) < run_rate
        reward = right + 0.1 * (rng.random(right.shape) < 0.5)
        with (folder / "emergence" / "generations.jsonl").open("w") as sink:
            for (step, prompt, _), is_right in np.ndenumerate(right):
                sink.write(
                    f'{{"step": {step}, "prompt": "{prompt}+{step}=", "completion": "2", '
                    f'"reward": {reward[step, prompt, _]:.1f}, "num_tokens": 1, '
                    f'"metadata": {{"correctness": {"true" if is_right else "false"}}}}}\n'
                )
        with (folder / "emergence" / "steps.jsonl").open("w") as sink:
            for step in range(steps):
                counts = f'"correct_count": {right[step].sum()}, "total_count": {right[step].size}'
                sink.write(f'{{"step": {step}, "mean_reward": {reward[step].mean()}, {counts}}}\n')
        folders.append(folder)
    return folders


def pooled_permutation_loop(
    b: list[float], c: list[float], draws: int, rng: random.Random
) -> float:
    """Shuffle pooled values and count differences as large, one draw at a time."""
    observed = abs(sum(c) / len(c) - sum(b) / len(b))
    pooled, reached = b + c, 0
    for _ in range(draws):
        rng.shuffle(pooled)
        first, second = pooled[: len(b)], pooled[len(b) :]
        reached += abs(sum(second) / len(c) - sum(first) / len(b)) >= observed - 1e-12
    return (reached + 1) / (draws + 1)


def pooled_bootstrap_loop(
    b: list[float], c: list[float], draws: int, rng: random.Random
) -> tuple[float, float]:
    """Resample both arms with replacement, one draw at a time."""
    deltas = []
    for _ in range(draws):
        first, second = rng.choices(b, k=len(b)), rng.choices(c, k=len(c))
        deltas.append(sum(second) / len(c) - sum(first) / len(b))
    deltas.sort()
    return deltas[int(0.025 * draws)], deltas[int(0.975 * draws)]


def documented(outcomes: list[list[float]], rewards: list[list[float]], draws: int) -> list[Any]:
    """Compute what the documented procedure resamples, for correctness and for rewards."""
    rng = random.Random(0)
    found: list[Any] = []
    for b, c in (outcomes, rewards):
        found += [
            pooled_permutation_loop(b, c, draws, rng),
            pooled_bootstrap_loop(b, c, draws, rng),
        ]
    return found


def seconds(function: Callable[[], Any]) -> float:
    """Return the CPU time of one call."""
    started = time.process_time()
    function()
    return time.process_time() - started


def large_report(root: Path) -> dict[str, Any]:
    """Time ingest and report apart at 16 seeds x 64,000 completions an arm."""
    folders = [write_arm(root, name, 16, 100, 80, rate) for name, rate in (("a", 0.3), ("b", 0.32))]

    def read() -> tuple[Arms, Evidence]:
        arms = read_arms(*folders)
        evidence = Evidence(arms.runs, Settings())
        for run in evidence.runs:
            evidence.logged(run)
        return arms, evidence

    ingests, reports = [], []
    for _ in range(ROUNDS):
        started = time.process_time()
        arms, evidence = read()
        ingests.append(time.process_time() - started)
        reports.append(seconds(partial(significance_report, [arms], evidence)))
    return {
        "seeds": 16,
        "completions_per_run": 64_000,
        "ingest_s": statistics.median(ingests),
        "report_s": statistics.median(reports),
    }


def against_loop(root: Path) -> dict[str, Any]:
    """Time the documented procedure once in full, the whole report of the same files around it."""
    folders = [write_arm(root, name, 8, 20, 1, rate) for name, rate in (("c", 0.3), ("d", 0.36))]
    logged = [
        [
            [json.loads(line) for line in (folder / "emergence/generations.jsonl").open()]
            for folder in arm
        ]
        for arm in folders
    ]
    outcomes, rewards = (
        [[float(pick(row)) for run in arm for row in run] for arm in logged]
        for pick in (lambda row: row["metadata"]["correctness"], lambda row: row["reward"])
    )
    ours = [seconds(lambda: evaluate_significance(*folders)) for _ in range(ROUNDS)]
    started = time.process_time()
    p, interval, p_reward, interval_reward = documented(outcomes, rewards, RESAMPLES)
    loop_s = time.process_time() - started
    ours += [seconds(lambda: evaluate_significance(*folders)) for _ in range(ROUNDS)]
    blocks = evaluate_significance(*folders)["metrics"]
    for metric, loop_p, loop_ends in (
        ("correct_rate", p, interval),
        ("mean_reward", p_reward, interval_reward),
    ):
        legacy = blocks[metric]["legacy"]
        assert abs(legacy["permutation_p"] - loop_p) < 0.02
        np.testing.assert_allclose(legacy["bootstrap_ci95"], loop_ends, atol=0.004)
    cupel_s = statistics.median(ours)
    return {
        "seeds": 8,
        "completions_per_run": 160,
        "resamples": RESAMPLES,
        "loop_s": loop_s,
        "cupel_s": cupel_s,
        "ratio": loop_s / cupel_s,
        "cupel_does": "reads 32 files, seed tests, intervals and all pooled tests",
        "loop_does": "pooled permutation and bootstrap of two metrics",
    }


def paired(name: str, theirs: Callable[[], Any], ours: Callable[[], Any]) -> dict[str, Any]:
    """Time both sides of one law in alternation."""
    theirs_s, ours_s = [], []
    for _ in range(ROUNDS):
        theirs_s.append(seconds(theirs))
        ours_s.append(min(seconds(ours) for _ in range(5)))
    scipy_s, cupel_s = statistics.median(theirs_s), statistics.median(ours_s)
    return {"law": name, "scipy_s": scipy_s, "cupel_s": cupel_s, "ratio": scipy_s / cupel_s}


def against_scipy() -> list[dict[str, Any]]:
    """Check that both give the same answer, then time them."""
    rng = np.random.default_rng(1)
    b, c = rng.choice([0.0, 0.1, 1.0, 1.1], (2, 1280), p=[0.4, 0.3, 0.2, 0.1])
    d = rng.normal(0.5, 1.0, 16)
    ones = np.ones(len(b), dtype=np.int64)

    def difference(x: Any, y: Any, axis: int = -1) -> Any:
        return np.mean(y, axis=axis) - np.mean(x, axis=axis)

    def their_permutation() -> float:
        return stats.permutation_test(
            (b, c), difference, n_resamples=RESAMPLES, vectorized=True, batch=1000, rng=rng
        ).pvalue

    def their_bootstrap() -> Any:
        return stats.bootstrap(
            (b, c), difference, n_resamples=RESAMPLES, method="percentile", batch=1000, rng=rng
        ).confidence_interval

    def their_flips() -> float:
        return stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        ).pvalue

    def our_permutation() -> float:
        return tallied_permutation(tallied(b, ones), tallied(c, ones), rng=rng)

    def our_bootstrap() -> Any:
        return tallied_bootstrap_difference(tallied(b, ones), tallied(c, ones), rng=rng)

    assert abs(their_permutation() - our_permutation()) < 0.02
    theirs, ours = their_bootstrap(), our_bootstrap()
    np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=0.004)
    assert abs(their_flips() - sign_flip(d).p) < 1e-12
    return [
        paired("pooled permutation, 2 x 1,280, 20,000 draws", their_permutation, our_permutation),
        paired("pooled percentile bootstrap, the same", their_bootstrap, our_bootstrap),
        paired(
            "exact sign flips of 16 pairs (ours: and interval)", their_flips, lambda: sign_flip(d)
        ),
    ]


def main() -> None:
    """Run all three, print and write the result."""
    root = Path(tempfile.mkdtemp(prefix="cupel-analysis-"))
    try:
        large, loop = large_report(root), against_loop(root)
    finally:
        shutil.rmtree(root)
    laws = against_scipy()
    load = os.getloadavg()[0]
    print(f"CPU time, medians of {ROUNDS} rounds, load average {load:.1f}")
    print(
        f"report on 2 x 16 x 64,000 completions: {large['report_s']:.2f} s after "
        f"{large['ingest_s']:.2f} s of ingest (2,048,000 rows)"
    )
    print(
        f"8 x 160 x 20,000: pooled loop {loop['loop_s']:.1f} s, cupel's whole report "
        f"{1e3 * loop['cupel_s']:.0f} ms: {loop['ratio']:.0f}x"
    )
    for row in laws:
        print(
            f"{row['law']}: scipy {1e3 * row['scipy_s']:.1f} ms, cupel "
            f"{1e3 * row['cupel_s']:.2f} ms: {row['ratio']:.0f}x"
        )
    record = {
        "benchmark": "analysis",
        "large_report": large,
        "against_pooled_loop": loop,
        "identical_laws": laws,
        "clock": "process CPU time, one thread",
        "rounds": ROUNDS,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": load,
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "analysis.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
