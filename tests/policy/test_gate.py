"""The ratio gate passes honest rows on every policy and refuses a shifted one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from cupel.errors import GateFailure
from cupel.policy import (
    Completions,
    KnownCredit,
    LossConfig,
    Policy,
    PolicyConfig,
    Scores,
    build_policy,
)
from cupel.policy.gate import check_ratio_gate, gated_credit, sampler_statistics


@pytest.fixture(params=["tiny", "torch", "toy"])
def case(request: pytest.FixtureRequest, small: Any) -> tuple[Policy, Completions]:
    policy: Policy
    if request.param == "torch":
        policy = small.policy()
        return policy, small.sample(policy, small.prompts([6, 3, 55]))
    config = PolicyConfig(backend=request.param)
    policy = build_policy(config, device="cpu", threads=1, seed=0)
    texts = ["what is 12 + 3 ?", "what is 60 - 4 + 3 ?", "what is 71 - 9 + 3 - 2 ?"]
    prompts = [policy.tokenizer.encode(text) for text in texts]
    return policy, small.sample(policy, prompts, max_tokens=30)


def shifted(scores: Scores) -> Scores:
    """Return what a training row off by one position scores: token t where t + 1 stands."""
    return dataclasses.replace(scores, logprobs_NT=np.roll(scores.logprobs_NT, 1, axis=1))


def no_credit(rows: Any, logprobs: np.ndarray, entropies: Any) -> np.ndarray:
    return np.zeros_like(logprobs)


def test_honest_rows_pass(case: tuple[Policy, Completions]) -> None:
    policy, completions = case
    scores = policy.score(completions)
    assert check_ratio_gate(completions, scores) == pytest.approx(1.0, abs=1e-4)
    everyone = np.ones(len(completions.lengths_N), dtype=np.bool_)
    credit = gated_credit(no_credit, completions, scores)
    policy.update(completions, trained_N=everyone, credit=credit, loss=LossConfig(), lr=0.0)


def test_a_row_off_by_one_is_refused_before_any_step(case: tuple[Policy, Completions]) -> None:
    policy, completions = case
    scores = policy.score(completions)
    with pytest.raises(GateFailure, match=r"misaligned by one.*token i \+ 1"):
        check_ratio_gate(completions, shifted(scores))
    before = policy.weights_sha256()
    everyone = np.ones(len(completions.lengths_N), dtype=np.bool_)
    nothing = KnownCredit(advantages_NT=np.zeros(completions.mask_NT.shape))
    for credit in (no_credit, nothing):
        gated = gated_credit(credit, completions, shifted(scores))
        with pytest.raises(GateFailure, match="pi_new / pi_old of the first update"):
            policy.update(completions, trained_N=everyone, credit=gated, loss=LossConfig(), lr=1.0)
        assert policy.weights_sha256() == before


def test_a_forward_pass_over_shifted_inputs_is_refused(small: Any) -> None:
    policy = small.policy()
    completions = small.sample(policy, small.prompts([6, 3, 55]))
    late = dataclasses.replace(
        completions, prompts=tuple(prompt[:-1] for prompt in completions.prompts)
    )
    with pytest.raises(GateFailure, match="mean ratio"):
        check_ratio_gate(completions, policy.score(late))


def test_errors_that_cancel_in_the_mean_are_refused_too(small: Any) -> None:
    policy = small.policy()
    completions = small.sample(policy, small.prompts([6, 3, 55]))
    scores = policy.score(completions)
    count = int(completions.mask_NT.sum()) // 2 * 2
    noise = np.zeros(completions.mask_NT.sum(), dtype=np.float32)
    noise[:count:2], noise[1:count:2] = np.log(1.5), np.log(0.5)
    logprobs_NT = scores.logprobs_NT.copy()
    logprobs_NT[completions.mask_NT] += noise
    with pytest.raises(GateFailure, match="nats"):
        check_ratio_gate(completions, dataclasses.replace(scores, logprobs_NT=logprobs_NT))


def test_sampler_statistics_are_zero_on_policy_and_the_kept_mass_off_it(small: Any) -> None:
    policy = small.policy()
    prompts = small.prompts([6, 3, 55])
    plain = small.sample(policy, prompts)
    found = sampler_statistics(plain, policy.score(plain).logprobs_NT)
    assert found.sampler_kl == pytest.approx(0.0, abs=1e-8)
    assert found.sampler_ratio_mean == pytest.approx(1.0, abs=1e-4)
    cut = small.sample(policy, prompts, top_p=0.6)
    found = sampler_statistics(cut, policy.score(cut).logprobs_NT)
    assert 0.6 <= found.sampler_ratio_mean < 0.85
    assert found.sampler_kl > 0.01
