"""Newcombe's paired interval: published values, symmetry, and what pairing brings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import ConfigError
from cupel.stats.intervals import newcombe
from cupel.stats.paired_proportions import newcombe_paired

cells = st.integers(0, 40)
tables = st.tuples(cells, cells, cells, cells).filter(lambda table: sum(table) > 0)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        ((36, 2, 12, 0), 0.0569, 0.3404),
        ((0, 0, 1, 29), None, None),
        ((54, 0, 0, 0), -0.0664, 0.0664),
    ],
)
def test_published_and_boundary_values(
    table: tuple[int, int, int, int], low: float | None, high: float | None
) -> None:
    interval = newcombe_paired(*table)
    if low is None:
        assert -1 <= interval.low < interval.high <= 1
    else:
        assert interval.low == pytest.approx(low, abs=5e-4)
        assert interval.high == pytest.approx(high, abs=5e-4)


@given(table=tables)
def test_swapping_the_sides_turns_the_interval_around(table: tuple[int, int, int, int]) -> None:
    a, b, c, d = table
    one, other = newcombe_paired(a, b, c, d), newcombe_paired(a, c, b, d)
    assert one.low == pytest.approx(-other.high)
    assert -1 - 1e-9 <= one.low <= (c - b) / (a + b + c + d) <= one.high <= 1 + 1e-9


def test_agreeing_pairs_narrow_the_interval_and_no_correlation_leaves_it() -> None:
    paired = newcombe_paired(45, 5, 5, 45)
    unpaired = newcombe((50, 100), (50, 100))
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)
    free = newcombe_paired(25, 25, 25, 25)
    assert (free.low, free.high) == pytest.approx((unpaired.low, unpaired.high))


def test_coverage_of_correlated_pairs() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(1500):
        shared = rng.random(30)
        base, cand = shared < 0.4, np.where(rng.random(30) < 0.7, shared, rng.random(30)) < 0.55
        interval = newcombe_paired(
            int((base & cand).sum()), int((base & ~cand).sum()),
            int((~base & cand).sum()), int((~base & ~cand).sum()),
        )  # fmt: skip
        hits += interval.contains(0.15)
    assert 0.93 <= hits / 1500 <= 0.985


@pytest.mark.parametrize("table", [(0, 0, 0, 0), (-1, 1, 1, 1)])
def test_impossible_tables_are_refused(table: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError):
        newcombe_paired(*table)
