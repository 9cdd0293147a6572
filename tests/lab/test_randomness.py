"""Randomness is a function of seed, purpose and counters, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import ConfigError
from cupel.lab.randomness import Randomness, counter_of

COUNTER = st.integers(0, 2**64 - 1)


@given(
    seed=st.integers(0, 2**70),
    keys=st.integers(0, 3).flatmap(
        lambda width: st.lists(st.lists(COUNTER, min_size=width, max_size=width), min_size=1)
    ),
    count=st.integers(0, 9),
)
def test_uniforms_equal_numpys_own_philox_row_by_row(
    seed: int, keys: list[list[int]], count: int
) -> None:
    randomness = Randomness(seed)
    together = randomness.uniforms("sampling", keys, count)
    assert together.shape == (len(keys), count)
    for row, key in zip(together, keys, strict=True):
        assert row.tolist() == randomness.generator("sampling", *key).random(count).tolist()


def test_a_row_does_not_depend_on_its_batch() -> None:
    randomness = Randomness(42)
    keys = [(3, counter_of(f"problem {p}"), sample) for p in range(8) for sample in range(16)]
    together = randomness.uniforms("sampling", keys, 64)
    alone = np.concatenate([randomness.uniforms("sampling", [key], 64) for key in keys])
    assert np.array_equal(together, alone)
    assert np.array_equal(together[:, :10], randomness.uniforms("sampling", keys, 10))
    assert len(np.unique(together)) == together.size


def test_seed_purpose_and_counters_each_matter() -> None:
    def draw(seed: int, purpose: str, *counters: int) -> float:
        return float(Randomness(seed).generator(purpose, *counters).random())

    draws = [
        draw(1, "a"), draw(2, "a"), draw(1, "b"), draw(1, "a", 0), draw(1, "a", 1),
        draw(1, "a", 0, 1), draw(1, "a", 1, 0), draw(1, "a", 0, 0),
    ]  # fmt: skip
    assert len(set(draws)) == len(draws)
    assert draw(1, "a", 7) == draw(1, "a", 7)


def test_the_stream_is_pinned_for_ever() -> None:
    """A change here silently changes every recorded run: it needs a new name, not a new value."""
    values = Randomness(42).uniforms("sampling", [(0, 1, 2)], 3)[0]
    assert values.tolist() == [0.9033436768453265, 0.26627809439010686, 0.051571924712490835]


def test_uniforms_look_uniform() -> None:
    values = Randomness(0).uniforms("u", [(n,) for n in range(4000)], 16)
    assert abs(values.mean() - 0.5) < 4 * np.sqrt(1 / 12 / values.size)
    correlation = np.corrcoef(values[:, 0], values[:, 1])[0, 1]
    neighbours = np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]
    assert abs(correlation) < 0.07
    assert abs(neighbours) < 0.07


def test_bad_counters_are_refused() -> None:
    randomness = Randomness(0)
    with pytest.raises(ConfigError, match="counter -1 is outside"):
        randomness.generator("x", -1)
    with pytest.raises(ConfigError, match="at most 3"):
        randomness.generator("x", 1, 2, 3, 4)
    with pytest.raises(ConfigError, match=r"rows have \[1, 2\] counters"):
        randomness.uniforms("x", [(1,), (1, 2)], 4)
    with pytest.raises(ConfigError, match="seed -3"):
        Randomness(-3)
