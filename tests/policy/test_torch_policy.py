"""One scoring path: equal to per-row forwards, in values, gradients, microbatches and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cupel.errors import AlgorithmicFailure, DataError
from cupel.policy import Completions, KnownCredit, LossConfig, UpdateResult
from cupel.policy.torch_policy import TorchPolicy

LENGTHS = [6, 3, 55]


def per_row(policy: TorchPolicy, completions: Completions, row: int) -> torch.Tensor:
    """Return log pi of one row's tokens from a plain forward pass without padding or caches."""
    prompt = list(completions.prompts[row // completions.group_size])
    tokens = completions.tokens_NT[row, : completions.lengths_N[row]].tolist()
    ids = torch.tensor([prompt + tokens])
    logits = policy.lm.model(input_ids=ids, use_cache=False).logits[0]
    return torch.log_softmax(logits.float(), -1)[len(prompt) - 1 : -1]


def advantages_for(completions: Completions) -> np.ndarray:
    return np.random.default_rng(3).normal(size=completions.tokens_NT.shape)


def step(policy: TorchPolicy, completions: Completions, **changes: Any) -> UpdateResult:
    values = advantages_for(completions)
    settings: dict[str, Any] = {
        "trained_N": np.ones(len(completions.lengths_N), dtype=np.bool_),
        "credit": lambda rows, logprobs, entropies: values[rows],
        "loss": LossConfig(),
        "lr": 1e-3,
    }
    return policy.update(completions, **{**settings, **changes})


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_scores_equal_rows_alone(small: Any, attention: str) -> None:
    policy = small.policy(attention=attention)
    completions = small.sample(policy, small.prompts(LENGTHS))
    scores = policy.score(completions)
    for row in range(12):
        with torch.no_grad():
            logs = per_row(policy, completions, row)
        length = completions.lengths_N[row]
        picked = logs.gather(1, torch.from_numpy(completions.tokens_NT[row, :length, None]).long())
        np.testing.assert_allclose(scores.logprobs_NT[row, :length], picked[:, 0], atol=2e-5)
        want = -(logs.exp() * logs).sum(-1)
        np.testing.assert_allclose(scores.entropies_NT[row, :length], want, atol=2e-5)
        assert (scores.logprobs_NT[row, length:] == 0).all()
        assert (scores.entropies_NT[row, length:] == 0).all()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("budget", [1, 90, 4096])
def test_the_update_equals_adamw_on_per_row_gradients(small: Any, budget: int, tied: bool) -> None:
    policy = small.policy(tied=tied, microbatch_tokens=budget)
    completions = small.sample(policy, small.prompts(LENGTHS))
    trained_N = np.ones(12, dtype=np.bool_)
    trained_N[[1, 8, 9, 10, 11]] = False
    reference = small.policy(tied=tied)
    values = advantages_for(completions)
    tokens = int(completions.lengths_N[trained_N].sum())
    loss = torch.zeros(())
    for row in np.flatnonzero(trained_N):
        length = completions.lengths_N[row]
        targets = torch.from_numpy(completions.tokens_NT[row, :length, None]).long()
        logprobs = per_row(reference, completions, row).gather(1, targets)[:, 0]
        weights = torch.from_numpy(values[row, :length]).float()
        loss = loss - (torch.exp(logprobs - logprobs.detach()) * weights).sum() / tokens
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = list(reference.lm.model.parameters())
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0).step()
    result = step(policy, completions, trained_N=trained_N)
    assert result.loss == pytest.approx(float(loss.detach()), abs=1e-6)
    assert result.grad_norm == pytest.approx(float(norm), rel=1e-4)
    assert result.trained_tokens == tokens
    assert result.ratio_mean == 1.0
    for got, want in zip(policy.lm.model.parameters(), parameters, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=5e-5)


def test_scores_of_an_update_are_those_before_it(small: Any) -> None:
    policy = small.policy()
    completions = small.sample(policy, small.prompts(LENGTHS))
    before = policy.score(completions)
    trained_N = np.arange(12) % 3 != 0
    result = step(policy, completions, trained_N=trained_N)
    np.testing.assert_allclose(result.scores.logprobs_NT, before.logprobs_NT, atol=1e-5)
    np.testing.assert_allclose(result.scores.entropies_NT, before.entropies_NT, atol=1e-5)
    after = policy.score(completions)
    assert np.abs(after.logprobs_NT - before.logprobs_NT).max() > 1e-3


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(normaliser="sequence"),
        LossConfig(kind="ppo", normaliser="constant"),
        LossConfig(kind="gspo", clip_eps=3e-4),
        LossConfig(kind="cispo", clip_eps_high=4.0),
    ],
    ids=lambda loss: loss.kind,
)
def test_credit_known_before_changes_the_work_and_not_the_step(
    small: Any, tied: bool, loss: LossConfig
) -> None:
    """Chunks of 7 positions: the head's gradient is made in the forward pass."""
    settings = {"tied": tied, "logprob_chunk": 7, "microbatch_tokens": 90}
    plain, fused = small.policy(**settings), small.policy(**settings)
    completions = small.sample(plain, small.prompts(LENGTHS))
    trained_N = np.arange(12) % 4 != 1
    known = KnownCredit(advantages_NT=advantages_for(completions))
    want = step(plain, completions, trained_N=trained_N, loss=loss)
    got = step(fused, completions, trained_N=trained_N, loss=loss, credit=known)
    assert got.loss == pytest.approx(want.loss, abs=1e-9)
    assert got.grad_norm == pytest.approx(want.grad_norm, rel=1e-5)
    assert got.ratio_mean == 1.0
    np.testing.assert_allclose(got.scores.logprobs_NT, want.scores.logprobs_NT, atol=1e-6)
    pairs = zip(fused.lm.model.parameters(), plain.lm.model.parameters(), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=5e-5)


