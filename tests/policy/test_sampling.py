"""Decoding: inverse CDF, nucleus, greedy, and independence of neighbours and retired rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import AlgorithmicFailure
from cupel.policy.sampling import draw, nucleus
from cupel.policy.torch_policy import TorchPolicy


def by_hand(
    policy: TorchPolicy,
    prompt: list[int],
    uniforms_T: np.ndarray,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[int]:
    """Sample one row from full forward passes of the plain model, one token at a time."""
    ids: list[int] = []
    for uniform in uniforms_T:
        with torch.no_grad():
            logits = policy.lm.model(input_ids=torch.tensor([prompt + ids])).logits[0, -1].double()
        if temperature == 0:
            token = int(logits.argmax())
        else:
            q = torch.softmax(logits / temperature, -1).numpy()
            order = np.argsort(-q, kind="stable")
            before = np.cumsum(q[order]) - q[order]
            q[order[before >= top_p]] = 0.0
            cdf = np.cumsum(q)
            token = int(np.searchsorted(cdf, uniform * cdf[-1], side="right"))
        ids.append(token)
        if token == 2:
            break
    return ids


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.8), (0.0, 1.0)])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_rows_equal_one_token_at_a_time_sampling(
    small: Any, temperature: float, top_p: float, attention: str
) -> None:
    policy = small.policy(attention=attention)
    prompts = small.prompts([6, 3, 70])
    found = small.sample(policy, prompts, temperature=temperature, top_p=top_p)
    uniforms_NT = np.random.default_rng(1).random((12, 12))
    for row in range(12):
        want = by_hand(
            policy, prompts[row // 4], uniforms_NT[row], temperature=temperature, top_p=top_p
        )
        got = found.tokens_NT[row, : found.lengths_N[row]].tolist()
        assert got == want
        assert found.finished_N[row] == (want[-1] == 2)


@pytest.mark.parametrize("lengths", [[6, 3, 9], [60, 70, 64]])
def test_a_row_depends_neither_on_neighbours_nor_on_chunks(small: Any, lengths: list[int]) -> None:
    prompts = small.prompts(lengths)
    together = small.sample(small.policy(), prompts, max_tokens=40)
    chunked = small.sample(small.policy(sample_rows=4), prompts, max_tokens=40)
    assert len(set(together.lengths_N.tolist())) > 2, "rows must retire at different times"
    np.testing.assert_array_equal(together.tokens_NT, chunked.tokens_NT)
    uniforms_NT = np.random.default_rng(1).random((12, 40))
    for group in range(3):
        alone = small.policy().sample(
            [prompts[group]],
            group_size=4,
            max_tokens=40,
            temperature=1.0,
            top_p=1.0,
            uniforms_NT=uniforms_NT[4 * group : 4 * group + 4],
        )
        rows = slice(4 * group, 4 * group + 4)
        np.testing.assert_array_equal(alone.tokens_NT, together.tokens_NT[rows])
        np.testing.assert_allclose(
            alone.policy_logprobs_NT, together.policy_logprobs_NT[rows], atol=1e-5
        )


def test_padding_is_blank_and_a_finished_row_ends_with_the_end_token(small: Any) -> None:
    found = small.sample(small.policy(), small.prompts([5, 5]), max_tokens=40)
    assert found.tokens_NT.shape == (8, 40)
    for row, length in enumerate(found.lengths_N):
        assert (found.tokens_NT[row, length:] == 0).all()
        assert (found.policy_logprobs_NT[row, length:] == 0).all()
        assert (found.policy_logprobs_NT[row, :length] < 0).all()
        ended = found.tokens_NT[row, length - 1] == 2
        assert ended == found.finished_N[row]
        assert ended or length == 40


def test_q_is_what_was_sampled_and_pi_is_the_policy_at_one(small: Any) -> None:
    policy, prompts = small.policy(), small.prompts([5, 8])
    found = small.sample(policy, prompts, temperature=0.7, top_p=0.8)
    scores = policy.score(found)
    np.testing.assert_allclose(found.policy_logprobs_NT, scores.logprobs_NT, atol=2e-5)
    mask_NT = found.mask_NT
    assert found.sampler_logprobs_NT[mask_NT].mean() > found.policy_logprobs_NT[mask_NT].mean()
    greedy = small.sample(policy, prompts, temperature=0.0)
    assert (greedy.sampler_logprobs_NT == 0).all()
    assert (greedy.policy_logprobs_NT[greedy.mask_NT] < 0).all()


def test_frequencies_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([0.5, 0.25, 0.15, 0.1])).expand(40_000, 4)
    uniforms = torch.from_numpy((np.arange(40_000) + 0.5) / 40_000)
    counts = torch.bincount(draw(logits, uniforms, temperature=1.0, top_p=1.0).tokens_N).numpy()
    np.testing.assert_allclose(counts / 40_000, [0.5, 0.25, 0.15, 0.1], atol=1e-4)
    cut = draw(logits, uniforms, temperature=1.0, top_p=0.74)
    np.testing.assert_allclose(
        torch.bincount(cut.tokens_N).numpy() / 40_000, [2 / 3, 1 / 3], atol=1e-4
    )
    np.testing.assert_allclose(cut.sampler_logprobs_N[:1].exp().numpy(), [2 / 3], rtol=1e-6)
    np.testing.assert_allclose(cut.policy_logprobs_N[:1].exp().numpy(), [1 / 2], rtol=1e-6)


def test_the_largest_uniform_never_draws_an_impossible_token() -> None:
    logits = torch.full((1, 50), -torch.inf)
    logits[0, 3] = 0.0
    drawn = draw(
        logits, torch.tensor([1 - 2**-53], dtype=torch.float64), temperature=1.0, top_p=1.0
    )
    assert drawn.tokens_N.tolist() == [3]


@pytest.mark.parametrize("vocabulary", [8193, 9 * 1024, 20_001])
def test_a_large_vocabulary_is_drawn_from_as_a_small_one(vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    logits_NV = torch.from_numpy(4 * rng.normal(size=(300, vocabulary)))
    logits_NV[::3] -= 50 * torch.from_numpy(rng.random((100, vocabulary)) > 0.001)  # sparse rows
    logits_NV[:4, :] = -1e4
    logits_NV[[0, 1, 2, 3], [0, vocabulary - 1, 1023, 1024]] = 1e4  # all weight at a block's edge
    uniforms_N = torch.from_numpy(np.append(rng.random(298), [0.0, 1 - 2**-53]))
    drawn = draw(logits_NV, uniforms_N, temperature=1.0, top_p=1.0)
    q_NV = torch.softmax(logits_NV, dim=-1).numpy()
    cdf_NV = q_NV.cumsum(axis=1)
    want = [
        int(np.searchsorted(row, u * row[-1], side="right"))
        for row, u in zip(cdf_NV, uniforms_N.numpy(), strict=True)
    ]
    got = drawn.tokens_N.numpy()
    assert got[:298].tolist() == want[:298]
    assert (q_NV[np.arange(300), got] > 0).all()
    assert got[-1] <= want[-1]
    np.testing.assert_allclose(
        drawn.policy_logprobs_N.numpy(), np.log(q_NV[np.arange(300), got]), rtol=1e-9
    )


@given(st.integers(0, 10_000), st.floats(0.05, 0.999), st.sampled_from([5, 64, 300]))
def test_the_nucleus_equals_a_full_sort(seed: int, top_p: float, vocabulary: int) -> None:
    rng = np.random.default_rng(seed)
    q = torch.softmax(torch.from_numpy(rng.normal(0, rng.uniform(0.1, 5), (3, vocabulary))), -1)
    kept = (nucleus(q, top_p) > 0).numpy()
    for row in range(3):
        values = np.sort(q[row].numpy())[::-1]
        count = int((np.cumsum(values) - values < top_p).sum())
        assert kept[row].sum() == count


def test_a_diverged_model_is_an_outcome_not_a_sample(small: Any) -> None:
    policy = small.policy()
    with torch.no_grad():
        next(policy.lm.model.parameters()).fill_(float("nan"))
    with pytest.raises(AlgorithmicFailure, match="not finite"):
        small.sample(policy, small.prompts([4]))
