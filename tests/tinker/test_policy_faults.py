"""What a Tinker server does wrong is waited out or ends the run in one line: nothing is made up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tinker")

from cupel.config import validate
from cupel.errors import AlgorithmicFailure, ConfigError, GateFailure, InfrastructureFailure
from cupel.policy import PolicyConfig, build_policy
from cupel.policy.protocol import Completions, LossConfig
from cupel.policy.tinker.policy import TinkerPolicy
from tests.tinker.fake_server import FakeServer
from tests.tinker.faults import Fault

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.usefixtures("tinker_key"),
]

GROUP, TOKENS = 4, 12
QUICK = {"timeout_s": 20.0, "deadline_s": 30.0, "retries": 3, "backoff_s": 0.01}


def policy_on(server: Any, *, seed: int = 0, **settings: Any) -> TinkerPolicy:
    tinker = {"base_url": server.url, **QUICK, **settings.pop("tinker", {})}
    data = {
        "backend": "tinker",
        "model": server.base_model,
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


def drawn(policy: TinkerPolicy, *, seed: int = 0, temperature: float = 1.0) -> Completions:
    prompts = [policy.tokenizer.encode(text) for text in ("1 + 2 =", "3 + 4 =", "5 + 5 =")]
    uniforms_NT = np.random.default_rng(seed).random((len(prompts) * GROUP, TOKENS))
    return policy.sample(
        prompts,
        group_size=GROUP,
        max_tokens=TOKENS,
        temperature=temperature,
        top_p=1.0,
        uniforms_NT=uniforms_NT,
    )


def credit(rows_B: Any, logprobs_BT: Any, entropies_BT: Any) -> Any:
    signs_B = np.where(rows_B % 2 == 0, 1.0, -1.0)
    return np.repeat(signs_B[:, None], logprobs_BT.shape[1], axis=1)


def step(policy: TinkerPolicy, batch: Completions, loss: LossConfig | None = None) -> Any:
    trained_N = np.ones(len(batch.lengths_N), dtype=np.bool_)
    return policy.update(
        batch, trained_N=trained_N, credit=credit, loss=loss or LossConfig(), lr=1e-2
    )


@pytest.fixture
def policy(fake_tinker: FakeServer) -> Iterator[TinkerPolicy]:
    policy = policy_on(fake_tinker)
    yield policy
    policy.close()


def test_a_summing_server_is_found_out_and_its_clip_is_used(fake_tinker: FakeServer) -> None:
    policy = policy_on(fake_tinker, grad_clip=0.5)
    assert policy.found.reduction == "sum"
    assert policy.found.clips is True
    assert policy.describe()["grad_clip_honoured"] is True


@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
def test_either_kind_of_server_takes_the_same_step(normaliser: Any) -> None:
    loss = LossConfig(normaliser=normaliser)
    found = []
    for reduction in ("sum", "seq_mean"):
        with FakeServer(reduction=reduction) as server:
            policy = policy_on(server)
            batch = drawn(policy)
            result = step(policy, batch, loss)
            found.append((result.loss, result.grad_norm, policy.score(batch).logprobs_NT))
    (loss_a, norm_a, after_a), (loss_b, norm_b, after_b) = found
    assert loss_a == pytest.approx(loss_b, rel=1e-5)
    assert norm_a == pytest.approx(norm_b, rel=1e-4)
    np.testing.assert_allclose(after_a, after_b, rtol=0, atol=1e-4)


def test_a_server_that_takes_no_step_is_refused(fake_tinker: FakeServer) -> None:
    fake_tinker.fail(Fault(route="optim_step", kind="no_effect"))
    with pytest.raises(GateFailure, match="reduction probe"):
        policy_on(fake_tinker)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_that_passes_is_waited_out(
    policy: TinkerPolicy, fake_tinker: FakeServer, status: int
) -> None:
    expected = drawn(policy)
    fake_tinker.fail(Fault(route="asample", kind="status", status=status, call=1))
    again = drawn(policy)
    assert np.array_equal(again.tokens_NT, expected.tokens_NT)


def test_a_request_that_hangs_ends_at_its_deadline(fake_tinker: FakeServer) -> None:
    policy = policy_on(
        fake_tinker, tinker={"timeout_s": 0.5, "deadline_s": 1.5, "retries": 2, "backoff_s": 0.01}
    )
    drawn(policy)
    fake_tinker.fail(Fault(route="asample", kind="never", calls=99))
    started = time.monotonic()
    with pytest.raises(InfrastructureFailure, match=r"group \d of 3.*failed requests"):
        drawn(policy)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("too_few", "3 completions came back, 4 were asked"),
        ("nan_logprobs", "log-probabilities that are none"),
        ("missing_logprobs", "0 log-probabilities for"),
        ("short_logprobs", "log-probabilities for"),
    ],
)
def test_a_group_with_a_hole_ends_the_run(
    policy: TinkerPolicy, fake_tinker: FakeServer, kind: Any, said: str
) -> None:
    drawn(policy)
    fake_tinker.fail(Fault(route="asample", kind=kind, call=2))
    with pytest.raises(InfrastructureFailure, match=said):
        drawn(policy)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing_logprobs", "without log-probabilities"),
        ("short_logprobs", "shape"),
        ("nan_logprobs", "not finite"),
        ("failed", "scripted fault"),
    ],
)
def test_a_gradient_whose_forward_pass_is_unusable_ends_the_run(
    policy: TinkerPolicy, fake_tinker: FakeServer, kind: Any, said: str
) -> None:
    batch = drawn(policy)
    policy.score(batch)
    fake_tinker.fail(Fault(route="forward_backward", kind=kind))
    with pytest.raises(InfrastructureFailure, match=said):
        step(policy, batch)


def test_a_trainer_that_is_not_the_samplers_fails_the_gate(
    policy: TinkerPolicy, fake_tinker: FakeServer
) -> None:
    fake_tinker.fail(Fault(route="forward_backward", kind="shifted_logprobs"))
    with pytest.raises(GateFailure, match="ratio gate"):
        drawn(policy)


def test_a_first_update_that_scores_otherwise_takes_no_step(
    policy: TinkerPolicy, fake_tinker: FakeServer
) -> None:
    batch = drawn(policy)
    before = policy.score(batch).logprobs_NT.copy()
    steps = fake_tinker.count("optim_step")
    fake_tinker.fail(Fault(route="forward_backward", kind="shifted_logprobs"))
    with pytest.raises(GateFailure, match="first update"):
        step(policy, batch)
    assert fake_tinker.count("optim_step") == steps
    policy._forget()
    np.testing.assert_allclose(policy.score(batch).logprobs_NT, before, rtol=0, atol=1e-6)


def test_the_loss_is_computed_where_the_server_tells_none(
    policy: TinkerPolicy, fake_tinker: FakeServer
) -> None:
    batch = drawn(policy)
    policy.score(batch)
    fake_tinker.fail(Fault(route="forward_backward", kind="no_metrics"))
    lengths_N = batch.lengths_N
    expected = -(np.where(np.arange(12) % 2 == 0, 1, -1) * lengths_N).sum() / lengths_N.sum()
    assert step(policy, batch).loss == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_no_number_is_the_methods_failure(
    policy: TinkerPolicy, fake_tinker: FakeServer
) -> None:
    batch = drawn(policy)
    policy.score(batch)
    fake_tinker.fail(Fault(route="forward_backward", kind="nan_loss"))
    with pytest.raises(AlgorithmicFailure, match="nan"):
        step(policy, batch)


def test_an_advantage_that_is_no_number_is_never_sent(
    policy: TinkerPolicy, fake_tinker: FakeServer
) -> None:
    batch = drawn(policy)
    asked = fake_tinker.count("forward_backward")
    with pytest.raises(AlgorithmicFailure, match="advantage is not finite"):
        policy.update(
            batch,
            trained_N=np.ones(len(batch.lengths_N), dtype=np.bool_),
            credit=lambda rows_B, logs_BT, _: np.full(logs_BT.shape, np.nan),
            loss=LossConfig(),
            lr=1e-2,
        )
    assert fake_tinker.count("forward_backward") == asked + 1  # the scores alone


def test_after_a_failed_update_a_new_policy_goes_on_from_the_checkpoint(
    policy: TinkerPolicy, fake_tinker: FakeServer, tmp_path: Path
) -> None:
    batch = drawn(policy)
    step(policy, batch)
    policy.save(tmp_path)
    saved = policy.score(batch).logprobs_NT.copy()
    fake_tinker.fail(Fault(route="optim_step", kind="failed"))
    with pytest.raises(InfrastructureFailure, match="the optimizer step"):
        step(policy, batch)
    again = policy_on(fake_tinker, seed=9)
    again.load(tmp_path)
    np.testing.assert_allclose(again.score(batch).logprobs_NT, saved, rtol=0, atol=1e-6)
    found = step(again, batch)
    assert found.ratio_mean == pytest.approx(1, abs=1e-5)


def test_a_server_that_forgot_the_session_ends_the_run_in_its_words(
    policy: TinkerPolicy, fake_tinker: FakeServer
) -> None:
    drawn(policy)
    fake_tinker.forget()
    with pytest.raises(InfrastructureFailure, match="not found"):
        drawn(policy)


def test_a_key_that_is_not_accepted_never_stands_in_the_message(
    fake_tinker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "tml-secret-of-mine")
    with pytest.raises(ConfigError, match="401") as caught:
        policy_on(fake_tinker)
    assert "secret-of-mine" not in str(caught.value)


def test_no_more_requests_are_in_flight_than_the_bound(fake_tinker: FakeServer) -> None:
    policy = policy_on(fake_tinker, tinker={"max_in_flight": 1})
    drawn(policy)
    fake_tinker.fail(Fault(route="asample", kind="hang", seconds=0.2, calls=3))
    started = time.monotonic()
    drawn(policy)
    assert time.monotonic() - started > 0.6
