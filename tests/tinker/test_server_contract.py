"""What Cupel's Tinker backend relies on, asked of every server it is tested against.

The same tests run on the scripted server, once reducing like the hosted service and once like
SkyRL's, and on SkyRL itself. Where servers differ, the difference is what is tested.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

tinker = pytest.importorskip("tinker", reason="needs the extra 'tinker'")
types = tinker.types

from tests.tinker.client import (  # noqa: E402
    EOS,
    PROMPT,
    connect,
    done,
    gradient_norm,
    policy_datum,
    sampled,
    step,
    target_logprobs,
    trainer,
)
from tests.tinker.fake_server import FakeServer  # noqa: E402
from tests.tinker.servers import Server  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A server with one model on it.

    Attributes:
        sums: whether it is told to behave like the hosted service.
        weights: whether its rows must say which targets count.
    """

    server: Server
    client: Any
    sums: bool

    @property
    def weights(self) -> bool:
        return not self.sums

    def rows(self, count: int = 4, *, seed: int = 1, **datum: Any) -> list[types.Datum]:
        """Sample completions and give them advantages +1, -1, +1 ..."""
        sequences = sampled(
            self.client.save_weights_and_get_sampling_client(), count=count, seed=seed
        )
        signs = itertools.cycle((1.0, -1.0))
        return [
            policy_datum(each.tokens, each.logprobs, sign, weights=self.weights, **datum)
            for each, sign in zip(sequences, signs, strict=False)
        ]


@pytest.fixture(scope="module")
def bench(any_server: Server) -> Bench:
    sums = isinstance(any_server, FakeServer) and any_server.reduction == "sum"
    return Bench(server=any_server, client=trainer(any_server), sums=sums)


def test_the_server_names_its_one_base_model(bench: Bench) -> None:
    known = connect(bench.server).get_server_capabilities().supported_models
    assert [model.model_name for model in known] == [bench.server.base_model]


def test_the_tokenizer_is_the_base_models(bench: Bench) -> None:
    tokenizer = bench.client.get_tokenizer()
    assert tokenizer.decode(PROMPT) == "<bos>what is 2 + 3 ?"


def test_a_seed_gives_the_same_tokens_again_and_a_group_is_not_one_completion(
    bench: Bench,
) -> None:
    client = bench.client.save_weights_and_get_sampling_client()
    first, again, other = (
        [tuple(each.tokens) for each in sampled(client, seed=seed)] for seed in (5, 5, 99)
    )
    assert first == again
    assert first != other
    assert len(set(first)) == len(first)


def test_the_same_seeds_do_not_depend_on_how_many_are_asked(bench: Bench) -> None:
    client = bench.client.save_weights_and_get_sampling_client()
    eight = [each.tokens for each in sampled(client, seed=5)]
    one_by_one = [sampled(client, count=1, seed=5 + index)[0].tokens for index in range(3)]
    assert eight[:3] == one_by_one


def test_a_completion_ends_with_its_stop_token_only_where_one_is_asked_for(bench: Bench) -> None:
    client = bench.client.save_weights_and_get_sampling_client()
    free = sampled(client, count=64, max_tokens=24)
    stopped = sampled(client, count=64, max_tokens=24, stop=[EOS])
    assert {each.stop_reason for each in free} == {"length"}
    assert all(len(each.tokens) == 24 for each in free)
    assert {each.stop_reason for each in stopped} == {"stop", "length"}
    for each in stopped:
        ends = each.tokens[-1] == EOS
        assert ends == (each.stop_reason == "stop")
        assert EOS not in each.tokens[:-1]
        assert len(each.logprobs) == len(each.tokens)


def test_a_cooler_sampler_still_reports_the_models_own_logprobs(bench: Bench) -> None:
    client = bench.client.save_weights_and_get_sampling_client()
    sequences = sampled(client, count=4, temperature=0.5)
    rows = [
        policy_datum(each.tokens, each.logprobs, 1.0, weights=bench.weights) for each in sequences
    ]
    for row, each in zip(target_logprobs(bench.client, rows), sequences, strict=True):
        np.testing.assert_allclose(row[len(PROMPT) - 1 :], each.logprobs, atol=1e-5)


