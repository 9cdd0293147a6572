"""Two-by-two tables against scipy and statsmodels; ties decided by a stated tolerance."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as library_mcnemar

from cupel.stats.exact_power import exact_power
from cupel.stats.proportions import fisher_exact, mcnemar


def test_fisher_equals_scipy_on_a_thousand_tables() -> None:
    rng = np.random.default_rng(81)
    for _ in range(1_000):
        n_b, n_c = (int(n) for n in rng.integers(1, 40, size=2))
        k_b, k_c = int(rng.integers(0, n_b + 1)), int(rng.integers(0, n_c + 1))
        oracle = stats.fisher_exact([[k_c, n_c - k_c], [k_b, n_b - k_b]]).pvalue
        assert fisher_exact((k_b, n_b), (k_c, n_c)).p == pytest.approx(oracle, abs=1e-12)


def rational_p(baseline: tuple[int, int], candidate: tuple[int, int]) -> tuple[float, float]:
    """Two-sided p and mid-p in whole numbers: no rounding decides about a tie."""
    (k_b, n_b), (k_c, n_c) = baseline, candidate
    total = k_b + k_c
    weights = {
        x: comb(n_c, x) * comb(n_b, total - x)
        for x in range(max(0, total - n_b), min(n_c, total) + 1)
    }
    observed, all_of = weights[k_c], sum(weights.values())
    p = Fraction(sum(w for w in weights.values() if w <= observed), all_of)
    tied = Fraction(sum(w for w in weights.values() if w == observed), all_of)
    return float(p), float(p - tied / 2)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_fisher_and_mid_p_equal_whole_number_arithmetic(n_b, n_c, data) -> None:
    baseline = (data.draw(st.integers(0, n_b)), n_b)
    candidate = (data.draw(st.integers(0, n_c)), n_c)
    found = fisher_exact(baseline, candidate)
    p, mid_p = rational_p(baseline, candidate)
    assert found.p == pytest.approx(p, rel=1e-10)
    assert found.mid_p == pytest.approx(mid_p, rel=1e-9, abs=1e-15)
    swapped = fisher_exact(candidate, baseline)
    assert swapped.p == pytest.approx(found.p, rel=1e-10)


@pytest.mark.parametrize(
    "table", [((282, 1280), (537, 1280)), ((12, 2560), (17, 2560)), ((0, 600), (600, 600))]
)
def test_extreme_tables_equal_whole_number_arithmetic(table) -> None:
    assert fisher_exact(*table).p == pytest.approx(rational_p(*table)[0], rel=1e-9)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_equals_a_library_and_its_mid_p_is_smaller(b, c) -> None:
    found = mcnemar(b, c)
    if b + c:
        oracle = library_mcnemar([[5, b], [c, 5]], exact=True).pvalue
        assert found.p == pytest.approx(min(1.0, oracle), abs=1e-12)
    assert found.mid_p <= found.p
    assert mcnemar(c, b).mid_p == found.mid_p


@pytest.mark.parametrize("test", ["fisher", "mid_p"])
@pytest.mark.parametrize("lift", [0.0, 0.35])
def test_exact_power_equals_enumeration_of_every_table(test, lift) -> None:
    n, p0 = 18, 0.25
    total = 0.0
    for x in range(n + 1):
        for y in range(n + 1):
            found = fisher_exact((x, n), (y, n))
            if (found.p if test == "fisher" else found.mid_p) < 0.05:
                total += stats.binom.pmf(x, n, p0) * stats.binom.pmf(y, n, p0 + lift)
    assert exact_power(p0, lift, n, test=test) == pytest.approx(total, abs=1e-12)


def test_fisher_never_exceeds_its_size_and_mid_p_stays_near() -> None:
    for p0 in (0.02, 0.1, 0.3, 0.5):
        assert exact_power(p0, 0.0, 80, test="fisher") < 0.05
        assert exact_power(p0, 0.0, 80, test="mid_p") < 0.06
