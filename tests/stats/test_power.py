"""Power: simulation against formula, refusals, monotonicity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import ConfigError
from cupel.stats.power import (
    mde_paired_t,
    paired_t_power,
    sd_upper_limit,
    seeds_needed,
    sign_flip_power,
    two_proportion_n,
    two_proportion_power,
)


def test_paired_t_power_equals_simulation() -> None:
    rng = np.random.default_rng(8)
    d = rng.normal(1.0, 1.0, size=(40_000, 6))
    t = d.mean(axis=1) / (d.std(axis=1, ddof=1) / np.sqrt(6))
    simulated = np.mean(np.abs(t) > 2.5705818)
    assert paired_t_power(1.0, 6) == pytest.approx(simulated, abs=0.01)
    assert paired_t_power(0.0, 6) == pytest.approx(0.05, abs=1e-3)


def test_sign_flip_power_is_near_t_and_zero_below_the_floor() -> None:
    rng = np.random.default_rng(9)
    assert sign_flip_power(1.16, 8, rng=rng) == pytest.approx(0.8, abs=0.06)
    assert sign_flip_power(5.0, 5, rng=rng) == 0.0


@given(st.integers(2, 200))
def test_mde_falls_with_seeds_and_hits_its_power(n: int) -> None:
    mde = mde_paired_t(n)
    assert mde > mde_paired_t(n + 1)
    assert paired_t_power(mde, n) == pytest.approx(0.8, abs=1e-6)


def test_seeds_needed_respects_the_floor_and_gives_up_honestly() -> None:
    assert seeds_needed(5.0) == 6
    assert seeds_needed(5.0, test="paired_t") == 3
    assert seeds_needed(0.0) is None


def test_two_proportion_power_meets_its_sample_size() -> None:
    n = two_proportion_n(0.3, 0.05, method="normal")
    assert two_proportion_power(0.3, 0.05, n) == pytest.approx(0.8, abs=0.001)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="lift is 0"):
        two_proportion_n(0.1, 0.0)
    with pytest.raises(ConfigError, match=r"p0 \+ lift"):
        two_proportion_n(0.95, 0.1)
    with pytest.raises(ConfigError, match="did you mean 'normal'"):
        two_proportion_n(0.1, 0.1, method="norml")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must exceed alpha"):
        mde_paired_t(8, power=0.04)


def test_upper_limit_of_sd_holds_four_times_in_five() -> None:
    sd = np.random.default_rng(3).normal(size=(20_000, 8)).std(axis=1, ddof=1)
    covered = np.mean([sd_upper_limit(float(s), 8) >= 1.0 for s in sd[:4000]])
    assert covered == pytest.approx(0.8, abs=0.02)
