"""Constants of sequential designs and exact sample sizes, computed and compared with print."""

from __future__ import annotations

import pytest

from cupel.stats.exact_power import exact_power
from cupel.stats.power import two_proportion_n
from cupel.stats.proportions import fisher_exact, mcnemar
from cupel.stats.sequential import plan_looks

LIFTS = (0.0100, 0.0126, 0.0150, 0.0200)
P0 = 3 / 160


def test_two_equal_looks() -> None:
    pocock = plan_looks([8, 16])
    assert [round(a, 4) for a in pocock.alpha_at] == [0.0294, 0.0294]
    assert pocock.critical[0] == pytest.approx(2.1783, abs=5e-5)
    obf = plan_looks([8, 16], spending="obrien_fleming")
    assert [round(a, 4) for a in obf.alpha_at] == [0.0052, 0.0480]
    assert obf.critical == pytest.approx((2.7965, 1.9774), abs=5e-5)


@pytest.mark.parametrize(
    ("looks", "pocock", "obrien_fleming"),
    [
        (2, 2.178, 1.977),
        (3, 2.289, 2.004),
        (4, 2.361, 2.024),
        (5, 2.413, 2.040),
        (10, 2.555, 2.087),
    ],
)
def test_published_boundary_constants(looks: int, pocock: float, obrien_fleming: float) -> None:
    """Jennison & Turnbull 1999, tables 2.1 and 2.3, two-sided alpha .05."""
    sizes = list(range(1, looks + 1))
    assert plan_looks(sizes).critical[-1] == pytest.approx(pocock, abs=1e-3)
    final = plan_looks(sizes, spending="obrien_fleming").critical[-1]
    assert final == pytest.approx(obrien_fleming, abs=1e-3)


@pytest.mark.parametrize(
    ("method", "table"),
    [("fisher", [3802, 2537, 1881, 1157]), ("mid_p", [3619, 2388, 1766, 1074])],
)
def test_episodes_per_arm_for_exact_tests(method, table: list[int]) -> None:
    assert [two_proportion_n(P0, lift, method=method) for lift in LIFTS] == table


def test_exact_power_at_the_normal_sample_sizes() -> None:
    sizes = (3639, 2414, 1782, 1095)
    for test, powers in (
        ("fisher", [0.782, 0.780, 0.776, 0.775]),
        ("mid_p", [0.802, 0.804, 0.804, 0.808]),
    ):
        found = [exact_power(P0, lift, n, test=test) for lift, n in zip(LIFTS, sizes, strict=True)]
        assert found == pytest.approx(powers, abs=6e-4)


def test_tiny_p_values() -> None:
    assert fisher_exact((282, 1280), (537, 1280)).p == pytest.approx(2.5114e-27, rel=1e-4)


def test_mid_p_by_hand() -> None:
    """Fisher's tea: 3 of 4 cups right is p = 34/70, mid-p = 18/70."""
    tea = fisher_exact((1, 4), (3, 4))
    assert (tea.p, tea.mid_p) == (pytest.approx(34 / 70), pytest.approx(18 / 70))
    assert mcnemar(2, 8).p == pytest.approx(2 * 56 / 1024)
    assert mcnemar(2, 8).mid_p == pytest.approx((2 * 56 - 45) / 1024)


def test_the_numbers_of_the_errata_page() -> None:
    assert two_proportion_n(0.01875, 0.0130, method="normal") == 2285
    assert two_proportion_n(0.34, 0.002, method="normal") == 881_896