def test_sampler_and_trainer_agree_on_a_shifted_row_and_only_on_a_shifted_one(
    bench: Bench,
) -> None:
    sequences = sampled(bench.client.save_weights_and_get_sampling_client())
    rows = [
        policy_datum(each.tokens, each.logprobs, 1.0, weights=bench.weights) for each in sequences
    ]
    found = target_logprobs(bench.client, rows)
    gaps = []
    for row, each in zip(found, sequences, strict=True):
        np.testing.assert_allclose(row[len(PROMPT) - 1 :], each.logprobs, atol=1e-5)
        gaps.append(np.abs(row[len(PROMPT) - 2 : -1] - each.logprobs).max())
    assert min(gaps) > 0.1


def test_prompt_logprobs_are_the_trainers(bench: Bench) -> None:
    client = bench.client.save_weights_and_get_sampling_client()
    found = done(client.compute_logprobs(types.ModelInput.from_ints(PROMPT)))
    row = policy_datum(PROMPT[-1:], [0.0], 0.0, weights=bench.weights, prompt=PROMPT[:-1])
    (expected,) = target_logprobs(bench.client, [row])
    # The hosted service counts the first token too, as None; SkyRL leaves it out.
    found = found[1:] if found[0] is None else found
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_identical_rows_tell_how_the_server_reduces(bench: Bench) -> None:
    row = bench.rows(1)
    ratio = gradient_norm(bench.client, row * 2) / gradient_norm(bench.client, row)
    assert ratio == pytest.approx(2.0 if bench.sums else 1.0, rel=1e-4)


def test_a_longer_completion_tells_whether_tokens_are_averaged(bench: Bench) -> None:
    (each,) = sampled(bench.client.save_weights_and_get_sampling_client(), count=1)
    size = len(each.tokens)
    only_first = [1.0] + [0.0] * (size - 1)
    whole = policy_datum(each.tokens, each.logprobs, only_first, weights=bench.weights)
    short = policy_datum(each.tokens[:1], each.logprobs[:1], 1.0, weights=bench.weights)
    ratio = gradient_norm(bench.client, [short]) / gradient_norm(bench.client, [whole])
    assert ratio == pytest.approx(1.0 if bench.sums else size, rel=1e-3)


def test_gradients_of_two_calls_add_up_before_a_step(bench: Bench) -> None:
    rows = bench.rows(4)
    together = gradient_norm(bench.client, rows)
    done(bench.client.forward_backward(rows[:2], "importance_sampling"))
    apart = gradient_norm(bench.client, rows[2:])
    assert apart == pytest.approx(together, rel=1e-4)


def test_an_advantage_is_per_token_and_zero_means_no_gradient(bench: Bench) -> None:
    (each,) = sampled(bench.client.save_weights_and_get_sampling_client(), count=1)
    signs = np.where(np.arange(len(each.tokens)) % 2 == 0, 1.0, 0.0)

    def norm(advantages: Any) -> float:
        row = policy_datum(each.tokens, each.logprobs, list(advantages), weights=bench.weights)
        return gradient_norm(bench.client, [row])

    assert norm(0 * signs) == 0.0
    assert norm(2 * signs) == pytest.approx(2 * norm(signs), rel=1e-4)
    assert norm(-signs) == pytest.approx(norm(signs), rel=1e-4)
    assert norm(1 - signs) != pytest.approx(norm(signs), rel=1e-2)


def test_only_a_summing_server_reports_its_loss(bench: Bench) -> None:
    (row,) = bench.rows(1)
    result = done(bench.client.forward(
        [row], "importance_sampling"
    ))  # fmt: skip
    by_token = np.array(result.loss_fn_outputs[0]["elementwise_loss"].data)
    if bench.sums:
        assert result.metrics["loss:sum"] == pytest.approx(by_token.sum(), rel=1e-5)
    else:
        assert result.metrics == {}
    # Ratio 1 and advantage 1: each completion token costs -1, the prompt nothing.
    np.testing.assert_allclose(by_token[len(PROMPT) - 1 :], -1.0, atol=1e-4)
    assert not by_token[: len(PROMPT) - 1].any()


def test_a_ratio_outside_the_clip_range_stops_ppos_gradient_and_not_that_of_importance_sampling(
    bench: Bench,
) -> None:
    (each,) = sampled(bench.client.save_weights_and_get_sampling_client(), count=1)
    old = [logprob - 0.5 for logprob in each.logprobs]  # ratio e^0.5, above 1.2
    row = [policy_datum(each.tokens, old, 1.0, weights=bench.weights)]
    assert gradient_norm(bench.client, row, "ppo") == 0.0
    assert gradient_norm(bench.client, row) > 0.0


