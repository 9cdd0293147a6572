"""What the official client makes of a server's faults: what it mends, what it hands on.

What it hands on as it is, is Cupel's to notice.
"""

from __future__ import annotations

import math
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy as np
import pytest

tinker = pytest.importorskip("tinker", reason="needs the extra 'tinker'")
types = tinker.types

from tests.tinker.client import (  # noqa: E402
    PROMPT,
    connect,
    done,
    policy_datum,
    sampled,
    step,
    target_logprobs,
    trainer,
)
from tests.tinker.fake_server import FakeServer  # noqa: E402
from tests.tinker.faults import Fault  # noqa: E402
from tests.tinker.servers import KEY  # noqa: E402

FORWARD = "importance_sampling"


@pytest.fixture
def model(fake_tinker: FakeServer) -> Any:
    return trainer(fake_tinker)


def rows(model: Any, count: int = 2) -> list[types.Datum]:
    sequences = sampled(model.save_weights_and_get_sampling_client(), count=count)
    return [policy_datum(each.tokens, each.logprobs, 1.0, weights=False) for each in sequences]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(route="optim_step", kind="status", status=429, headers=(("Retry-After", "0"),)),
        Fault(route="optim_step", kind="status", status=503),
        Fault(route="optim_step", kind="drop"),
        Fault(route="optim_step", kind="drop_reply"),
        Fault(route="retrieve_future", kind="status", status=503),
    ],
    ids=lambda fault: f"{fault.route}-{fault.kind}-{fault.status}",
)
def test_a_passing_fault_costs_time_and_never_a_second_step(
    fake_tinker: FakeServer, model: Any, fault: Fault
) -> None:
    data = rows(model)
    twin = trainer(fake_tinker)
    for client, script in ((twin, ()), (model, (fault,))):
        done(client.forward_backward(data, FORWARD))
        fake_tinker.fail(*script)
        step(client, 1e-2)
    assert fake_tinker.script.calls[fault.route] > 1
    expected, found = (np.concatenate(target_logprobs(each, data)) for each in (twin, model))
    np.testing.assert_array_equal(found, expected)


def test_a_refused_row_is_told_at_once_and_leaves_the_model_usable(
    fake_tinker: FakeServer, model: Any
) -> None:
    data = rows(model)
    fake_tinker.fail(
        Fault(route="forward_backward", kind="status", status=400, text="datum 3 is too long")
    )
    with pytest.raises(tinker.BadRequestError, match="datum 3 is too long"):
        done(model.forward_backward(data, FORWARD))
    assert fake_tinker.script.calls["forward_backward"] == 1
    done(model.forward_backward(data, FORWARD))


def test_the_fake_itself_refuses_rows_that_the_hosted_service_does_not_document(
    model: Any,
) -> None:
    (each,) = sampled(model.save_weights_and_get_sampling_client(), count=1)
    weighted = policy_datum(each.tokens, each.logprobs, 1.0, weights=True)
    with pytest.raises(tinker.BadRequestError, match="unknown loss_fn_inputs"):
        done(model.forward_backward([weighted], FORWARD))


@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [
        ("failed", tinker.RequestFailedError, "scripted fault"),
        ("future_status", ValueError, "status 404"),
    ],
)
def test_a_request_that_fails_later_fails_with_the_servers_words(
    fake_tinker: FakeServer, model: Any, kind: Any, error: type[Exception], match: str
) -> None:
    data = rows(model)
    fake_tinker.fail(Fault(route="forward_backward", kind=kind, status=404))
    with pytest.raises(error, match=match):
        done(model.forward_backward(data, FORWARD))


@pytest.mark.parametrize(
    "fault",
    [Fault(route="asample", kind="never"), Fault(route="asample", kind="hang", seconds=20)],
    ids=lambda fault: fault.kind,
)
def test_a_silent_server_is_waited_for_until_the_callers_own_deadline(
    fake_tinker: FakeServer, model: Any, fault: Fault
) -> None:
    client = model.save_weights_and_get_sampling_client()
    fake_tinker.fail(fault)
    future = client.sample(
        types.ModelInput.from_ints(PROMPT), 1, types.SamplingParams(max_tokens=4)
    )
    with pytest.raises(FutureTimeoutError):
        future.result(timeout=0.5)


