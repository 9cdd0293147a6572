"""Curves and bands: gaps stay gaps, bands are what they are called, thinning is a mean."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cupel.report.geometry import (
    band_path,
    finite_pieces,
    line_path,
    nice_axis,
    spread,
)
from cupel.report.view import Curve, average, block_size, thin, unit_of

NAN = float("nan")


def curve(values: list[float], *, seed: int = 1, start: int = 0) -> Curve:
    steps = np.arange(start, start + len(values), dtype=np.float64)
    return Curve(condition="a", seed=seed, failed=False, steps_T=steps, values_T=np.array(values))


def test_band_of_three_seeds_is_the_t_interval_of_the_mean() -> None:
    columns = [[0.1, 0.5], [0.2, 0.7], [0.4, 0.2]]
    band = average("a", [curve(values, seed=s) for s, values in enumerate(columns)])
    assert band is not None
    assert band.kind == "t95"
    for step in range(2):
        values = [column[step] for column in columns]
        low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert (band.low_T[step], band.high_T[step]) == pytest.approx((low, high), abs=1e-12)


def test_two_seeds_give_a_range_and_one_seed_none() -> None:
    pair = average("a", [curve([0.1, 0.5]), curve([0.3, 0.2], seed=2)])
    assert pair is not None
    assert pair.kind == "range"
    assert pair.low_T.tolist() == [0.1, 0.2]
    assert pair.high_T.tolist() == [0.3, 0.5]
    lone = average("a", [curve([0.1])])
    assert lone is not None
    assert lone.kind == "none"
    assert np.isnan(lone.low_T).all()


def test_mean_uses_the_seeds_that_are_there_and_counts_them() -> None:
    band = average("a", [curve([0.2, NAN, 0.6]), curve([0.4, 0.4], seed=2)])
    assert band is not None
    assert band.mean_T == pytest.approx([0.3, 0.4, 0.6])
    assert band.count_T.tolist() == [2, 1, 1]
    assert band.thinned_out_T.tolist() == [False, False, True]
    assert np.isnan(band.low_T[1:]).all()


def test_thinning_averages_what_exists_and_keeps_empty_blocks_as_gaps() -> None:
    thinned = thin(curve([1.0, 3.0, NAN, NAN, 5.0]), block=2)
    assert thinned.steps_T.tolist() == [0.0, 2.0, 4.0]
    np.testing.assert_array_equal(thinned.values_T, [2.0, NAN, 5.0])


@given(st.integers(1, 3000))
def test_block_size_bounds_the_points(length: int) -> None:
    size = block_size([curve([0.0] * length)], max_points=250)
    assert -(-length // size) <= 250
    assert size == 1 or -(-length // (size - 1)) > 250


def test_path_breaks_at_gaps_and_dots_lone_points() -> None:
    x, y = nice_axis(0, 4, widen=False), nice_axis(0, 1)
    values = np.array([0.0, 1.0, NAN, 0.5, NAN])
    path = line_path(x, y, np.arange(5.0), values)
    assert path == "M0.0,400.0 250.0,0.0M750.0,200.0h0"
    assert band_path(x, y, np.arange(5.0), values, values).count("M") == 1


@given(st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=40))
def test_pieces_cover_exactly_the_finite_values(values: list[float | None]) -> None:
    array = np.array([NAN if value is None else value for value in values])
    covered = [i for start, stop in finite_pieces(array) for i in range(start, stop)]
    assert covered == np.flatnonzero(np.isfinite(array)).tolist()


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_axis_holds_its_ends_and_has_some_ticks(low: float, width: float) -> None:
    axis = nice_axis(low, low + width)
    slack = 1e-6 * (abs(low) + width)
    assert axis.low <= low + slack
    assert axis.high >= low + width - slack
    assert 2 <= len(axis.ticks) <= 12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_spread_keeps_order_and_distance(places: list[float]) -> None:
    moved = spread(places, gap=0.1)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)
    assert all(b - a >= 0.1 - 1e-9 for a, b in itertools.pairwise(sorted(moved)))
    pairs = sorted(zip(places, moved, strict=True))
    assert all(a == b or x < y for (a, x), (b, y) in itertools.pairwise(pairs))


def test_units_follow_the_names() -> None:
    assert unit_of("max_token_hit_rate") == "rate"
    assert unit_of("eval/accuracy") == "rate"
    assert unit_of("step_time_s") == "s"
    assert unit_of("loss") == ""