def test_off_policy_ratios_are_against_the_given_logprobs(small: Any) -> None:
    policy = small.policy()
    completions = small.sample(policy, small.prompts(LENGTHS))
    old = policy.score(completions).logprobs_NT
    shifted = np.where(completions.mask_NT, old - np.float32(np.log(2.0)), 0).astype(np.float32)
    result = step(policy, completions, loss=LossConfig(kind="ppo"), old_logprobs_NT=shifted, lr=0.0)
    assert result.ratio_mean == pytest.approx(2.0, rel=1e-4)
    positive = advantages_for(completions)[completions.mask_NT] > 0
    assert result.clip_fraction == pytest.approx(float(positive.mean()))


def test_with_nothing_to_train_the_weights_stay_and_every_row_is_scored(small: Any) -> None:
    policy = small.policy()
    completions = small.sample(policy, small.prompts(LENGTHS))
    before = policy.weights_sha256()
    result = step(policy, completions, trained_N=np.zeros(12, dtype=np.bool_))
    assert policy.weights_sha256() == before
    assert (result.trained_tokens, result.grad_norm, result.loss) == (0, 0.0, 0.0)
    assert (result.scores.logprobs_NT[completions.mask_NT] < 0).all()


@pytest.mark.parametrize("bad", [np.nan, 1e300])
def test_a_bad_number_fails_and_leaves_the_weights(small: Any, bad: float) -> None:
    policy = small.policy()
    completions = small.sample(policy, small.prompts(LENGTHS))
    before = policy.weights_sha256()
    with pytest.raises(AlgorithmicFailure, match=r"not finite|gradient norm"):
        step(policy, completions, credit=lambda rows, logprobs, h: np.full(logprobs.shape, bad))
    assert policy.weights_sha256() == before
    assert all(parameter.grad is None for parameter in policy.lm.model.parameters())


def test_two_runs_are_bitwise_equal_and_a_resumed_one_too(small: Any, tmp_path: Path) -> None:
    def advance(policy: TorchPolicy, first: int, last: int) -> list[float]:
        losses = []
        for number in range(first, last):
            completions = small.sample(policy, small.prompts(LENGTHS, seed=number), seed=number)
            losses.append(step(policy, completions).loss)
        return losses

    unbroken, again = small.policy(), small.policy()
    losses = advance(unbroken, 0, 6)
    assert advance(again, 0, 3) == losses[:3]
    again.save(tmp_path)
    resumed = small.policy(seed=99)
    assert resumed.weights_sha256() != again.weights_sha256()
    resumed.load(tmp_path)
    assert advance(resumed, 3, 6) == losses[3:]
    assert resumed.weights_sha256() == unbroken.weights_sha256()


def test_a_saved_policy_is_a_model_folder(small: Any, tmp_path: Path) -> None:
    from cupel.policy import PolicyConfig, build_policy

    policy = small.policy()
    policy.save(tmp_path)
    config = PolicyConfig(backend="torch", model=str(tmp_path))
    rebuilt = build_policy(config, device="cpu", threads=1, seed=0)
    assert rebuilt.weights_sha256() == policy.weights_sha256()
    assert rebuilt.tokenizer.piece_bytes == policy.tokenizer.piece_bytes


def test_loading_names_what_is_wrong(small: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a saved policy"):
        small.policy().load(tmp_path)
    small.policy(tied=False).save(tmp_path)
    with pytest.raises(DataError, match=r"lm_head\.weight"):
        small.policy().load(tmp_path)


def test_calls_leave_global_torch_state_alone(small: Any) -> None:
    policy = small.policy()
    torch.manual_seed(5)
    state, precision = torch.get_rng_state(), torch.get_float32_matmul_precision()
    completions = small.sample(policy, small.prompts(LENGTHS))
    step(policy, completions)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_float32_matmul_precision() == precision


def test_concurrency_changes_the_passes_and_not_the_result(small: Any) -> None:
    policy = small.policy(microbatch_tokens=4096)
    completions = small.sample(policy, small.prompts(LENGTHS))
    everyone = np.ones(12, dtype=np.bool_)
    one = policy._scorer.plan(completions, everyone)
    before = policy.score(completions)
    policy.set_concurrency("microbatch_tokens", 1)
    policy.set_concurrency("sample_rows", 4)
    assert (len(one), len(policy._scorer.plan(completions, everyone))) == (1, 12)
    after = policy.score(completions)
    np.testing.assert_allclose(after.logprobs_NT, before.logprobs_NT, atol=1e-5)
    again = small.sample(policy, small.prompts(LENGTHS))
    assert policy.config.sample_rows == 4
    np.testing.assert_array_equal(again.tokens_NT, completions.tokens_NT)
