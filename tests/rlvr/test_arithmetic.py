"""The arithmetic language: what it promises about its texts and its solvers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import DataError
from cupel.rlvr import arithmetic
from cupel.rlvr.arithmetic import Chain
from cupel.rlvr.grading import grade

CHAIN = Chain(start=60, steps=(-4, 3, 2))
SEEDS = st.integers(min_value=0, max_value=2**32 - 1)
SUM = re.compile(r" (\d+) ([+-]) (\d) = (\d+) \.")


def test_a_problem_reads_as_documented() -> None:
    assert CHAIN.text == "what is 60 - 4 + 3 + 2 ?"
    assert CHAIN.answer == 61


def test_the_vocabulary_is_closed_and_small() -> None:
    assert len(arithmetic.SPECIALS) + len(arithmetic.WORDS) == 51
    assert len(set(arithmetic.WORDS)) == len(arithmetic.WORDS)


@given(seed=SEEDS)
def test_every_text_splits_into_words_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = arithmetic.draw_chain(rng)
    for text in (
        chain.text,
        arithmetic.careful_completion(chain, rng),
        arithmetic.careful_completion(chain, rng, slip_rate=1.0),
        arithmetic.skip_completion(chain, rng),
        arithmetic.guess_completion(rng),
        arithmetic.mixed_completion(chain, rng),
    ):
        pieces = arithmetic.pieces(text)
        assert "".join(pieces) == text
        assert set(pieces) <= set(arithmetic.WORDS)
        assert len(pieces) <= arithmetic.MAX_PIECES


@given(seed=SEEDS)
def test_problems_stay_inside_their_bounds(seed: int) -> None:
    chain = arithmetic.draw_chain(np.random.default_rng(seed))
    partials = np.cumsum([chain.start, *chain.steps])
    assert 10 <= chain.start <= 79
    assert 1 <= len(chain.steps) <= 3
    assert all(2 <= abs(step) <= 9 for step in chain.steps)
    assert partials.min() >= 0
    assert partials.max() <= 99


def test_numbers_of_steps_are_equally_frequent() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([len(arithmetic.draw_chain(rng).steps) for _ in range(3000)])
    assert counts[0] == 0
    assert np.all(np.abs(counts[1:] / 3000 - 1 / 3) < 0.04)


@given(seed=SEEDS)
def test_a_careful_solver_without_slips_is_right_at_every_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = arithmetic.draw_chain(rng)
    text = arithmetic.careful_completion(chain, rng)
    assert grade(text, str(chain.answer), "boxed").outcome == "correct"
    sums = SUM.findall(text)
    assert len(sums) == len(chain.steps)
    for left, sign, right, result in sums:
        assert int(left) + int(sign + right) == int(result)


@given(seed=SEEDS)
def test_skipping_a_step_is_always_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = arithmetic.draw_chain(rng)
    text = arithmetic.skip_completion(chain, rng)
    assert grade(text, str(chain.answer), "boxed").outcome == "incorrect"
    assert len(SUM.findall(text)) == len(chain.steps) - 1


def test_slips_are_wrong_steps_and_a_found_slip_is_mended() -> None:
    rng = np.random.default_rng(1)
    texts = [arithmetic.careful_completion(CHAIN, rng, slip_rate=1.0) for _ in range(400)]
    mended = [text for text in texts if " wait ," in text]
    assert mended
    for text in mended:
        after = text[text.index(" wait ,") + len(" wait ,") :]
        left, sign, right, result = SUM.findall(after)[0]
        assert int(left) + int(sign + right) == int(result)
    assert sum(grade(text, "61", "boxed").outcome == "correct" for text in texts) < 100


def test_strategies_come_at_their_stated_rates() -> None:
    rng = np.random.default_rng(2)
    n = 4000
    guesses = correct = 0
    for _ in range(n):
        chain = arithmetic.draw_chain(rng)
        text = arithmetic.mixed_completion(chain, rng)
        guesses += " let me guess" in text
        correct += grade(text, str(chain.answer), "boxed").outcome == "correct"
    assert sum(arithmetic.STRATEGY_RATES.values()) == pytest.approx(1.0)
    assert guesses / n == pytest.approx(0.62, abs=0.03)
    assert 0.15 < correct / n < 0.27


@pytest.mark.parametrize("text", ["What is 3 ?", "what  is", " zebra", "what is 3 * 4 ?"])
def test_text_outside_the_language_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"arithmetic\.pieces"):
        arithmetic.pieces(text)
