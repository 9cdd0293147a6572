"""Numbers printed in the documents this laboratory answers to, reproduced to the last digit."""

from __future__ import annotations

import pytest

from cupel.stats.effects import cohens_d_of_counts
from cupel.stats.permutation import pooled_permutation_counts
from cupel.stats.power import mde_paired_t, seeds_needed, two_proportion_n, two_proportion_power
from cupel.stats.proportions import fisher_exact

LIFTS = (0.0100, 0.0126, 0.0150, 0.0200)
P0 = 3 / 160


@pytest.mark.parametrize(
    ("method", "table"),
    [
        ("seed_compat", [3639, 2414, 1782, 1095]),
        ("normal", [3639, 2414, 1783, 1095]),
        ("arcsine", [3600, 2377, 1747, 1063]),
        ("fleiss", [3836, 2570, 1914, 1193]),
    ],
)
def test_episodes_per_arm(method, table: list[int]) -> None:
    assert [two_proportion_n(P0, lift, method=method) for lift in LIFTS] == table


def test_multiples_of_the_160_episode_smoke_run() -> None:
    multiples = [round(two_proportion_n(P0, lift) / 160, 1) for lift in LIFTS]
    assert multiples == [22.7, 15.1, 11.1, 6.8]


def test_worked_example_of_two_conditions() -> None:
    baseline, candidate = (298, 1024), (342, 1024)
    result = fisher_exact(baseline, candidate)
    assert result.p == pytest.approx(0.040327, abs=5e-7)
    assert result.odds_ratio == pytest.approx(1.2217, abs=5e-5)
    assert pooled_permutation_counts(baseline, candidate) == pytest.approx(result.p, abs=1e-12)
    assert cohens_d_of_counts(baseline, candidate) == pytest.approx(0.0928, abs=1e-4)
    assert two_proportion_power(298 / 1024, 44 / 1024, 1024) == pytest.approx(0.555, abs=5e-4)


def test_sixteen_seed_campaign() -> None:
    assert fisher_exact((12, 2560), (17, 2560)).p == pytest.approx(0.4570, abs=5e-5)
    n = two_proportion_n(12 / 2560, 5 / 2560, method="normal")
    assert n == 23_175
    assert n / 2560 == pytest.approx(9.05, abs=0.005)


def test_equal_counts_of_the_smoke_run() -> None:
    assert fisher_exact((3, 160), (3, 160)).p == 1.0


def test_extreme_tables_keep_their_tiny_p_values() -> None:
    assert fisher_exact((282, 1280), (537, 1280)).p == pytest.approx(2.51e-27, rel=0.01)
    assert fisher_exact((0, 40), (40, 40)).p == pytest.approx(1.9e-23, rel=0.05)


SEEDS = (3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)


@pytest.mark.parametrize(
    ("alpha", "table"),
    [
        (0.05, [3.26, 2.13, 1.68, 1.43, 1.16, 1.00, 0.89, 0.75, 0.66, 0.60, 0.51]),
        (0.0125, [6.55, 3.45, 2.48, 2.01, 1.53, 1.28, 1.13, 0.93, 0.81, 0.73, 0.62]),
        (0.0294, [4.26, 2.57, 1.96, 1.64, 1.30, 1.11, 0.98, 0.82, 0.72, 0.65, 0.56]),
    ],
)
def test_smallest_detectable_effects(alpha: float, table: list[float]) -> None:
    assert [round(mde_paired_t(n, alpha=alpha), 2) for n in SEEDS] == table


def test_seeds_for_an_effect() -> None:
    effects = (0.3, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    assert [seeds_needed(e, test="paired_t") for e in effects] == [90, 34, 16, 10, 8, 6, 5]
