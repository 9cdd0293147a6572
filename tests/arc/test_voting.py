"""Votes and pass@k: who counts, what wins, and that no evaluation remembers another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.arc.grids import Grid
from cupel.arc.voting import (
    PASS_AT,
    Prediction,
    ballots,
    grid_key,
    rate,
    score,
)
from cupel.errors import DataError


def grid(*rows: str) -> Grid:
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.uint8)


RIGHT, WRONG, OTHER = grid("12", "34"), grid("11", "11"), grid("5")


def vote(
    answer: Grid, q: float = 0.5, *, by: str = "a", puzzle: str = "p", index: int = 0
) -> Prediction:
    return Prediction(puzzle_id=puzzle, test_index=index, augmentation=by, grid=answer, q=q)


def votes(*answers: tuple[Grid, float], puzzle: str = "p", index: int = 0) -> list[Prediction]:
    return [
        vote(answer, q, by=f"a{n}", puzzle=puzzle, index=index)
        for n, (answer, q) in enumerate(answers)
    ]


def test_more_votes_win_and_the_mean_q_breaks_ties() -> None:
    cast = votes((WRONG, 0.99), (RIGHT, 0.1), (RIGHT, 0.1), (OTHER, 0.2))
    ballot = ballots(cast)["p", 0]
    assert [each.votes for each in ballot.candidates] == [2, 1, 1]
    assert ballot.rank_of(RIGHT) == 1
    assert ballot.rank_of(WRONG) == 2  # 0.99 before 0.2
    assert ballot.rank_of(OTHER) == 3
    assert ballot.rank_of(grid("9")) is None


def test_the_mean_and_not_the_sum_of_q_breaks_ties() -> None:
    cast = votes((WRONG, 0.9), (WRONG, 0.1), (RIGHT, 0.6), (RIGHT, 0.6))
    assert ballots(cast)["p", 0].rank_of(RIGHT) == 1


@given(st.permutations(range(6)))
def test_the_order_of_predictions_changes_nothing(order: list[int]) -> None:
    cast = votes((WRONG, 0.1), (RIGHT, 0.2), (OTHER, 0.3), (WRONG, 0.7), (RIGHT, 0.6), (OTHER, 0.5))
    straight = ballots(cast)["p", 0].candidates
    shuffled = ballots([cast[n] for n in order])["p", 0].candidates
    assert [(c.votes, c.mean_q, c.grid.tolist()) for c in straight] == [
        (c.votes, c.mean_q, c.grid.tolist()) for c in shuffled
    ]


def test_grids_of_equal_cells_and_other_shape_are_other_answers() -> None:
    wide = grid("121", "212")
    tall = wide.reshape(3, 2)
    assert grid_key(wide) != grid_key(tall)
    assert len(ballots(votes((wide, 0.5), (tall, 0.5)))["p", 0].candidates) == 2


def test_a_prediction_without_cells_is_counted_and_is_no_answer() -> None:
    nothing = np.zeros((0, 0), dtype=np.uint8)
    cast = votes((nothing, 0.9), (nothing, 0.9), (RIGHT, 0.1))
    made = score(cast, {"p": [RIGHT]}, evaluated=["p"])
    assert (made.votes, made.empty, made.ranks["p", 0]) == (3, 2, 1)


def test_a_second_evaluation_that_is_all_wrong_scores_zero() -> None:
    truths = {"p": [RIGHT]}
    first = score(votes((RIGHT, 0.9), (RIGHT, 0.9)), truths, evaluated=["p"])
    second = score(votes((WRONG, 0.9), (OTHER, 0.9)), truths, evaluated=["p"])
    assert first.partial[1].value == 1.0
    assert [second.partial[k].value for k in PASS_AT] == [0.0] * len(PASS_AT)


def test_votes_of_two_evaluations_cannot_be_put_together() -> None:
    with pytest.raises(DataError, match=r"two predictions from augmentation 'a0'.*different eval"):
        ballots([*votes((RIGHT, 0.5)), *votes((WRONG, 0.5))])


def test_the_denominator_is_who_was_to_be_evaluated() -> None:
    truths = {f"p{n}": [RIGHT] for n in range(400)}
    cast = [vote(RIGHT, puzzle=f"p{n}") for n in range(4)]
    cast += [vote(WRONG, puzzle=f"p{n}") for n in range(4, 32)]
    made = score(cast, truths, evaluated=[f"p{n}" for n in range(32)])
    assert (made.partial[1].value, made.partial[1].n) == (4 / 32, 32)
    assert (round(made.partial[1].low, 3), round(made.partial[1].high, 3)) == (0.050, 0.281)


def test_a_subset_scores_its_puzzles_as_the_whole_does() -> None:
    truths = {"p": [RIGHT], "r": [RIGHT]}
    right = votes((RIGHT, 0.5), puzzle="p")
    wrong = votes((WRONG, 0.5), puzzle="r")
    whole = score([*right, *wrong], truths, evaluated=["p", "r"])
    alone = score(right, truths, evaluated=["p"])
    assert alone.ranks["p", 0] == whole.ranks["p", 0] == 1
    assert (alone.partial[1].value, whole.partial[1].value) == (1.0, 0.5)


def test_a_puzzle_without_votes_is_refused_and_counts_as_unsolved_when_declared_lost() -> None:
    truths = {"p": [RIGHT], "gone": [RIGHT, RIGHT]}
    with pytest.raises(
        DataError, match=r"no predictions for gone\[0\], gone\[1\].*declare it lost"
    ):
        score([vote(RIGHT)], truths, evaluated=["p", "gone"])
    made = score([vote(RIGHT)], truths, evaluated=["p", "gone"], lost=["gone"])
    assert (made.partial[1].value, made.official[1].value, made.partial[1].n) == (0.5, 0.5, 2)
    assert made.without_votes == (("gone", 0), ("gone", 1))


def test_one_input_without_votes_is_refused_too() -> None:
    with pytest.raises(DataError, match=r"p\[1\]"):
        score([vote(RIGHT)], {"p": [RIGHT, RIGHT]}, evaluated=["p"])


@pytest.mark.parametrize(
    ("evaluated", "lost", "message"),
    [
        ([], [], "no puzzle"),
        (["p", "p"], [], "named twice"),
        (["p", "x"], [], "no true outputs for x"),
        (["p"], ["r"], "declared lost but not evaluated"),
        (["r"], [], r"which were not to be evaluated"),
    ],
)
def test_ids_that_do_not_fit_are_refused(
    evaluated: list[str], lost: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score([vote(RIGHT)], {"p": [RIGHT], "r": [RIGHT]}, evaluated=evaluated, lost=lost)


def test_partial_credit_and_the_official_rule() -> None:
    cast = [
        *votes((RIGHT, 0.5), index=0),
        *votes((WRONG, 0.9), (RIGHT, 0.5), index=1),
    ]
    made = score(cast, {"p": [RIGHT, RIGHT]}, evaluated=["p"])
    assert (made.partial[1].value, made.official[1].value) == (0.5, 0.0)
    assert (made.partial[2].value, made.official[2].value) == (1.0, 1.0)


@given(st.integers(1, 50), st.data())
def test_intervals_hold_their_rate_and_partial_credit_is_never_narrower(
    n: int, data: st.DataObject
) -> None:
    whole = data.draw(st.integers(0, n - 1))
    share = data.draw(st.floats(0.01, 0.99))
    made = rate(whole + share, n)
    assert 0 <= made.low <= made.value <= made.high <= 1
    assert made.low <= rate(whole, n).low + 1e-12
    assert made.high >= rate(whole + 1, n).high - 1e-12


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=12))
def test_pass_at_k_never_falls_with_k(answers: list[int]) -> None:
    choice = (RIGHT, WRONG, OTHER)
    made = score(
        votes(*[(choice[a], 0.1 * n / 12) for n, a in enumerate(answers)]),
        {"p": [RIGHT]},
        evaluated=["p"],
    )
    values = [made.partial[k].value for k in PASS_AT]
    assert values == sorted(values)
    assert values[-1] == (0 in answers)


def test_a_q_that_is_no_probability_is_refused() -> None:
    with pytest.raises(DataError, match=r"q = 1\.5"):
        ballots([vote(RIGHT, 1.5)])