def test_only_a_hosted_server_clips_the_gradient(bench: Bench) -> None:
    rows = bench.rows(2)
    # With a huge epsilon Adam's step is proportional to the gradient.
    moved = []
    for limit in (0.0, 1e-3):
        client = trainer(bench.server)
        before = target_logprobs(client, rows)
        done(client.forward_backward(rows, "importance_sampling"))
        step(client, 1e-1, eps=1.0, grad_clip_norm=limit)
        after = target_logprobs(client, rows)
        moved.append(max(np.abs(b - a).max() for a, b in zip(before, after, strict=True)))
    free, limited = moved
    assert free > 0
    assert limited < 0.1 * free if bench.sums else limited == pytest.approx(free, rel=1e-4)


def test_a_loss_of_the_callers_own_has_its_true_scale_only_where_tokens_are_summed(
    bench: Bench,
) -> None:
    (given,) = bench.rows(1)
    targets = {"target_tokens": given.loss_fn_inputs["target_tokens"]}
    row = [types.Datum(model_input=given.model_input, loss_fn_inputs=targets)]

    def norm(scale: float) -> float:
        def loss(_: Any, logprobs: Any) -> Any:
            return scale * sum(each.sum() for each in logprobs), {}

        done(bench.client.forward_backward_custom(row, loss))
        metrics = step(bench.client, 0.0)
        return next(value for name, value in metrics.items() if "grad_norm" in name)

    try:
        ratio = norm(-10.0) / norm(-1.0)
    except KeyError as missing:
        # Newer clients want a server that sums: the averaging ones do not report its metric.
        if bench.sums or missing.args != ("loss:sum",):
            raise
        return
    assert ratio == pytest.approx(10.0 if bench.sums else 1.0, rel=1e-3)


def test_a_step_changes_the_next_sampler_and_not_the_last_one(bench: Bench) -> None:
    client = trainer(bench.server, seed=3)
    old = client.save_weights_and_get_sampling_client()
    prompt = types.ModelInput.from_ints(PROMPT)
    before = done(old.compute_logprobs(prompt))
    sequences = sampled(old, count=2)
    rows = [policy_datum(s.tokens, s.logprobs, 1.0, weights=bench.weights) for s in sequences]
    done(client.forward_backward(rows, "importance_sampling"))
    step(client, 1e-2)
    new = client.save_weights_and_get_sampling_client()
    (logprobs, *_) = target_logprobs(client, rows)
    again = sampled(new, count=2)
    assert logprobs[len(PROMPT) - 1 :] != pytest.approx(sequences[0].logprobs, abs=1e-3)
    fresh = policy_datum(again[0].tokens, again[0].logprobs, 1.0, weights=bench.weights)
    (expected,) = target_logprobs(client, [fresh])
    np.testing.assert_allclose(again[0].logprobs, expected[len(PROMPT) - 1 :], atol=1e-5)
    assert done(old.compute_logprobs(prompt)) == pytest.approx(before, abs=1e-6, nan_ok=True)


def test_a_restored_model_takes_the_same_next_steps(bench: Bench) -> None:
    client = trainer(bench.server, seed=4)
    sequences = sampled(client.save_weights_and_get_sampling_client(), count=4)
    rows = [
        policy_datum(each.tokens, each.logprobs, sign, weights=bench.weights)
        for each, sign in zip(sequences, (1.0, -1.0, 1.0, -1.0), strict=True)
    ]

    def go_on(model: Any) -> list[Any]:
        path = []
        for _ in range(3):
            done(model.forward_backward(rows, "importance_sampling"))
            step(model, 1e-2)
            path.append(np.concatenate(target_logprobs(model, rows)))
        return path

    go_on(client)
    saved = done(client.save_state("third")).path
    restored = connect(bench.server).create_training_client_from_state_with_optimizer(saved)
    forgetful = connect(bench.server).create_training_client_from_state(saved)
    expected = go_on(client)
    np.testing.assert_allclose(go_on(restored), expected, atol=1e-5)
    # Without its moments Adam starts anew: the first step is another one.
    assert np.abs(go_on(forgetful)[0] - expected[0]).max() > 1e-4


def test_what_a_server_refuses_reaches_the_client_in_its_words(bench: Bench) -> None:
    row = bench.rows(1)
    with pytest.raises(Exception, match=r"(?i)loss_fn"):
        done(bench.client.forward_backward(row, "no_such_loss"))
    with pytest.raises(Exception, match=r"(?i)rank"):
        trainer(bench.server, rank=4096)
    assert gradient_norm(bench.client, row) > 0
