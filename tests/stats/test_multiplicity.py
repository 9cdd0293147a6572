"""The step-down max-T test against enumeration, and its place between no correction and Holm."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import ConfigError
from cupel.stats.multiplicity import holm, max_t
from cupel.stats.permutation import sign_flip


def brute_force(d: np.ndarray) -> np.ndarray:
    """Westfall and Young's step-down with Student's t, all sign patterns, one by one."""

    def t(x: np.ndarray) -> np.ndarray:
        return np.abs(x.mean(axis=0)) / (x.std(axis=0, ddof=1) / np.sqrt(len(x)))

    observed = t(d)
    order = np.argsort(-observed)
    flipped = [t(d * np.array(signs)[:, None]) for signs in product([1, -1], repeat=len(d))]
    adjusted, running = np.empty(len(order)), 0.0
    for step, k in enumerate(order):
        largest = np.array([one[order[step:]].max() for one in flipped])
        running = max(running, float(np.mean(largest >= observed[k] - 1e-9)))
        adjusted[k] = running
    return adjusted


@given(st.integers(0, 10_000), st.integers(4, 8), st.integers(1, 4))
def test_equals_the_textbook_procedure(seed, seeds, contrasts) -> None:
    d = np.random.default_rng(seed).normal(0.5, 1.0, size=(seeds, contrasts))
    assert max_t(d) == pytest.approx(brute_force(d), abs=1e-12)


@given(st.integers(0, 10_000))
def test_never_under_the_single_p_and_indifferent_to_order(seed) -> None:
    rng = np.random.default_rng(seed)
    d = rng.normal(0.4, 1.0, size=(8, 3)) + rng.normal(size=(8, 1))
    alone = np.array([sign_flip(column).p for column in d.T])
    found = max_t(d)
    assert np.all(found >= alone - 1e-12)
    shuffle = rng.permutation(3)
    assert max_t(d[rng.permutation(8)][:, shuffle]) == pytest.approx(found[shuffle])


def test_one_contrast_is_the_sign_flip_and_copies_cost_nothing() -> None:
    d = np.random.default_rng(71).normal(0.8, 1.0, size=9)
    p = sign_flip(d).p
    assert max_t(d[:, None])[0] == pytest.approx(p)
    copies = max_t(np.column_stack([d, d, d]))
    assert copies == pytest.approx([p] * 3)
    assert holm([p] * 3)[0] == pytest.approx(min(1.0, 3 * p))


def test_many_seeds_draw_from_the_given_generator() -> None:
    d = np.random.default_rng(72).normal(0.3, 1.0, size=(24, 2))
    with pytest.raises(ConfigError, match="pass rng"):
        max_t(d)
    first, second = (max_t(d, rng=np.random.default_rng(1), flips=2_000) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert first.min() >= 1 / 2001
