"""Promises: four methods are four rankings; one whose input is missing stops and names it, and
never becomes another one; ties are the seed's and not the file's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupel.errors import DataError
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.selection.ranking import (
    METHODS,
    common_pool,
    oracle_value,
    rank,
    scores,
    select,
)
from tests.teach.teach_labels import labelled, train_only

ROWS = labelled(40, rollouts=8)


def predictions(rows: list[LabelledMoment]) -> dict[str, float]:
    return {row.id: float(number % 7) for number, row in enumerate(rows)}


def test_the_oracle_ranks_by_the_held_out_half_and_not_by_the_largest_gain() -> None:
    first, second = ROWS[:2]
    lucky = replace(first, patch_test=replace(first.patch_test, ELP_net=0.9, oracle_half=0.0))
    solid = replace(second, patch_test=replace(second.patch_test, ELP_net=0.3, oracle_half=0.3))
    assert rank([lucky, solid], "oracle", seed=1) == [1, 0]


def test_exact_values_need_no_half() -> None:
    exact = labelled(4)[0]
    assert exact.patch_test.oracle_half is None
    assert oracle_value(exact) == exact.patch_test.ELP_net


def test_a_sampled_patch_test_without_a_half_gives_the_oracle_nothing() -> None:
    row = replace(ROWS[0], patch_test=replace(ROWS[0].patch_test, oracle_half=None))
    assert oracle_value(row) is None


def test_entropy_ranks_by_uncertainty() -> None:
    order = rank(ROWS, "entropy", seed=1)
    values = [ROWS[index].U for index in order]
    assert values == sorted(values, reverse=True)


def test_the_four_methods_choose_differently() -> None:
    chosen = {
        method: select(ROWS, method, 10, predictions=predictions(ROWS), seed=3).indices
        for method in METHODS
    }
    assert len({frozenset(each) for each in chosen.values()}) == 4


@pytest.mark.parametrize(
    ("method", "broken", "message"),
    [
        ("oracle", {"patch_test": None}, "no patch test with a held-out half"),
        ("entropy", {"U": None}, "no uncertainty U"),
    ],
)
def test_one_missing_label_stops_a_method_and_is_named(
    method: str, broken: dict[str, None], message: str
) -> None:
    rows = [replace(ROWS[0], **broken), *ROWS[1:]]
    with pytest.raises(DataError, match=f"1 of {len(rows)} moments have {message}") as caught:
        rank(rows, method, seed=1)
    assert ROWS[0].id in str(caught.value)


def test_labels_without_any_patch_test_stop_the_oracle_before_a_pool_is_made() -> None:
    rows = [replace(row, patch_test=None) for row in ROWS]
    with pytest.raises(DataError, match="selection oracle: none of"):
        common_pool(rows, METHODS, predictions=predictions(rows))


def test_no_predictor_stops_the_predictor_and_does_not_rank_by_entropy() -> None:
    with pytest.raises(DataError, match="selection predictor: no predictions"):
        rank(ROWS, "predictor", seed=1)


def test_a_predictor_that_does_not_know_a_moment_stops() -> None:
    known = predictions(ROWS)
    del known[ROWS[3].id]
    with pytest.raises(DataError, match=r"no predicted ELP, the first " + ROWS[3].id):
        rank(ROWS, "predictor", predictions=known, seed=1)


def test_a_prediction_that_is_no_number_stops() -> None:
    known = predictions(ROWS) | {ROWS[0].id: float("nan")}
    with pytest.raises(DataError, match="is not finite"):
        rank(ROWS, "predictor", predictions=known, seed=1)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_select_from_is_an_error(method: str) -> None:
    with pytest.raises(DataError, match="no labelled moments"):
        rank([], method, predictions={}, seed=1)


def test_a_moment_that_stands_twice_is_refused() -> None:
    with pytest.raises(DataError, match="appears twice"):
        rank([ROWS[0], ROWS[0]], "entropy", seed=1)


def test_a_budget_beyond_the_pool_is_told_with_both_numbers() -> None:
    with pytest.raises(DataError, match=rf"budget 500, but the pool holds {len(ROWS)} moments"):
        select(ROWS, "random", 500, seed=1)


def test_a_cap_spreads_the_choice_over_tasks() -> None:
    chosen = select(ROWS, "entropy", 20, seed=1, per_task_cap=1)
    tasks = [ROWS[index].moment.task_id for index in chosen.indices]
    assert len(set(tasks)) == len(tasks) == 20
    assert chosen.capped > 0


def test_a_cap_that_leaves_too_few_is_told() -> None:
    with pytest.raises(DataError, match=r"40 tasks with at most 1 moments each give 40"):
        select(ROWS, "entropy", 41, seed=1, per_task_cap=1)


def test_ties_at_the_cut_are_counted_and_drawn_by_the_seed() -> None:
    rows = [replace(row, U=1.0 if number < 5 else 0.5) for number, row in enumerate(ROWS)]
    one, two = (select(rows, "entropy", 20, seed=seed) for seed in (1, 2))
    assert one.tied_at_cut == len(rows) - 5
    assert set(one.indices[:5]) == set(two.indices[:5]) == set(range(5))
    assert set(one.indices) != set(two.indices)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(30)), seed=st.integers(0, 1000))
def test_the_order_of_the_file_changes_nothing(order: list[int], seed: int) -> None:
    rows = [replace(row, U=round(row.U, 1)) for row in ROWS[:30]]
    known = predictions(rows)
    for method in METHODS:
        shuffled = [rows[index] for index in order]
        plain = [rows[i].id for i in rank(rows, method, predictions=known, seed=seed)]
        moved = [shuffled[i].id for i in rank(shuffled, method, predictions=known, seed=seed)]
        assert plain == moved


def test_random_draws_do_not_decide_the_ties_of_the_others() -> None:
    rows = [replace(row, U=1.0) for row in ROWS]
    ties = rank(rows, "entropy", seed=1)
    drawn = rank(rows, "random", seed=1)
    places = np.corrcoef(np.argsort(ties), np.argsort(drawn))[0, 1]
    assert abs(places) < 0.3
    assert len(np.unique(scores(rows, "random", seed=1))) == len(rows)


def test_the_pool_is_of_training_tasks_with_a_valid_hint_and_every_input() -> None:
    known = predictions(ROWS)
    ours = train_only(ROWS)
    bad_hint, no_test = ours[0].id, ours[1].id
    rows = [
        replace(row, hint=replace(row.hint, valid=False))
        if row.id == bad_hint
        else replace(row, patch_test=None)
        if row.id == no_test
        else row
        for row in ROWS
    ]
    pool = common_pool(rows, METHODS, predictions=known)
    assert {row.id for row in pool.labels} == {row.id for row in ours} - {bad_hint, no_test}
    assert pool.excluded["without a valid hint"] == 1
    assert sum(pool.excluded.values()) == len(ROWS) - len(pool.labels)
    without_oracle = common_pool(rows, ("random", "entropy"))
    assert no_test in {row.id for row in without_oracle.labels}
