"""What the planner claims is found in its own model."""

from __future__ import annotations

import numpy as np
import pytest

from cupel.stats.campaign_power import campaign_power
from cupel.stats.exact_power import exact_power
from cupel.stats.permutation import sign_flip_p_values
from cupel.stats.power import paired_t_power, seed_power, seeds_for_power, two_proportion_n

REPLICATIONS = 4_000


@pytest.mark.parametrize("effect", [0.75, 1.0, 1.25, 1.5])
def test_the_seeds_asked_for_give_the_power_promised(effect: float) -> None:
    seeds = seeds_for_power(effect)
    assert seeds is not None
    d = np.random.default_rng([81, seeds]).normal(effect, 1.0, size=(REPLICATIONS, seeds))
    found = float(np.mean(sign_flip_p_values(d) < 0.05))
    promised = seed_power(effect, seeds)
    assert promised >= 0.79
    assert found == pytest.approx(promised, abs=0.03)
    assert seeds == 6 or seed_power(effect, seeds - 1) < 0.80


def test_six_seeds_promise_what_six_equal_signs_can_keep() -> None:
    """With six pairs p < .05 only when all signs agree: the t formula promises far too much."""
    all_agree = 0.9331927987**6 + 0.0668072013**6
    assert seed_power(1.5, 6) == pytest.approx(all_agree, abs=0.01)
    assert paired_t_power(1.5, 6) > all_agree + 0.15
    assert seeds_for_power(1.5) == 7
    assert seed_power(5.0, 5) == 0.0


@pytest.mark.parametrize("shape", ["normal", "collapse"])
def test_sign_flips_lose_little_to_t_and_gain_under_collapses(shape: str) -> None:
    rng = np.random.default_rng(82)
    d = rng.normal(1.0, 1.0, size=(REPLICATIONS, 10))
    if shape == "collapse":
        d -= 8.0 * (rng.random(d.shape) < 0.05)
        d += 8.0 * (rng.random(d.shape) < 0.05)
    sd = d.std(axis=1, ddof=1)
    t = np.abs(d.mean(axis=1)) * np.sqrt(10) / sd
    by_t = float(np.mean(t > 2.2621571627))
    by_flips = float(np.mean(sign_flip_p_values(d) < 0.05))
    assert by_flips >= by_t - (0.05 if shape == "normal" else 0.0)


def test_exact_sizes_promise_what_fisher_finds() -> None:
    n = two_proportion_n(0.1, 0.05, method="fisher")
    assert exact_power(0.1, 0.05, n) == pytest.approx(0.80, abs=0.002)
    assert exact_power(0.1, 0.05, two_proportion_n(0.1, 0.05, method="normal")) < 0.80


def test_more_completions_cannot_buy_what_more_seeds_buy() -> None:
    """Run noise sets a floor that no number of completions goes under."""

    def power(seeds: int, group: int) -> float:
        return campaign_power(
            p0=0.3,
            lift=0.03,
            run_sd=0.03,
            seeds=seeds,
            prompts=50,
            group=group,
            simulations=1_000,
            rng=np.random.default_rng(83),
        ).power

    few, many_completions, many_seeds = power(8, 8), power(8, 64), power(16, 8)
    assert many_seeds > many_completions + 0.1
    assert many_completions < 0.6
    assert few < many_seeds
