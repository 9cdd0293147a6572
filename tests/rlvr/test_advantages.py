"""Advantages: golden values from the papers, and what must hold for any rewards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from cupel.errors import AlgorithmicFailure, ConfigError
from cupel.rlvr.advantages import (
    ADVANTAGE_MODES,
    OF_THE_BATCH,
    advantages,
    group_outcomes,
    grpo_advantages,
    maxrl_advantages,
    mixed_groups,
    overlong_penalties,
    reinforce_pp_advantages,
    rloo_advantages,
)

OF_THE_GROUP = [mode for mode in ADVANTAGE_MODES if mode not in OF_THE_BATCH]

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
REWARDS = arrays(np.float64, SHAPES, elements=st.floats(0, 100, allow_subnormal=False))
BINARY = arrays(np.float64, SHAPES, elements=st.sampled_from([0.0, 1.0]))


def test_grpo_centers_on_the_group_mean() -> None:
    rewards_PG = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    expected = [[0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5]]
    assert grpo_advantages(rewards_PG).tolist() == expected


def test_grpo_with_std_divides_by_the_population_deviation() -> None:
    shaped = grpo_advantages(np.array([[1.0, 0.0, 0.0, 0.0]]), normalize="std")
    np.testing.assert_allclose(shaped, [[3**0.5, *[-(3**-0.5)] * 3]], rtol=1e-5)


def test_maxrl_divides_by_the_group_mean() -> None:
    """arXiv:2602.02710: with K of G correct, (G - K)/K for the correct and -1 for the wrong."""
    rewards_PG = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    np.testing.assert_allclose(
        maxrl_advantages(rewards_PG), [[3, -1, -1, -1], [1 / 3, 1 / 3, 1 / 3, -1]]
    )


@given(BINARY)
def test_maxrl_on_binary_rewards_is_the_closed_form(rewards_PG: NDArray[np.float64]) -> None:
    group = rewards_PG.shape[1]
    for rewards_G, shaped_G in zip(rewards_PG, maxrl_advantages(rewards_PG), strict=True):
        right = rewards_G.sum()
        expected = np.where(rewards_G == 1, (group - right) / max(right, 1), -1.0 * (right > 0))
        np.testing.assert_allclose(shaped_G, expected, atol=1e-12)


def test_rloo_is_the_reward_minus_the_mean_of_the_others() -> None:
    """arXiv:2402.14740, by hand: others of the 1 have mean 1/3; others of the 0s 2/3 and 1."""
    found = rloo_advantages(np.array([[1.0, 0.0, 0.0, 1.0], [2.0, 1.0, 1.0, 0.0]]))
    expected = [[2 / 3, -2 / 3, -2 / 3, 2 / 3], [4 / 3, 0.0, 0.0, -4 / 3]]
    np.testing.assert_allclose(found, expected, atol=1e-15)


@given(REWARDS)
def test_rloo_equals_the_loop_over_the_others(rewards_PG: NDArray[np.float64]) -> None:
    found_PG = rloo_advantages(rewards_PG)
    for rewards_G, found_G in zip(rewards_PG, found_PG, strict=True):
        for i, reward in enumerate(rewards_G):
            others = [other for j, other in enumerate(rewards_G) if j != i]
            expected = reward - sum(others) / len(others) if others else 0.0
            assert found_G[i] == pytest.approx(expected, abs=1e-9)


def test_reinforce_pp_normalises_over_the_batch() -> None:
    """arXiv:2501.03262, by hand: mean 3/8, deviation sqrt(15)/8 of (1 0 0 0 | 1 1 0 0)."""
    rewards_PG = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    right, wrong = 5 / 15**0.5, -3 / 15**0.5
    found = reinforce_pp_advantages(rewards_PG, baseline=False)
    expected = [[right, wrong, wrong, wrong], [right, right, wrong, wrong]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_reinforce_pp_baseline_centers_on_the_group_and_divides_by_the_batch() -> None:
    """By hand: squares of (3/4 -1/4 -1/4 -1/4 | 1/2 1/2 -1/2 -1/2) have mean 7/32."""
    rewards_PG = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0] * 4])
    found = reinforce_pp_advantages(rewards_PG[:2], baseline=True)
    deviation = (7 / 32) ** 0.5
    expected = np.array([[0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5]]) / deviation
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not reinforce_pp_advantages(rewards_PG, baseline=True)[2].any()


@given(REWARDS)
def test_reinforce_pp_has_mean_zero_and_at_most_unit_deviation(
    rewards_PG: NDArray[np.float64],
) -> None:
    for baseline in (False, True):
        found = reinforce_pp_advantages(rewards_PG, baseline=baseline)
        assert abs(found.mean()) <= 1e-6
        assert found.std() <= 1 + 1e-9


def test_under_a_batch_baseline_a_group_of_equal_rewards_teaches() -> None:
    rewards_PG = np.array([[1.0, 1.0], [0.0, 0.0]])
    assert reinforce_pp_advantages(rewards_PG, baseline=False).all()
    assert not reinforce_pp_advantages(rewards_PG, baseline=True).any()
    for reward in (0.0, 0.1, 1.0):
        equal_PG = np.full((3, 7), reward)
        assert not reinforce_pp_advantages(equal_PG, baseline=False).any()


def test_a_completion_near_the_limit_is_penalised_linearly() -> None:
    """arXiv:2503.14476 eq. 13 with L_max 20, L_cache 4, at half its scale."""
    found = overlong_penalties(
        np.array([[5, 16, 17], [18, 19, 20]]), max_tokens=20, buffer_rate=0.2, penalty=0.5
    )
    np.testing.assert_allclose(found, [[0, 0, -0.125], [-0.25, -0.375, -0.5]], atol=1e-15)


@pytest.mark.parametrize("mode", ["grpo", "rloo", "reinforce_pp_baseline"])
def test_a_penalty_teaches_nothing_in_a_group_of_equal_rewards(mode: str) -> None:
    rewards_PG = np.array([[1.0, 1.0], [1.0, 0.0]])
    penalties_PG = np.array([[0.0, -0.5], [-0.5, 0.0]])
    found = advantages(mode, rewards_PG, penalties_PG=penalties_PG)  # type: ignore[arg-type]
    assert not found[0].any()
    np.testing.assert_allclose(found[1], -found[1, ::-1])
    assert found[1, 0] > 0
    if mode == "grpo":
        assert found[1].tolist() == [0.25, -0.25]


def test_under_a_batch_baseline_a_penalty_always_counts() -> None:
    rewards_PG, penalties_PG = np.ones((1, 2)), np.array([[0.0, -0.5]])
    found = advantages("reinforce_pp", rewards_PG, penalties_PG=penalties_PG)
    np.testing.assert_allclose(found, [[1.0, -1.0]], rtol=1e-5)


@given(REWARDS, st.sampled_from(OF_THE_GROUP))
def test_advantages_sum_to_zero_in_every_group(rewards_PG: NDArray[np.float64], mode: str) -> None:
    shaped_PG = advantages(mode, rewards_PG)  # type: ignore[arg-type]
    scale = np.abs(shaped_PG).sum(axis=1) + 1e-300
    assert np.all(np.abs(shaped_PG.sum(axis=1)) <= 1e-9 * scale + 1e-12)


@given(REWARDS, st.sampled_from(ADVANTAGE_MODES), st.integers(0, 99))
def test_the_order_within_a_group_does_not_matter(
    rewards_PG: NDArray[np.float64], mode: str, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(rewards_PG.shape[1])
    left = advantages(mode, rewards_PG)[:, order]  # type: ignore[arg-type]
    right = advantages(mode, rewards_PG[:, order])  # type: ignore[arg-type]
    np.testing.assert_allclose(left, right, rtol=1e-7, atol=1e-7)


@given(st.floats(0, 1e6), st.integers(1, 40), st.sampled_from(ADVANTAGE_MODES))
def test_equal_rewards_give_exactly_zero(reward: float, group: int, mode: str) -> None:
    rewards_PG = np.full((2, group), reward)
    assert not advantages(mode, rewards_PG).any()  # type: ignore[arg-type]
    assert not grpo_advantages(rewards_PG, normalize="std").any()


def test_almost_equal_rewards_still_teach() -> None:
    rewards_PG = np.array([[0.1, 0.1 + 1e-9]])
    assert grpo_advantages(rewards_PG).all()
    assert group_outcomes(rewards_PG).mixed == 1


def test_a_negative_reward_under_maxrl_names_the_way_out() -> None:
    with pytest.raises(AlgorithmicFailure, match=r"reward -1 is negative.*'grpo'"):
        maxrl_advantages(np.array([[1.0, -1.0]]))
    assert grpo_advantages(np.array([[1.0, -1.0]])).tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("mode", ADVANTAGE_MODES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_is_named(mode: str, bad: float) -> None:
    rewards_PG = np.ones((3, 4))
    rewards_PG[1, 2] = bad
    with pytest.raises(AlgorithmicFailure, match="group 1, completion 2"):
        advantages(mode, rewards_PG)  # type: ignore[arg-type]


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'maxrl'"):
        advantages("maxlr", np.ones((1, 2)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="divides by the group mean already"):
        advantages("maxrl", np.ones((1, 2)), normalize="std")
    with pytest.raises(ConfigError, match="only 'grpo' has the choice"):
        advantages("rloo", np.ones((1, 2)), normalize="std")


def test_the_rewards_are_not_changed() -> None:
    rewards_PG = np.array([[1.0, 0.0], [1.0, 1.0]])
    kept = rewards_PG.copy()
    maxrl_advantages(rewards_PG)
    grpo_advantages(rewards_PG, normalize="std")
    np.testing.assert_array_equal(rewards_PG, kept)


def test_groups_are_counted_by_outcome() -> None:
    found = group_outcomes(np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))
    assert (found.all_right, found.all_wrong, found.mixed) == (2, 1, 2)
    assert mixed_groups(np.array([[1.0, 1.0], [1.0, 0.0]])).tolist() == [False, True]
