"""Selection: the documented table, the one-standard-error rule, edges, and failed probes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.analysis.sweep import Choice, Probe, Select, choose, extension
from cupel.errors import DataError

GRID = (5e-5, 2e-4, 5e-4, 1e-3)
DOCUMENTED = {
    "grpo": (0.068, 0.092, 0.115, 0.051),
    "full": (0.108, 0.079, 0.055, 0.021),
}
"""Final running correct rates of the documented table."""


def probe(
    value: float, score: float | None, seed: int = 1, algorithm: str = "grpo", failure: str = ""
) -> Probe:
    return Probe(
        algorithm=algorithm,
        value=value,
        seed=seed,
        status="failed" if failure else ("incomplete" if score is None else "ok"),
        failure=failure or None,
        score=score,
        final_running_correct_rate=score,
    )


def grid(scores: Mapping[float, Sequence[float]], algorithm: str = "grpo") -> list[Probe]:
    return [
        probe(value, score, seed, algorithm)
        for value, row in scores.items()
        for seed, score in enumerate(row, start=1)
    ]


def choice(probes: Sequence[Probe], select: Select = "within_1se") -> Choice:
    (found,) = choose(probes, select=select, rng=np.random.default_rng(0))
    return found


def test_the_documented_table_gives_the_documented_rates() -> None:
    probes = [
        probe(lr, rate, algorithm=name)
        for name, rates in DOCUMENTED.items()
        for lr, rate in zip(GRID, rates, strict=True)
    ]
    grpo, full = choose(probes, select="seed", rng=np.random.default_rng(0))
    assert (grpo.algorithm, grpo.value, grpo.level) == ("grpo", 5e-4, 0.115)
    assert (full.algorithm, full.value, full.level) == ("full", 5e-5, 0.108)
    assert grpo.edges == ()
    assert full.edges == ("below",)
    assert any("edge_of_grid" in text and "lower" in text for text in full.warnings)


def test_the_documented_rule_settles_ties_by_the_order_of_the_grid() -> None:
    assert choice([probe(1e-3, 0.5), probe(1e-4, 0.5)], "seed").value == 1e-3


def test_the_documented_rule_ranks_by_the_mean_over_seeds() -> None:
    probes = grid({1e-4: [0.1, 0.9], 1e-3: [0.6, 0.6], 1e-2: [0.0, 0.95]})
    assert choice(probes, "seed").value == 1e-3


def test_the_middle_of_the_set_within_one_standard_error_is_chosen() -> None:
    # best: 0.001 with mean .50, SE sqrt(.0003 / 3) = .01; inside: 1e-4 (.495) and 1e-3 and 1e-2
    scores = {
        1e-5: [0.40, 0.40, 0.40],
        1e-4: [0.495, 0.495, 0.495],
        1e-3: [0.50 - 0.0173205, 0.50, 0.50 + 0.0173205],
        1e-2: [0.491, 0.491, 0.491],
        1e-1: [0.489, 0.489, 0.489],
    }
    found = choice(grid(scores))
    assert [one.value for one in found.values if one.within_1se] == [1e-4, 1e-3, 1e-2]
    assert found.value == 1e-3
    assert found.level == pytest.approx(0.5)
    best = found.values[2]
    assert best.se == pytest.approx(0.01, abs=1e-6)
    assert best.interval is not None
    assert best.interval.high == pytest.approx(0.5 + 4.302653 * best.se, abs=1e-6)
    assert found.edges == ()
    assert found.warnings == ()


def test_of_two_equally_near_the_middle_the_lower_is_chosen() -> None:
    assert choice(grid({1e-3: [0.5, 0.5], 1e-4: [0.5, 0.5]})).value == 1e-4


def test_the_choice_is_a_member_of_the_set_even_where_the_set_has_a_hole() -> None:
    found = choice(grid({1e-4: [0.5, 0.5], 1e-3: [0.1, 0.1], 1e-2: [0.5, 0.5]}))
    assert found.value == 1e-4
    assert not found.values[1].within_1se


def test_one_probe_seed_takes_the_best_and_says_that_the_error_is_unknown() -> None:
    found = choice(grid({1e-4: [0.2], 1e-3: [0.5], 1e-2: [0.49]}))
    assert found.value == 1e-3
    assert any("standard error is unknown" in text for text in found.warnings)
    assert {one.se for one in found.values} == {None}
    assert {one.rank_probability for one in found.values} == {None}


@pytest.mark.parametrize("failure", ["algorithmic", "infrastructure", "gate"])
@pytest.mark.parametrize("select", ["within_1se", "seed"])
def test_a_failed_probe_never_wins(failure: str, select: Select) -> None:
    crashed = replace(
        probe(1e-2, 0.99, 1, failure=failure), final_running_correct_rate=1.0, score=0.99
    )
    probes = [*grid({1e-4: [0.1, 0.1], 1e-3: [0.2, 0.2]}), crashed, probe(1e-2, 0.99, 2)]
    found = choice(probes, select)
    assert found.value == 1e-3
    assert found.values[2].mean is None
    assert not found.values[2].within_1se


def test_a_probe_that_is_not_there_is_no_zero_and_no_winner() -> None:
    found = choice([*grid({1e-4: [0.1, 0.2]}), probe(1e-3, 0.9, 1)])
    assert found.value == 1e-4
    assert found.values[1].state == "unscored"


def test_nothing_scored_nothing_chosen() -> None:
    found = choice([probe(1e-3, None, failure="algorithmic"), probe(1e-2, None)])
    assert (found.value, found.level, found.edges) == (None, None, ())
    assert any("none is chosen" in text for text in found.warnings)
    assert any("diverged at 0.001" in text for text in found.warnings)


def test_rank_probabilities_are_those_of_resampled_seeds() -> None:
    scores = {1e-4: [0.30, 0.50, 0.10], 1e-3: [0.40, 0.20, 0.30], 1e-2: [0.35, 0.30, 0.25]}
    matrix = np.array(list(scores.values()))
    wins = np.zeros(3)
    for draw in itertools.product(range(3), repeat=3):
        means = matrix[:, draw].mean(axis=1)
        best = means >= means.max() - 1e-12
        wins += best / best.sum() / 27
    found = choice(grid(scores))
    shares = [one.rank_probability for one in found.values]
    assert shares == pytest.approx(wins.tolist(), abs=0.02)
    assert math.fsum(s for s in shares if s is not None) == pytest.approx(1.0)
    assert choice(grid(scores)) == found


@given(st.permutations(grid({1e-4: [0.1, 0.3], 1e-3: [0.2, 0.4], 1e-2: [0.35, 0.15]})))
def test_the_order_of_the_probes_changes_no_choice(probes: list[Probe]) -> None:
    ordered = choice(grid({1e-4: [0.1, 0.3], 1e-3: [0.2, 0.4], 1e-2: [0.35, 0.15]}))
    assert choice(probes).value == ordered.value
    assert choice(probes).edges == ordered.edges


def test_two_probes_of_one_seed_are_refused() -> None:
    with pytest.raises(DataError, match="have seed 1"):
        choice([probe(1e-3, 0.1), probe(1e-3, 0.2)])


def rising(algorithm: str = "grpo", values: Sequence[float] = GRID) -> list[Probe]:
    return grid({v: [i / 10, i / 10] for i, v in enumerate(values)}, algorithm)


def add(
    probes: Sequence[Probe], extend: int = 2, declared: Sequence[float] = GRID
) -> list[tuple[str, float]]:
    choices = choose(probes, select="within_1se", rng=np.random.default_rng(0))
    return extension(choices, declared=declared, extend=extend)


def test_a_grid_goes_on_by_its_own_ratio() -> None:
    assert add(rising()) == [("grpo", 2e-3)]
    falling = [replace(one, score=1 - (one.score or 0)) for one in rising()]
    assert add(falling) == [("grpo", 1.25e-5)]


def test_every_algorithm_gets_the_new_value_so_that_grids_stay_equal() -> None:
    inside = grid({v: [0.5 - abs(v - 2e-4)] * 2 for v in GRID}, "full")
    assert add([*rising(), *inside]) == [("grpo", 2e-3), ("full", 2e-3)]


def test_extension_ends_at_its_limit() -> None:
    assert add(rising(values=(*GRID, 2e-3))) == [("grpo", 4e-3)]
    assert add(rising(values=(*GRID, 2e-3, 4e-3))) == []
    assert add(rising(), extend=0) == []


def test_an_interior_choice_extends_nothing() -> None:
    assert add(grid({1e-4: [0.1, 0.1], 1e-3: [0.5, 0.5], 1e-2: [0.2, 0.2]})) == []


def test_divergence_closes_its_end_of_the_grid() -> None:
    probes = [*rising(), probe(2e-3, None, 1, failure="algorithmic"), probe(2e-3, 0.9, 2)]
    found = choice(probes)
    assert found.value == 1e-3
    assert found.edges == ()
    assert add(probes) == []


def test_an_algorithm_that_diverged_at_the_end_is_not_sent_further() -> None:
    full = [*rising("full", GRID[:3]), probe(1e-3, None, 1, "full", failure="algorithmic")]
    assert add([*rising(), *full]) == [("grpo", 2e-3)]


def test_a_missing_end_is_an_edge_that_cannot_be_built_on() -> None:
    probes = [*rising(values=GRID[:3]), probe(1e-3, None, 1), probe(1e-3, None, 2)]
    assert choice(probes).edges == ("above",)
    assert add(probes) == []


def test_a_grid_of_one_has_no_ratio_to_go_on_by() -> None:
    probes = grid({1e-3: [0.1, 0.2]})
    assert choice(probes).edges == ("below", "above")
    assert add(probes, declared=(1e-3,)) == []


def test_values_too_close_for_three_digits_still_go_on() -> None:
    ((_, value),) = add(rising(values=(1.001, 1.002)), declared=(1.001, 1.002))
    assert 1.002 < value < 1.004
