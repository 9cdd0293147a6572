"""The Tinker policy on a real server: what repeats, what resumes, and what is refused."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tinker")

from cupel.config import validate
from cupel.errors import ConfigError, DataError, InfrastructureFailure
from cupel.policy import PolicyConfig, build_policy
from cupel.policy.protocol import Completions, LossConfig, Metered
from cupel.policy.tinker.policy import TinkerPolicy

pytestmark = [pytest.mark.tinker, pytest.mark.filterwarnings("ignore::ResourceWarning")]

GROUP, TOKENS = 8, 24
TEXTS = ("1 + 2 =", "3 + 4 =", "12 + 9 =", "5 + 5 =")


def policy_on(url: str, model: str, *, seed: int = 0, **settings: Any) -> TinkerPolicy:
    tinker = {"base_url": url, "timeout_s": 120.0, **settings.pop("tinker", {})}
    data = {
        "backend": "tinker",
        "model": model,
        "lora": {"rank": 8},
        "grad_clip": 0.0,
        "tinker": tinker,
        **settings,
    }
    policy = build_policy(
        validate(PolicyConfig, data, where="policy"), device="cpu", threads=1, seed=seed
    )
    assert isinstance(policy, TinkerPolicy)
    return policy


@pytest.fixture(scope="module")
def policy(tinker_server: Any) -> TinkerPolicy:
    return policy_on(tinker_server.url, tinker_server.base_model)


def drawn(policy: TinkerPolicy, *, seed: int = 0, **settings: Any) -> Completions:
    prompts = [policy.tokenizer.encode(text) for text in TEXTS]
    asked = {"group_size": GROUP, "max_tokens": TOKENS, "temperature": 1.0, "top_p": 1.0}
    asked |= settings
    uniforms_NT = np.random.default_rng(seed).random((len(prompts) * asked["group_size"], TOKENS))
    return policy.sample(prompts, uniforms_NT=uniforms_NT, **asked)


def credit(rows_B: Any, logprobs_BT: Any, entropies_BT: Any) -> Any:
    signs_B = np.where(rows_B % 2 == 0, 1.0, -1.0)
    return np.repeat(signs_B[:, None], logprobs_BT.shape[1], axis=1)


def step(policy: TinkerPolicy, batch: Completions, lr: float = 1e-3) -> Any:
    trained_N = np.ones(len(batch.lengths_N), dtype=np.bool_)
    return policy.update(batch, trained_N=trained_N, credit=credit, loss=LossConfig(), lr=lr)


def test_the_same_counters_draw_the_same_completions(policy: TinkerPolicy) -> None:
    first, again, other = drawn(policy), drawn(policy), drawn(policy, seed=1)
    assert np.array_equal(first.tokens_NT, again.tokens_NT)
    assert not np.array_equal(first.tokens_NT, other.tokens_NT)
    groups = [first.tokens_NT[start : start + GROUP] for start in range(0, 4 * GROUP, GROUP)]
    distinct = [len({row.tobytes() for row in group}) for group in groups]
    assert min(distinct) > 1
    assert sum(distinct) > 2 * GROUP  # a peaked model repeats itself; equal seeds would give 4
    assert (first.tokens_NT[~first.mask_NT] == policy.tokenizer.pad_id).all()
    last_N = first.tokens_NT[np.arange(len(first.lengths_N)), first.lengths_N - 1]
    assert ((last_N == policy.tokenizer.eos_id) == first.finished_N).all()


def test_what_the_sampler_drew_from_is_unknown_where_the_server_does_not_tell_it(
    policy: TinkerPolicy,
) -> None:
    cooled = drawn(policy, temperature=0.7)
    assert cooled.sampler_logprobs_NT is None
    scored_NT = policy.score(cooled).logprobs_NT
    np.testing.assert_allclose(
        cooled.policy_logprobs_NT[cooled.mask_NT], scored_NT[cooled.mask_NT], rtol=0, atol=1e-4
    )
    greedy = drawn(policy, temperature=0.0, group_size=1)
    assert greedy.sampler_logprobs_NT is not None
    assert (greedy.sampler_logprobs_NT == 0).all()
    with pytest.raises(ConfigError, match="sampler_correction"):
        policy.update(
            cooled,
            trained_N=np.ones(len(cooled.lengths_N), dtype=np.bool_),
            credit=credit,
            loss=LossConfig(sampler_correction="truncate"),
            lr=1e-3,
        )


def test_a_restored_policy_goes_on_as_the_unbroken_one(tinker_server: Any, tmp_path: Path) -> None:
    unbroken = policy_on(tinker_server.url, tinker_server.base_model, seed=5)
    batch = drawn(unbroken)
    step(unbroken, batch)
    unbroken.save(tmp_path)
    record = json.loads((tmp_path / "tinker.json").read_text())
    assert record["path"].startswith("tinker://")
    assert (record["model"], record["rank"]) == (tinker_server.base_model, 8)
    step(unbroken, drawn(unbroken, seed=1))

    restored = policy_on(tinker_server.url, tinker_server.base_model, seed=99)
    restored.load(tmp_path)
    resumed = drawn(restored, seed=1)
    step(restored, resumed)
    ours, theirs = restored.score(batch), unbroken.score(batch)
    np.testing.assert_allclose(ours.logprobs_NT, theirs.logprobs_NT, rtol=0, atol=1e-6)
    assert isinstance(restored, Metered)
    account = restored.account()
    assert account["server_checkpoint"] == record["path"]
    assert int(account["spent_requests"] or 0) > record["spent"]["requests"]


def test_only_trained_rows_move_the_weights_and_no_row_moves_nothing(
    policy: TinkerPolicy,
) -> None:
    batch = drawn(policy)
    before = policy.score(batch).logprobs_NT.copy()
    none_N = np.zeros(len(batch.lengths_N), dtype=np.bool_)
    found = policy.update(batch, trained_N=none_N, credit=credit, loss=LossConfig(), lr=1.0)
    assert (found.loss, found.grad_norm, found.trained_tokens) == (0.0, 0.0, 0)
    assert np.array_equal(policy.score(drawn(policy)).logprobs_NT, before)


def test_a_limit_that_the_server_ignores_is_refused(tinker_server: Any) -> None:
    with pytest.raises(ConfigError, match=r"policy\.grad_clip = 1.*ignores"):
        policy_on(tinker_server.url, tinker_server.base_model, grad_clip=1.0)


def test_a_reduction_that_is_not_the_servers_is_refused(tinker_server: Any) -> None:
    with pytest.raises(ConfigError, match=r"server_reduction = 'sum'.*'seq_mean'"):
        policy_on(tinker_server.url, tinker_server.base_model, tinker={"server_reduction": "sum"})


def test_a_model_that_it_does_not_serve_is_named_with_those_it_does(tinker_server: Any) -> None:
    with pytest.raises(ConfigError, match=f"'nobody/nothing'; it has {tinker_server.base_model}"):
        policy_on(tinker_server.url, "nobody/nothing")


def test_a_rank_beyond_the_servers_is_told_in_its_words(tinker_server: Any) -> None:
    with pytest.raises(InfrastructureFailure, match="rank 4096"):
        policy_on(tinker_server.url, tinker_server.base_model, lora={"rank": 4096})


def test_a_server_that_is_not_there_is_one_line_at_once(tinker_server: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="is it up"):
            policy_on(url, tinker_server.base_model)


def test_a_checkpoint_of_another_server_or_model_is_refused(
    policy: TinkerPolicy, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="not a saved Tinker policy"):
        policy.load(tmp_path)
    record = {"path": "tinker://m/weights/x", "server": "http://else", "model": "m", "rank": 8}
    (tmp_path / "tinker.json").write_text(json.dumps({**record, "sdk": "0.25.0", "spent": {}}))
    with pytest.raises(DataError, match="saved by http://else"):
        policy.load(tmp_path)
