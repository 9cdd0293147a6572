"""U: golden values, bounds, and the distribution it must be of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import DataError
from cupel.teach.labelling.uncertainty import primary, uncertainty_of, warm_start
from cupel.teach.students.student import tempered

weights = st.lists(st.floats(1e-6, 1), min_size=2, max_size=9)


@pytest.mark.parametrize(
    ("log_scores", "first", "entropy"),
    [((-2.0, -8.0), 0.9975, 0.017), ((-0.5, -2.0), 0.818, 0.475)],
    ids=["sum of four tokens", "mean of four tokens"],
)
def test_length_normalised_scores_are_another_policy(
    log_scores: tuple[float, float], first: float, entropy: float
) -> None:
    probs = tempered(np.array(log_scores), 1.0)
    assert probs[0] == pytest.approx(first, abs=5e-4)
    assert uncertainty_of(probs).entropy == pytest.approx(entropy, abs=5e-4)


def test_all_measures_of_a_small_distribution_by_hand() -> None:
    measured = uncertainty_of([0.1, 0.6, 0.3])
    entropy = -(0.6 * math.log(0.6) + 0.3 * math.log(0.3) + 0.1 * math.log(0.1))
    assert measured.entropy == pytest.approx(entropy)
    assert measured.entropy_norm == pytest.approx(entropy / math.log(3))
    assert measured.margin == pytest.approx(1 - 0.3)
    assert measured.topk_spread == pytest.approx(1 - 0.5)
    assert measured.effective_actions == pytest.approx(math.exp(entropy))
    assert measured.n_actions == 3


def test_the_spread_looks_at_the_fifth_action() -> None:
    assert uncertainty_of([0.4, 0.2, 0.15, 0.1, 0.1, 0.05]).topk_spread == pytest.approx(0.7)


@pytest.mark.parametrize("measure", ["entropy", "entropy_norm", "margin", "topk_spread"])
def test_a_state_with_one_action_is_certain(measure: str) -> None:
    assert primary(uncertainty_of([1.0]), measure) == 0.0  # type: ignore[arg-type]


@given(raw=weights)
def test_measures_stay_in_their_ranges_and_ignore_order(raw: list[float]) -> None:
    probs = np.array(raw) / sum(raw)
    measured, turned = uncertainty_of(probs), uncertainty_of(probs[::-1])
    assert 0 <= measured.entropy <= math.log(len(raw)) + 1e-9
    assert 0 <= measured.entropy_norm <= 1
    assert 1 - 1e-9 <= measured.effective_actions <= len(raw) + 1e-9
    assert 0 <= measured.margin <= 1
    assert measured.entropy == pytest.approx(turned.entropy)
    assert (measured.margin, measured.topk_spread) == (turned.margin, turned.topk_spread)


@given(count=st.integers(2, 30))
def test_normalised_entropy_does_not_count_buttons(count: int) -> None:
    uniform = uncertainty_of(np.full(count, 1 / count))
    assert uniform.entropy_norm == pytest.approx(1)
    assert uniform.entropy == pytest.approx(math.log(count))


@pytest.mark.parametrize("probs", [[], [0.5, 0.4], [1.2, -0.2], [float("nan"), 1.0], [[0.5, 0.5]]])
def test_what_is_no_distribution_is_refused(probs: list[float]) -> None:
    with pytest.raises(DataError, match="uncertainty_of"):
        uncertainty_of(probs)


@pytest.mark.parametrize(
    ("probs", "passed"),
    [([0.999, 0.001], False), ([0.5, 0.5], False), ([0.8, 0.2], True)],
    ids=["collapsed", "guessing", "warm"],
)
def test_the_warm_start_check_knows_collapse_and_guessing(probs: list[float], passed: bool) -> None:
    assert warm_start([uncertainty_of(probs), uncertainty_of([1.0])]).passed is passed


def test_the_warm_start_check_needs_a_choice() -> None:
    found = warm_start([uncertainty_of([1.0])])
    assert (found.ratio, found.moments, found.passed) == (None, 0, False)
