"""What a Tinker server does with a loss, found out on throw-away adapters before a run needs it.

Knows experiments whose outcomes differ by their sign or by orders of magnitude, so that they need
no calibration. Refuses to believe settings, and to touch the run's own adapters: the experiments
take optimizer steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.errors import ConfigError, GateFailure
from cupel.policy.config import PolicyConfig
from cupel.policy.tinker.client import TrainingClient
from cupel.policy.tinker.config import Reduction
from cupel.policy.tinker.wire import Row, shifted_row

LONG = 8
"""Positions of the longer probe row."""

NOISE = 1e-5
"""Nats by which the same token's log-probability may differ between two passes without a step."""

_ADAM = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}
_LINEAR = {"beta1": 0.0, "beta2": 0.0, "eps": 1.0, "weight_decay": 0.0}
_SMALL = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a server does.

    Attributes:
        reduction: how it adds up token losses.
        clips: whether it honours a limit of the gradient's norm; None where it was not asked.
    """

    reduction: Reduction
    clips: bool | None


def probe(client: TrainingClient, ids: Sequence[int], config: PolicyConfig) -> Found:
    """Find out what the server behind throw-away adapters does.

    Args:
        ids: of some text.

    Raises:
        GateFailure: the answers fit no way of adding up that is known.
        ConfigError: the server does otherwise than the settings say, or ignores one of them.
    """
    reduction = find_reduction(client, ids)
    given = config.tinker.server_reduction
    if given not in ("auto", reduction):
        raise ConfigError(
            f"policy.tinker.server_reduction = '{given}', but the server's gradient is that of "
            f"'{reduction}'; leave the setting out"
        )
    if not config.grad_clip:
        return Found(reduction=reduction, clips=None)
    if not honours_clip(client, ids):
        raise ConfigError(
            f"policy.grad_clip = {config.grad_clip:g}: this Tinker server ignores a limit of the "
            "gradient's norm; use policy.grad_clip = 0, its default with backend 'tinker'"
        )
    return Found(reduction=reduction, clips=True)


def find_reduction(client: TrainingClient, ids: Sequence[int]) -> Reduction:
    """Return how the server adds up token losses, from the sign of one step.

    Two rows begin alike. The short one says of their common first token "more likely" with weight
    1; the long one says "less likely" with weight 2 there, and nothing on its other positions.
    Summed up, 1 - 2 < 0: the token becomes less likely. As means over rows of means over positions,
    1 - 2 / 8 > 0: more likely. Both gradients lie on one line, so the sign is certain.

    Raises:
        GateFailure: the token's probability did not move.
    """
    short, long = _rows(ids)
    before = client.forward([short, long])
    wanted = [_first(short, 1.0), _first(long, -2.0)]
    _step(client, [short, long], before, wanted, learning_rate=1e-3, **_ADAM)
    moved = _moved(client, short, long, before)
    if abs(moved) <= NOISE:
        raise GateFailure(
            f"reduction probe: a step moved a token's log-probability by {moved:.2g} nats only: "
            "the server did not train on the probe's rows, or not with the advantages sent. "
            "Nothing can be trained on it"
        )
    return "sum" if moved < 0 else "seq_mean"


def honours_clip(client: TrainingClient, ids: Sequence[int]) -> bool:
    """Say whether a limit of the gradient's norm acts on the server.

    AdamW with both decay rates 0 and eps 1 moves weights in proportion to a small gradient. A limit
    of 1e-6 must make that movement vanish; the same step without one must not.

    Raises:
        GateFailure: no step moved anything, so that nothing can be said.
    """
    short, long = _rows(ids)
    for rate in (1.0, 10.0, 100.0):
        moved = []
        for limit in (_SMALL, 0.0):
            before = client.forward([short, long])
            wanted = [_first(short, 1.0), _first(long, 0.0)]
            settings = {**_LINEAR, "learning_rate": rate, "grad_clip_norm": limit}
            _step(client, [short, long], before, wanted, **settings)
            moved.append(abs(_moved(client, short, long, before)))
        if moved[0] > 100 * NOISE:
            return False
        if moved[1] > 100 * NOISE:
            return True
    raise GateFailure(
        "clip probe: no step moved a token's log-probability, so whether the server limits the "
        "gradient's norm cannot be known; use policy.grad_clip = 0"
    )


def _rows(ids: Sequence[int]) -> tuple[Row, Row]:
    """Return a row of one position and a longer one that begins with it."""
    assert ids, "the probe's text has tokens"
    tokens = [int(token) for token in (list(ids) * (LONG + 1))[: LONG + 1]]
    return shifted_row(tokens[:1], tokens[1:2]), shifted_row(tokens[:1], tokens[1:])


def _first(row: Row, advantage: float) -> NDArray[np.float32]:
    advantages_K = np.zeros(len(row.target_K), dtype=np.float32)
    advantages_K[0] = advantage
    return advantages_K


def _step(
    client: TrainingClient,
    rows: Sequence[Row],
    logprobs: Sequence[NDArray[np.floating]],
    advantages: Sequence[NDArray[np.float32]],
    **adam: float,
) -> None:
    """Take a step by the importance-sampling loss; rows carry no weights."""
    inputs = [
        {"logprobs": log_K.astype(np.float32), "advantages": advantage_K}
        for log_K, advantage_K in zip(logprobs, advantages, strict=True)
    ]
    client.forward_backward(rows, inputs, loss="importance_sampling")()
    client.optim_step(**adam)()


def _moved(
    client: TrainingClient, short: Row, long: Row, before: Sequence[NDArray[np.floating]]
) -> float:
    return float(client.forward([short, long])[0][0] - before[0][0])
