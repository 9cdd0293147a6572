"""The official client, with every wait bounded and datums built from plain lists.

Knows the SDK's words. Refuses to know Cupel: what these tests find out is what Cupel's own backend
may rely on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tinker
from numpy.typing import NDArray
from tinker import types

from tests.tinker.servers import KEY, Server

WAIT_S = 240.0
"""The first requests compile; nothing here may wait for ever."""
PROMPT = [1, 24, 25, 16, 26, 17, 32]
EOS = 2


def connect(server: Server, key: str = KEY) -> Any:
    """Open a session."""
    return tinker.ServiceClient(base_url=server.url, api_key=key)


def trainer(server: Server, *, seed: int = 0, rank: int = 8) -> Any:
    """Open a session and create a model."""
    return connect(server).create_lora_training_client(
        base_model=server.base_model, rank=rank, seed=seed
    )


def done(future: Any) -> Any:
    """Return a future's result."""
    return future.result(timeout=WAIT_S)


def sampled(client: Any, *, count: int = 8, seed: int = 1, **settings: Any) -> list[Any]:
    """Sample after PROMPT."""
    asked = types.SamplingParams(**{"max_tokens": 24, "temperature": 1.0, "seed": seed, **settings})
    return list(done(client.sample(types.ModelInput.from_ints(PROMPT), count, asked)).sequences)


def policy_datum(
    completion: Sequence[int],
    logprobs: Sequence[float],
    advantages: Sequence[float] | float,
    *,
    weights: bool,
    prompt: Sequence[int] = PROMPT,
) -> types.Datum:
    """Build a shifted row: position i of the input predicts target i.

    Args:
        weights: whether to say which targets count; the hosted service knows no such input.
    """
    size = len(completion)
    given = [advantages] * size if isinstance(advantages, int | float) else list(advantages)
    whole = [*prompt, *completion]
    ahead = [0.0] * (len(prompt) - 1)
    inputs = {
        "target_tokens": _tensor(whole[1:], "int64"),
        "logprobs": _tensor([*ahead, *logprobs]),
        "advantages": _tensor([*ahead, *given]),
    }
    if weights:
        inputs["weights"] = _tensor([*ahead, *[1.0] * size])
    return types.Datum(model_input=types.ModelInput.from_ints(whole[:-1]), loss_fn_inputs=inputs)


def target_logprobs(client: Any, data: list[types.Datum]) -> list[NDArray[np.float64]]:
    """Evaluate the trainer's logprobs of every target, without a gradient."""
    outputs = done(client.forward(data, "importance_sampling")).loss_fn_outputs
    return [np.array(output["logprobs"].data, np.float64) for output in outputs]


def step(client: Any, lr: float = 1e-3, **settings: Any) -> dict[str, float]:
    """Take an optimizer step."""
    adam = types.AdamParams(**{"learning_rate": lr, "eps": 1e-8, **settings})
    return dict(done(client.optim_step(adam)).metrics or {})


def gradient_norm(client: Any, data: list[types.Datum], loss: str = "importance_sampling") -> float:
    """Return the norm of a batch's gradient; the weights stay as they are."""
    done(client.forward_backward(data, loss))
    (norm,) = (value for name, value in step(client, 0.0).items() if "grad_norm" in name)
    return float(norm)


def _tensor(values: Sequence[float], dtype: str = "float32") -> types.TensorData:
    return types.TensorData(data=list(values), dtype=dtype, shape=[len(values)])  # type: ignore[arg-type]
