"""Does 5 % mean 5 %? Simulated nulls, and a method that must be caught."""

from __future__ import annotations

import numpy as np
import pytest

from cupel.stats.intervals import percentile_bootstrap
from cupel.stats.permutation import (
    attainable_size,
    pooled_permutation_counts,
    sign_flip,
    sign_flip_p_values,
)

REPLICATES = 2_000
Z = 3.29


def nested_differences(rng: np.random.Generator, *, seeds: int, run_sd: float) -> np.ndarray:
    """Draw seed differences of two equal arms: 8 completions in 20 prompts in runs."""
    shape = (REPLICATES, seeds, 20)
    prompt = rng.normal(0, 1.5, size=shape) - 1.5
    rates = [
        rng.binomial(
            8, 1 / (1 + np.exp(-prompt - rng.normal(0, run_sd, size=(*shape[:2], 1))))
        ).mean(axis=2)
        / 8
        for _ in range(2)
    ]
    return rates[1] - rates[0]


@pytest.mark.parametrize("seeds", [3, 6, 8, 10])
@pytest.mark.parametrize("run_sd", [0.0, 0.4])
def test_sign_flip_holds_its_size(seeds: int, run_sd: float) -> None:
    rng = np.random.default_rng([20, seeds, int(10 * run_sd)])
    p = sign_flip_p_values(nested_differences(rng, seeds=seeds, run_sd=run_sd))
    for alpha in (0.01, 0.05, 0.10):
        band = Z * np.sqrt(alpha * (1 - alpha) / REPLICATES)
        rejected = np.mean(p < alpha)
        assert rejected <= alpha + band
        assert rejected >= 0.5 * attainable_size(seeds, alpha) - band


def test_interval_covers_as_often_as_it_states() -> None:
    rng = np.random.default_rng(21)
    results = [sign_flip(row) for row in rng.standard_t(3, size=(REPLICATES, 8)) + 0.4]
    covered = np.mean([result.interval.contains(0.4) for result in results])
    assert covered == pytest.approx(results[0].interval.coverage, abs=Z * 0.0047)


def test_percentile_bootstrap_of_three_seeds_is_caught() -> None:
    rng = np.random.default_rng(22)
    d = rng.normal(size=(400, 3))
    missed = np.mean(
        [not percentile_bootstrap(row, rng=rng, resamples=2_000).contains(0.0) for row in d]
    )
    assert missed >= 0.15


def test_pooled_completions_of_noisy_runs_are_caught() -> None:
    """8 seeds, 1,600 completions a run, ordinary run noise, no difference between the arms."""
    rng = np.random.default_rng(23)
    prompt = rng.normal(0, 1.5, size=(300, 8, 100, 1)) - 1.0
    counts = [
        rng.binomial(
            16, 1 / (1 + np.exp(-prompt[..., 0] - rng.normal(0, 0.2, size=(300, 8, 1))))
        ).sum(axis=2)
        for _ in range(2)
    ]
    total = 8 * 1600
    pooled = [
        pooled_permutation_counts((int(b), total), (int(c), total))
        for b, c in zip(counts[0].sum(axis=1), counts[1].sum(axis=1), strict=True)
    ]
    by_seed = sign_flip_p_values((counts[1] - counts[0]) / 1600)
    assert np.mean(np.array(pooled) < 0.05) >= 0.30
    assert np.mean(by_seed < 0.05) <= 0.05 + Z * np.sqrt(0.05 * 0.95 / 300)
