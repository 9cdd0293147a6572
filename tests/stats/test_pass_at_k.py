"""pass@k against enumeration."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import ConfigError, DataError
from cupel.stats.pass_at_k import pass_at_k


@given(st.integers(1, 8), st.data())
def test_equals_drawing_every_subset(n, data) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    answers = [1] * c + [0] * (n - c)
    drawn = [any(subset) for subset in combinations(answers, k)]
    assert pass_at_k([c], [n], k)[0] == pytest.approx(np.mean(drawn), abs=1e-12)


def test_large_counts_keep_their_digits() -> None:
    right, answers = np.arange(0, 201), np.full(201, 200)
    exact = [1 - comb(200 - c, 100) / comb(200, 100) for c in right.tolist()]
    assert pass_at_k(right, answers, 100) == pytest.approx(exact, abs=1e-12)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(DataError, match="only 2 answers; lower k"):
        pass_at_k([1, 1], [4, 2], 3)
    with pytest.raises(DataError, match="more right answers"):
        pass_at_k([5], [4], 1)
    with pytest.raises(DataError, match="whole numbers"):
        pass_at_k([0.5], [4], 1)
    with pytest.raises(DataError, match="do not match"):
        pass_at_k([1], [4, 4], 1)
    with pytest.raises(ConfigError, match="k = 0"):
        pass_at_k([1], [4], 0)
