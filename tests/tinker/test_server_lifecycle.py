"""A real server that is killed, and what is left of it when it is started again."""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import numpy as np
import pytest

tinker = pytest.importorskip("tinker", reason="needs the extra 'tinker'")

from tests.tinker.client import (  # noqa: E402
    connect,
    done,
    policy_datum,
    sampled,
    step,
    target_logprobs,
    trainer,
)
from tests.tinker.conftest import real_server  # noqa: E402
from tests.tinker.servers import RealServer  # noqa: E402

pytestmark = pytest.mark.tinker


def test_a_killed_server_starts_again_with_its_checkpoints_and_without_its_models(
    own_tinker_server: RealServer,
) -> None:
    server = own_tinker_server
    client = trainer(server)
    sequences = sampled(client.save_weights_and_get_sampling_client(), count=4)
    rows = [policy_datum(each.tokens, each.logprobs, 1.0, weights=True) for each in sequences]
    done(client.forward_backward(rows, "importance_sampling"))
    step(client, 1e-2)
    saved = done(client.save_state("one")).path
    done(client.forward_backward(rows, "importance_sampling"))
    step(client, 1e-2)
    expected = np.concatenate(target_logprobs(client, rows))

    server.kill()
    assert not server.answers()
    waiting = client.forward(rows, "importance_sampling")
    with pytest.raises(FutureTimeoutError):
        waiting.result(timeout=2)

    server.start()
    restored = connect(server).create_training_client_from_state_with_optimizer(saved)
    done(restored.forward_backward(rows, "importance_sampling"))
    step(restored, 1e-2)
    np.testing.assert_allclose(np.concatenate(target_logprobs(restored, rows)), expected, atol=1e-5)
    with pytest.raises((ValueError, tinker.TinkerError), match=r"(?i)model"):
        done(client.forward(rows, "importance_sampling"))


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = real_server(tmp_path / "broken")
    broken.options = ("--backend", "{")
    with pytest.raises(RuntimeError, match=r"(?s)did not start.*JSONDecodeError"):
        broken.start()
    assert not broken.answers()
