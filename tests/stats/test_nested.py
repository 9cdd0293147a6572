"""The generator gives what its cells state; the planner's claims hold in its own model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cupel.errors import ConfigError
from cupel.stats.campaign_power import campaign_power, paired_t_p_values, pooled_p_values
from cupel.stats.intervals import paired_t
from cupel.stats.nested import Cell, intercept, run_sd_on_logits, simulate
from cupel.stats.power import paired_t_power
from cupel.stats.proportions import fisher_exact


def test_mean_rates_are_those_of_the_cell() -> None:
    rng = np.random.default_rng(91)
    for prompts in (20, 200):
        cell = Cell(name="x", prompts=prompts, rate=0.2, lift=0.05, run_sd=0.3, missing=0.2)
        nested = simulate(cell, 3_000, rng)
        rates = nested.right_RAS.sum(axis=(0, 2)) / nested.total_RAS.sum(axis=(0, 2))
        assert rates == pytest.approx([0.2, 0.25], abs=0.006)
        assert nested.total_RAS.mean() == pytest.approx(prompts * 8 * 0.8, rel=0.01)


def test_binned_prompts_spread_runs_like_drawn_prompts() -> None:
    """Independent runs, no prompt noise between arms: the difference has binomial variance."""
    nested = simulate(Cell(name="x", prompts=200, run_sd=0.0), 3_000, np.random.default_rng(92))
    grid = np.random.default_rng(93).normal(intercept(0.3, 1.5), 1.5, 200_000)
    p = 1 / (1 + np.exp(-grid))
    expected = math.sqrt(2 * np.mean(p * (1 - p)) / 1600)
    assert nested.differences_RS.std() == pytest.approx(expected, rel=0.03)


def test_spread_of_runs_is_what_was_asked_for() -> None:
    spread = run_sd_on_logits(0.3, 0.03, 1.5)
    cell = Cell(name="x", seeds=2, prompts=400, group=2_000, run_sd=spread)
    nested = simulate(cell, 2_000, np.random.default_rng(94))
    rates = nested.right_RAS / nested.total_RAS
    within = math.sqrt(float(rates.var(axis=2, ddof=1).mean()))
    assert within == pytest.approx(0.03, rel=0.06)
    with pytest.raises(ConfigError, match="can spread by less than"):
        run_sd_on_logits(0.02, 0.2, 1.5)


@pytest.mark.parametrize("shape", ["t3", "bimodal", "collapse"])
def test_other_shapes_have_the_stated_spread_or_collapse(shape) -> None:
    cell = Cell(name="x", group=64, run_sd=0.5, prompt_sd=0.0, shape=shape)
    nested = simulate(cell, 2_000, np.random.default_rng(95))
    rates = nested.right_RAS / nested.total_RAS
    collapsed = np.mean(rates < 0.02)
    assert collapsed == pytest.approx(0.05 if shape == "collapse" else 0.0, abs=0.01)


def test_rows_of_p_values_equal_the_single_tests() -> None:
    nested = simulate(Cell(name="x"), 20, np.random.default_rng(96))
    t = [paired_t(row).p for row in nested.differences_RS]
    assert paired_t_p_values(nested.differences_RS) == pytest.approx(t)
    pooled = pooled_p_values(nested)
    for found, right in zip(pooled, nested.right_RAS.sum(axis=2).tolist(), strict=True):
        assert found == pytest.approx(fisher_exact((right[0], 1280), (right[1], 1280)).p, rel=1e-6)


def test_planned_power_is_found_and_pooled_power_comes_with_its_size() -> None:
    found = campaign_power(
        p0=0.3,
        lift=0.03,
        run_sd=0.016,
        seeds=8,
        prompts=25,
        group=16,
        steps=4,
        simulations=2_000,
        rng=np.random.default_rng(97),
    )
    planned = paired_t_power(0.03 / found.sd_differences, 8)
    assert found.power == pytest.approx(planned, abs=0.05)
    assert found.size <= 0.05 + 3.29 * math.sqrt(0.05 * 0.95 / 2_000)
    assert found.pooled_size > 0.12
    assert found.pooled_power > found.power
    assert found.completions_per_run == 1_600
    assert found.design_effect > 2


def test_without_run_noise_the_pooled_test_holds_its_size() -> None:
    found = campaign_power(
        p0=0.1,
        lift=0.02,
        run_sd=0.0,
        seeds=20,
        prompts=20,
        group=8,
        simulations=500,
        rng=np.random.default_rng(98),
    )
    assert found.test == "paired_t"
    assert found.pooled_size < 0.07


def test_impossible_campaigns_are_refused() -> None:
    common = {"run_sd": 0.01, "seeds": 8, "prompts": 4, "group": 4}
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match=r"p0 \+ lift"):
        campaign_power(p0=0.9, lift=0.2, rng=rng, **common)
    with pytest.raises(ConfigError, match="prompt_sd"):
        campaign_power(p0=0.3, lift=0.1, prompt_sd=-1.0, rng=rng, **common)
