"""The toy policy is exact: its distribution, its gradient and its files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import AlgorithmicFailure, DataError
from cupel.policy import Completions, LossConfig
from cupel.policy.toy_policy import PIECES, ToyPolicy, ToyTokenizer, softmax

PROMPTS = [[12, 13], [14], [15, 11, 10]]


def step(policy: ToyPolicy, completions: Completions, **changes: Any) -> Any:
    values = np.random.default_rng(3).normal(size=completions.tokens_NT.shape)
    settings: dict[str, Any] = {
        "trained_N": np.ones(len(completions.lengths_N), dtype=np.bool_),
        "credit": lambda rows, logprobs, entropies: values[rows],
        "loss": LossConfig(),
        "lr": 0.5,
    }
    return policy.update(completions, **{**settings, **changes})


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = ToyTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_what_it_can_say_is_encoded_as_said() -> None:
    tokenizer = ToyTokenizer()
    ids = tokenizer.encode(" wait let me check so the answer is\\boxed{-42}.")
    assert max(ids) < len(PIECES)
    assert tokenizer.decode([0, *ids, 1]) == " wait let me check so the answer is\\boxed{-42}."


def test_samples_follow_the_uniforms_and_scores_are_exact(small: Any) -> None:
    policy = ToyPolicy(seed=4)
    completions = small.sample(policy, PROMPTS, max_tokens=8)
    scores = policy.score(completions)
    mask_NT = completions.mask_NT
    np.testing.assert_array_equal(scores.logprobs_NT, completions.policy_logprobs_NT)
    np.testing.assert_array_equal(
        completions.sampler_logprobs_NT[mask_NT], completions.policy_logprobs_NT[mask_NT]
    )
    assert scores.entropies_NT is not None
    assert (scores.entropies_NT[mask_NT] <= np.log(len(PIECES) - 1) + 1e-6).all()
    assert (scores.entropies_NT[mask_NT] > 2.5).all()
    ends = completions.tokens_NT[np.arange(12), completions.lengths_N - 1] == 1
    np.testing.assert_array_equal(ends, completions.finished_N)
    assert (completions.tokens_NT[mask_NT] > 0).all()


@pytest.mark.parametrize("kl_coef", [0.0, 0.4])
def test_the_gradient_is_the_finite_difference(small: Any, kl_coef: float) -> None:
    policy = ToyPolicy(seed=4)
    completions = small.sample(policy, PROMPTS, max_tokens=4)
    values = np.random.default_rng(3).normal(size=(12, 4))
    tokens = int(completions.mask_NT.sum())
    reference = np.where(completions.mask_NT, np.random.default_rng(5).normal(-3, 1, (12, 4)), 0.0)
    table = policy._logits_CTV.copy()

    def objective(logits_CTV: np.ndarray) -> float:
        pi = softmax(np.repeat(logits_CTV, 4, axis=0)[:, :4])
        picked = np.take_along_axis(pi, completions.tokens_NT[..., None].astype(int), -1)[..., 0]
        logs = np.log(picked, where=completions.mask_NT, out=np.zeros_like(picked))
        gap = reference - logs
        return float((kl_coef * (np.exp(gap) - gap - 1) - logs * values).sum() / tokens)

    loss = LossConfig(kl_coef=kl_coef)
    step(policy, completions, lr=1.0, loss=loss, reference_logprobs_NT=reference)
    moved = np.nan_to_num(table, neginf=0.0) - np.nan_to_num(policy._logits_CTV, neginf=0.0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        at = (int(rng.integers(3)), int(rng.integers(4)), int(rng.integers(1, len(PIECES))))
        up, down = table.copy(), table.copy()
        up[at] += 1e-5
        down[at] -= 1e-5
        slope = (objective(up) - objective(down)) / 2e-5
        assert moved[at] == pytest.approx(slope, abs=1e-8)
    assert np.abs(moved).max() > 1e-3


def test_the_reference_is_the_policy_before_its_first_update(small: Any, tmp_path: Path) -> None:
    policy = ToyPolicy(seed=4)
    completions = small.sample(policy, PROMPTS, max_tokens=8)
    before = policy.score(completions).logprobs_NT
    np.testing.assert_array_equal(policy.score_reference(completions), before)
    step(policy, completions)
    policy.save(tmp_path)
    again = ToyPolicy(seed=99)
    again.load(tmp_path)
    assert (policy.score(completions).logprobs_NT != before).any()
    for one in (policy, again):
        np.testing.assert_array_equal(one.score_reference(completions), before)


def test_it_learns_a_rewarded_digit() -> None:
    policy, rng = ToyPolicy(seed=0), np.random.default_rng(0)
    rates = []
    for _ in range(60):
        completions = policy.sample(
            PROMPTS,
            group_size=8,
            max_tokens=3,
            temperature=1.0,
            top_p=1.0,
            uniforms_NT=rng.random((24, 3)),
        )
        rewards = (completions.tokens_NT[:, 0] == 15).astype(float)
        centred = (rewards.reshape(3, 8) - rewards.reshape(3, 8).mean(1, keepdims=True)).ravel()

        def credit(
            rows: Any, logprobs: np.ndarray, entropies: Any, values: np.ndarray = centred
        ) -> np.ndarray:
            return np.broadcast_to(values[rows, None], logprobs.shape)

        step(policy, completions, trained_N=centred != 0, credit=credit, lr=20.0)
        rates.append(rewards.mean())
    assert np.mean(rates[:5]) < 0.3
    assert np.mean(rates[-5:]) > 0.9


def test_saved_and_resumed_equals_unbroken(small: Any, tmp_path: Path) -> None:
    unbroken = ToyPolicy(seed=1)
    for seed in range(4):
        step(unbroken, small.sample(unbroken, PROMPTS, max_tokens=6, seed=seed))
        if seed == 1:
            unbroken.save(tmp_path)
    resumed = ToyPolicy(seed=77)
    resumed.load(tmp_path)
    for seed in (2, 3):
        step(resumed, small.sample(resumed, PROMPTS, max_tokens=6, seed=seed))
    assert resumed.weights_sha256() == unbroken.weights_sha256()
    more = [*PROMPTS, [17]]
    first, second = (small.sample(p, more, max_tokens=9) for p in (resumed, unbroken))
    np.testing.assert_array_equal(first.tokens_NT, second.tokens_NT)


def test_a_prompts_first_distribution_does_not_depend_on_order(small: Any) -> None:
    forwards, backwards = ToyPolicy(seed=1), ToyPolicy(seed=1)
    one = small.sample(forwards, [[12], [13]], max_tokens=5)
    other = small.sample(backwards, [[13], [12]], max_tokens=5)
    scored = backwards.score(one)
    np.testing.assert_array_equal(scored.logprobs_NT, one.policy_logprobs_NT)
    assert other.prompts != one.prompts


def test_a_bad_advantage_fails_and_leaves_the_table(small: Any) -> None:
    policy = ToyPolicy()
    completions = small.sample(policy, PROMPTS, max_tokens=4)
    before = policy.weights_sha256()
    with pytest.raises(AlgorithmicFailure, match="advantage"):
        step(policy, completions, credit=lambda rows, lp, h: np.full(lp.shape, np.inf))
    assert policy.weights_sha256() == before


def test_loading_from_elsewhere_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        ToyPolicy().load(tmp_path)


def test_ten_steps_cost_little(small: Any) -> None:
    def ten_steps() -> float:
        policy = ToyPolicy()
        started = time.process_time()
        for seed in range(10):
            completions = small.sample(policy, [*PROMPTS, [16]], max_tokens=8, seed=seed)
            step(policy, completions)
        return time.process_time() - started

    assert min(ten_steps() for _ in range(5)) < 0.02