def test_samples_are_handed_on_however_wrong(fake_tinker: FakeServer, model: Any) -> None:
    client = model.save_weights_and_get_sampling_client()

    def spoilt(kind: Any) -> list[Any]:
        fake_tinker.fail(Fault(route="asample", kind=kind))
        return sampled(client, count=4)

    assert len({tuple(each.tokens) for each in spoilt("duplicates")}) == 1
    assert len(spoilt("too_few")) == 3
    assert spoilt("missing_logprobs")[0].logprobs is None
    assert math.isnan(spoilt("nan_logprobs")[0].logprobs[0])
    assert not any(spoilt("zero_logprobs")[0].logprobs)
    short = spoilt("short_logprobs")[0]
    assert len(short.logprobs) == len(short.tokens) - 1


def test_a_forward_pass_is_handed_on_however_wrong(fake_tinker: FakeServer, model: Any) -> None:
    data = rows(model)
    honest = done(model.forward(data, FORWARD))

    def spoilt(kind: Any) -> Any:
        fake_tinker.fail(Fault(route="forward_backward", kind=kind))
        return done(model.forward(data, FORWARD))

    def logprobs(result: Any) -> Any:
        return np.array(result.loss_fn_outputs[0]["logprobs"].data)

    assert set(honest.metrics) == {"loss:sum"}
    assert spoilt("no_metrics").metrics == {}
    assert math.isnan(spoilt("nan_loss").metrics["loss:sum"])
    assert "logprobs" not in spoilt("missing_logprobs").loss_fn_outputs[0]
    assert np.isnan(logprobs(spoilt("nan_logprobs"))).all()
    assert len(logprobs(spoilt("short_logprobs"))) == len(logprobs(honest)) - 1
    moved = logprobs(honest) - logprobs(spoilt("shifted_logprobs"))
    np.testing.assert_allclose(moved, 0.5, atol=1e-6)


def test_a_step_without_effect_is_not_noticed(fake_tinker: FakeServer, model: Any) -> None:
    data = rows(model)
    before = np.concatenate(target_logprobs(model, data))
    done(model.forward_backward(data, FORWARD))
    fake_tinker.fail(Fault(route="optim_step", kind="no_effect"))
    step(model, 1e-2)
    np.testing.assert_array_equal(np.concatenate(target_logprobs(model, data)), before)
    done(model.forward_backward(data, FORWARD))
    step(model, 1e-2)
    assert np.abs(np.concatenate(target_logprobs(model, data)) - before).max() > 0


def test_after_a_restart_only_checkpoints_are_left(fake_tinker: FakeServer, model: Any) -> None:
    data = rows(model)
    done(model.forward_backward(data, FORWARD))
    step(model, 1e-2)
    saved = done(model.save_state("one")).path
    expected = np.concatenate(target_logprobs(model, data))
    fake_tinker.forget()
    with pytest.raises(tinker.NotFoundError, match="Model not found"):
        done(model.forward_backward(data, FORWARD))
    restored = connect(fake_tinker).create_training_client_from_state_with_optimizer(saved)
    np.testing.assert_array_equal(np.concatenate(target_logprobs(restored, data)), expected)


def test_a_base_model_the_server_has_not_is_named(fake_tinker: FakeServer) -> None:
    with pytest.raises(tinker.BadRequestError, match="Unknown base model: nobody/nothing"):
        connect(fake_tinker).create_lora_training_client(base_model="nobody/nothing", rank=8)


def test_a_wrong_key_is_refused_and_a_missing_one_never_sent(
    fake_tinker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(tinker.AuthenticationError, match="Invalid API key"):
        connect(fake_tinker, key="tml-somebody-else").get_server_capabilities()
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    monkeypatch.delenv("TINKER_CREDENTIAL_CMD", raising=False)
    with pytest.raises(tinker.TinkerError, match="TINKER_API_KEY"):
        tinker.ServiceClient(base_url=fake_tinker.url).get_server_capabilities()
    assert fake_tinker.requests == []
    assert connect(fake_tinker, key=KEY).get_server_capabilities().supported_models


def test_a_server_that_refuses_the_clients_version_says_so(fake_tinker: FakeServer) -> None:
    text = "SDK version 0.25.0 is no longer supported; upgrade"
    fake_tinker.fail(Fault(route="client/config", kind="status", status=400, text=text))
    with pytest.raises(tinker.BadRequestError, match="no longer supported"):
        connect(fake_tinker).get_server_capabilities()
