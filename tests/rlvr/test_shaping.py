"""From rewards to token advantages as the loop does it, and the update they lead to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cupel.policy.protocol import Completions
from cupel.policy.toy_policy import ToyPolicy
from cupel.rlvr.advantages import advantages
from cupel.rlvr.shaping import Shaping, improve
from tests.rlvr.toy_runs import toy_config


def sampled(policy: ToyPolicy, *, problems: int = 2, group_size: int = 4) -> Completions:
    rng = np.random.default_rng(5)
    return policy.sample(
        [policy.tokenizer.encode(str(digit)) for digit in range(problems)],
        group_size=group_size,
        max_tokens=6,
        temperature=1.0,
        top_p=1.0,
        uniforms_NT=rng.random((problems * group_size, 6)),
    )


def shaping_of(
    completions: Completions, rewards: list[list[float]], *, sepa_lambda: float = 0.0, **modes: Any
) -> Shaping:
    config = toy_config(group_size=len(rewards[0]), max_tokens=6, lr=1.0, **modes)
    mask_NT = completions.mask_NT
    return Shaping(
        config=config,
        advantages_N=advantages(
            config.advantage_mode, np.array(rewards), normalize=config.normalize
        ).reshape(-1),
        planning_NT=mask_NT & (np.arange(mask_NT.shape[1]) % 2 == 0),
        mask_NT=mask_NT,
        sepa_lambda=sepa_lambda,
    )


def credit_of(shaping: Shaping, policy: ToyPolicy, completions: Completions) -> np.ndarray:
    scores = policy.score(completions)
    assert scores.entropies_NT is not None
    return shaping.credit(
        np.arange(len(completions.lengths_N)),
        scores.logprobs_NT.astype(np.float64),
        scores.entropies_NT.astype(np.float64),
    )


def test_one_right_of_four_earns_three_on_each_of_its_tokens() -> None:
    policy = ToyPolicy(seed=3)
    completions = sampled(policy, problems=1)
    shaping = shaping_of(
        completions, [[1.0, 0.0, 0.0, 0.0]], advantage_mode="maxrl", transform_mode="none"
    )
    credit_NT = credit_of(shaping, policy, completions)
    for row, expected in enumerate((3.0, -1.0, -1.0, -1.0)):
        length = completions.lengths_N[row]
        assert credit_NT[row, :length].tolist() == [expected] * length
        assert not credit_NT[row, length:].any()


def test_a_group_that_is_right_throughout_teaches_nothing() -> None:
    completions = sampled(ToyPolicy(seed=3), problems=3)
    shaping = shaping_of(completions, [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]])
    assert shaping.trained_N.tolist() == [False] * 8 + [True] * 4
    assert not shaping.advantages_N[:8].any()


def test_a_batch_that_teaches_nothing_leaves_the_policy_alone() -> None:
    policy = ToyPolicy(seed=3)
    completions = sampled(policy)
    before = policy.weights_sha256()
    assert (
        improve(policy, completions, shaping_of(completions, [[1] * 4, [0] * 4]), gate=True) is None
    )
    assert policy.weights_sha256() == before


@pytest.mark.parametrize("mode", ["gtpo", "gtpo_hicra", "gtpo_sepa"])
def test_a_transform_moves_credit_between_tokens(mode: str) -> None:
    policy = ToyPolicy(seed=3, grad_clip=10.0)
    completions = sampled(policy)
    rewards = [[1.0, 0, 0, 0], [1.0, 1.0, 0, 0]]
    teach(policy, completions)
    plain = credit_of(shaping_of(completions, rewards, transform_mode="none"), policy, completions)
    shaped = credit_of(
        shaping_of(completions, rewards, transform_mode=mode, sepa_lambda=0.5), policy, completions
    )
    assert np.abs(shaped - plain).max() > 1e-4
    assert not shaped[~completions.mask_NT].any()
    assert (np.sign(shaped) == np.sign(plain)).all()


def teach(policy: ToyPolicy, completions: Completions) -> None:
    """Take a step, so that entropies differ between positions."""
    shaping = shaping_of(completions, [[1.0, 0, 0, 0], [1.0, 1.0, 0, 0]], transform_mode="none")
    improve(policy, completions, shaping, gate=False)


def test_lambda_is_in_force_only_with_sepa() -> None:
    policy = ToyPolicy(seed=3)
    completions = sampled(policy)
    rewards = [[1.0, 0, 0, 0], [1.0, 1.0, 0, 0]]
    teach(policy, completions)
    for mode in ("none", "gtpo", "gtpo_hicra"):
        off, on = (
            shaping_of(completions, rewards, transform_mode=mode, sepa_lambda=value)
            for value in (0.0, 1.0)
        )
        assert on.effective_lambda == 0.0
        assert (credit_of(off, policy, completions) == credit_of(on, policy, completions)).all()
    sepa = shaping_of(completions, rewards, transform_mode="gtpo_sepa", sepa_lambda=1.0)
    assert sepa.effective_lambda == 1.0


def test_credit_does_not_depend_on_how_rows_are_batched() -> None:
    policy = ToyPolicy(seed=3)
    completions = sampled(policy)
    teach(policy, completions)
    shaping = shaping_of(completions, [[1.0, 0, 0, 0], [1.0, 1.0, 0, 0]], sepa_lambda=0.3)
    scores = policy.score(completions)
    whole = credit_of(shaping, policy, completions)
    assert scores.entropies_NT is not None
    for rows in (np.array([6, 1]), np.array([7]), np.array([3, 2, 5, 0])):
        part = shaping.credit(
            rows,
            scores.logprobs_NT[rows].astype(np.float64),
            scores.entropies_NT[rows].astype(np.float64),
        )
        assert (part == whole[rows]).all()


def test_scores_of_repeated_updates_are_those_before_the_first() -> None:
    policy = ToyPolicy(seed=3)
    completions = sampled(policy)
    before = policy.score(completions)
    shaping = shaping_of(
        completions, [[1.0, 0, 0, 0], [1.0, 1.0, 0, 0]], updates_per_batch=4, loss={"kind": "ppo"}
    )
    update = improve(policy, completions, shaping, gate=True)
    assert update is not None
    assert (update.scores.logprobs_NT == before.logprobs_NT).all()
    assert update.ratio_max > 1
    assert (policy.score(completions).logprobs_NT != before.logprobs_NT).any()


def test_the_update_raises_what_earned_credit() -> None:
    policy = ToyPolicy(seed=3)
    completions = sampled(policy, problems=1)
    before = policy.score(completions).logprobs_NT.sum(axis=1)
    shaping = shaping_of(completions, [[1.0, 0.0, 0.0, 0.0]], transform_mode="none")
    improve(policy, completions, shaping, gate=True)
    after = policy.score(completions).logprobs_NT.sum(axis=1)
    assert after[0] > before[0]
    assert after[1:].sum() < before[1:].sum()


def test_uninformative_groups_dilute_the_loss_only_when_kept() -> None:
    rewards = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    norms = {}
    for policy_of_groups in ("drop", "keep"):
        policy = ToyPolicy(seed=3)
        completions = sampled(policy)
        shaping = shaping_of(
            completions, rewards, transform_mode="none", uninformative_groups=policy_of_groups
        )
        update = improve(policy, completions, shaping, gate=False)
        assert update is not None
        norms[policy_of_groups] = (update.grad_norm, update.trained_tokens)
    (dropped, few), (kept, all_tokens) = norms["drop"], norms["keep"]
    assert few < all_tokens == completions.lengths_N.sum()
    assert kept == pytest.approx(dropped * few / all_tokens, rel=1e-9)


def test_keeping_groups_makes_no_step_out_of_nothing() -> None:
    policy = ToyPolicy(seed=3)
    completions = sampled(policy)
    shaping = shaping_of(completions, [[0.0] * 4, [0.0] * 4], uninformative_groups="keep")
    assert improve(policy, completions, shaping, gate=False) is None
