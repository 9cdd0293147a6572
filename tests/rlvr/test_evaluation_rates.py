"""Rates over problems: pass@k by enumeration, intervals, groups, paired differences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import DataError
from cupel.rlvr.evaluation_rates import (
    ProblemScore,
    groups,
    paired_differences,
    rate_rows,
    rates,
    score_of,
)
from cupel.rlvr.grading import Outcome
from cupel.stats.clustered import clustered_mean
from cupel.stats.intervals import wilson
from cupel.stats.paired_proportions import newcombe_paired
from cupel.stats.proportions import mcnemar


def scores(
    right: Sequence[int],
    samples: int,
    *,
    greedy: Sequence[Outcome] | None = None,
    level: Sequence[str | None] | None = None,
) -> list[ProblemScore]:
    return [
        ProblemScore(
            problem_id=f"p{place}",
            subject="sums" if place % 2 else None,
            level=None if level is None else level[place],
            correct_count=count,
            ungradable_count=min(1, samples - count),
            samples=samples,
            greedy=None if greedy is None else greedy[place],
        )
        for place, count in enumerate(right)
    ]


@given(
    samples=st.integers(1, 7),
    data=st.data(),
)
def test_pass_at_k_is_the_mean_over_all_subsets_of_the_samples(
    samples: int, data: st.DataObject
) -> None:
    right = data.draw(st.lists(st.integers(0, samples), min_size=1, max_size=5))
    k = data.draw(st.integers(1, samples))
    one_right = [
        np.mean([any(c) for c in itertools.combinations([i < n for i in range(samples)], k)])
        for n in right
    ]
    found = {rate.metric: rate.value for rate in rates(scores(right, samples), [k])}
    assert found[f"pass@{k}"] == pytest.approx(float(np.mean(one_right)), abs=1e-12)
    first = rates(scores(right, samples), [1])
    assert first[1].value == pytest.approx(first[0].value)


def test_the_problem_is_the_unit_of_the_interval() -> None:
    right = [0, 1, 4, 4, 2, 3]
    accuracy, pass_2 = rates(scores(right, 4), [2])
    shares = np.array(right) / 4
    expected = clustered_mean(shares, np.arange(6)).interval
    assert expected is not None
    assert (accuracy.low, accuracy.high) == (max(0.0, expected.low), min(1.0, expected.high))
    assert (accuracy.problems, accuracy.completions, accuracy.ungradable_count) == (6, 24, 4)
    assert accuracy.method == pass_2.method == "clustered_t"
    whole = rates(scores([4, 4, 0], 4), [1])[0]
    expected = wilson(2, 3)
    assert (whole.low, whole.high, whole.method) == (expected.low, expected.high, "wilson")


def test_an_interval_that_cannot_be_had_is_missing() -> None:
    alike, alone = rates(scores([2, 2, 2], 4), [])[0], rates(scores([1], 4), [])[0]
    for rate in (alike, alone):
        assert (rate.low, rate.high, rate.method) == (None, None, None)
    with pytest.raises(DataError, match="no problem was evaluated"):
        rates([], [1])


def test_greedy_decoding_is_missing_unless_every_problem_has_it() -> None:
    measured = scores([1, 2], 2, greedy=["correct", "ungradable"])
    accuracy, greedy = rates(measured, [])
    assert (greedy.metric, greedy.value) == ("greedy_accuracy", 0.5)
    assert (greedy.completions, greedy.ungradable_count) == (2, 1)
    assert accuracy.completions == 4
    mixed = [*measured, *scores([0], 2)]
    assert [rate.metric for rate in rates(mixed, [])] == ["accuracy"]


def test_groups_sort_numbers_by_size_and_unknown_last() -> None:
    members = scores([0] * 5, 1, level=["10", "2", None, "hard", "2"])
    assert list(groups(members, "level")) == ["2", "10", "hard", None]
    assert [len(group) for group in groups(members, "level").values()] == [2, 1, 1, 1]
    assert list(groups(members, "all")) == [None]
    rows = rate_rows(members, [1], step=7)
    assert [(row["by"], row["group"]) for row in rows if row["metric"] == "accuracy"] == [
        ("all", None),
        ("subject", "sums"),
        ("subject", None),
        *(("level", label) for label in ("2", "10", "hard", None)),
    ]
    assert sum(row["problems"] for row in rows if row["by"] == "level") == 2 * 5
    assert {row["unit"] for row in rows} == {"problem"}


def test_yes_or_no_problems_are_compared_by_mcnemar() -> None:
    baseline, candidate = scores([1, 1, 0, 0, 0, 0], 1), scores([1, 0, 1, 1, 1, 0], 1)
    (found,) = paired_differences(baseline, candidate, [])
    expected = newcombe_paired(1, 1, 3, 1)
    assert found.delta == pytest.approx(2 / 6)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert (found.only_baseline, found.only_candidate) == (1, 3)
    assert found.p == mcnemar(1, 3).p
    (back,) = paired_differences(candidate, baseline, [])
    assert back.delta == -found.delta
    assert (back.low, back.high) == pytest.approx((-expected.high, -expected.low))


def test_shares_are_compared_problem_by_problem_whatever_their_order() -> None:
    baseline, candidate = scores([0, 1, 3, 2], 4), scores([1, 1, 4, 4], 4)
    accuracy, pass_2 = paired_differences(baseline, list(reversed(candidate)), [2])
    expected = clustered_mean(np.array([0.25, 0.0, 0.25, 0.5]), np.arange(4))
    assert expected.interval is not None
    assert accuracy.delta == expected.mean
    assert (accuracy.low, accuracy.p) == (expected.interval.low, expected.p)
    assert accuracy.only_baseline is None
    assert pass_2.metric == "pass@2"
    (same, _) = paired_differences(baseline, baseline, [2])
    assert (same.delta, same.low, same.p) == (0.0, None, None)


def test_other_problems_are_not_compared() -> None:
    with pytest.raises(DataError, match="the problems differ: 3 against 2, 2 in both"):
        paired_differences(scores([0, 0, 0], 1), scores([0, 0], 1), [])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"problem_id": "a"}, "f:3: no subject, level, correct_count, samples"),
        (
            {"problem_id": "a", "subject": None, "level": None, "correct_count": 3, "samples": 2},
            "f:3: correct_count 3 of samples 2 is no count",
        ),
    ],
)
def test_a_row_that_is_no_problem_is_refused(row: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        score_of(row, where="f:3")


def test_an_earlier_row_without_ungradable_count_is_read() -> None:
    row = {"problem_id": 7, "subject": "s", "level": "1", "correct_count": 1, "samples": 2}
    found = score_of({"step": 4, **row}, where="f:1")
    assert (found.problem_id, found.ungradable_count, found.greedy) == ("7", 0, None)
