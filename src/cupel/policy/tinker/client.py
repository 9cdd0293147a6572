"""Adapters on a Tinker server and the sampler beside them, behind plain arrays.

Knows the SDK's data and calls; what they mean stands in `cupel.policy.tinker.wire`. Refuses outputs
without log-probabilities: neither a loss nor a ratio could be known.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import AlgorithmicFailure, InfrastructureFailure
from cupel.policy.tinker.service import TinkerService
from cupel.policy.tinker.wire import Drawn, Row

_GOODBYE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """What the server says of an optimizer step; None where it does not tell the norm."""

    grad_norm: float | None


class TrainingClient:
    """Adapters with their optimizer, on the server."""

    def __init__(self, service: TinkerService, client: Any) -> None:
        self._service, self._client = service, client
        self._sdk = service.sdk
        self.close = weakref.finalize(self, _unload, client)
        """Give the adapters' place on a self-hosted server back; so does the end of the process."""

    def tokenizer(self) -> Any:
        """Return the base model's tokenizer, as the SDK finds it."""
        return self._service.within(self._client.get_tokenizer, "loading the tokenizer")

    def forward(self, rows: Sequence[Row]) -> list[NDArray[np.floating]]:
        """Return the log-probability of every row's targets, without gradient."""
        self._service.count(scored_tokens=sum(len(row.target_K) for row in rows))
        data = [self._datum(row, {"weights": row.weights_K}) for row in rows]
        done = self._service.once(
            lambda: self._client.forward(data, "cross_entropy"), f"scoring {len(rows)} rows"
        )
        return self._logprobs(done, rows)

    def forward_backward(
        self,
        rows: Sequence[Row],
        inputs: Sequence[Mapping[str, NDArray[np.float32]]],
        *,
        loss: str,
        loss_settings: Mapping[str, float] | None = None,
    ) -> Callable[[], list[NDArray[np.floating]]]:
        """Hand in a gradient; return what awaits the log-probabilities of its own forward pass."""
        self._service.count(trained_tokens=sum(len(row.target_K) for row in rows))
        what = f"the gradient of {len(rows)} rows ({loss})"
        data = [self._datum(row, more) for row, more in zip(rows, inputs, strict=True)]
        settings = None if loss_settings is None else dict(loss_settings)
        future = self._service.submit(
            lambda: self._client.forward_backward(data, loss, settings), what
        )

        def awaited() -> list[NDArray[np.floating]]:
            done = self._service.finish(future, what)
            _check_losses(dict(done.metrics or {}))
            return self._logprobs(done, rows)

        return awaited

    def optim_step(self, **adam: float) -> Callable[[], Stepped]:
        """Hand in an AdamW step; return what awaits its end."""
        what = "the optimizer step"
        params = self._sdk.AdamParams(**adam)
        future = self._service.submit(lambda: self._client.optim_step(params), what)
        return lambda: _stepped(self._service.finish(future, what))

    def save(self, name: str) -> str:
        """Save adapters and optimizer under a name; return the server's path."""
        done = self._service.once(lambda: self._client.save_state(name), f"saving {name}")
        return str(done.path)

    def sampler(self) -> Sampler:
        """Return a client that samples from the weights as they are now."""
        client = self._service.within(
            self._client.save_weights_and_get_sampling_client, "handing weights to the sampler"
        )
        return Sampler(self._service, client)

    def _datum(self, row: Row, inputs: Mapping[str, NDArray[np.float32]]) -> Any:
        return self._sdk.Datum(
            model_input=self._sdk.ModelInput.from_ints(row.input_K.tolist()),
            loss_fn_inputs={"target_tokens": row.target_K, **inputs},
        )

    def _logprobs(self, done: Any, rows: Sequence[Row]) -> list[NDArray[np.floating]]:
        outputs = done.loss_fn_outputs
        if len(outputs) != len(rows) or not all("logprobs" in one for one in outputs):
            raise InfrastructureFailure(
                f"{self._service.where}: {len(outputs)} outputs came back for {len(rows)} rows, or "
                "some without log-probabilities; neither loss nor ratio can be known"
            )
        return [np.asarray(one["logprobs"].to_numpy()).reshape(-1) for one in outputs]


class Sampler:
    """Samples from weights as they were when it was made."""

    def __init__(self, service: TinkerService, client: Any) -> None:
        self._service, self._client, self._sdk = service, client, service.sdk

    def sample(
        self,
        prompt: Sequence[int],
        *,
        group_size: int,
        max_tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
        stop_ids: Sequence[int],
        stop: threading.Event,
    ) -> list[Drawn]:
        """Return a group of completions of one prompt.

        Raises:
            InfrastructureFailure: the server does not give them.
        """
        asked = self._sdk.SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=list(stop_ids),
        )
        given = self._sdk.ModelInput.from_ints(list(prompt))
        answer = self._service.repeated(
            lambda: self._client.sample(given, group_size, asked),
            f"sampling {group_size} completions",
            seed=seed,
            stop=stop,
        )
        drawn = [
            Drawn(
                tokens=tuple(int(token) for token in one.tokens),
                logprobs=tuple(float(value) for value in one.logprobs or ()),
                finished=str(one.stop_reason) == "stop",
            )
            for one in answer.sequences
        ]
        sampled = sum(len(one.tokens) for one in drawn)
        self._service.count(prompt_tokens=len(prompt), sampled_tokens=sampled)
        return drawn


def _check_losses(metrics: Mapping[str, float]) -> None:
    """Refuse a loss that the server itself calls no number; where it tells none, ours is computed.

    Raises:
        AlgorithmicFailure: a loss is not finite.
    """
    for name, value in metrics.items():
        if "loss" in name and not math.isfinite(value):
            raise AlgorithmicFailure(f"update: the server's {name} is {value}; the model diverged")


def _stepped(done: Any) -> Stepped:
    metrics = dict(getattr(done, "metrics", None) or {})
    norms = [float(value) for name, value in metrics.items() if "grad_norm" in name]
    return Stepped(grad_norm=norms[0] if norms else None)


def _unload(client: Any) -> None:
    """Give a client's place back; a server that is gone, or frees it by itself, needs nothing."""
    with contextlib.suppress(Exception):
        from tinker import types
        from tinker.lib.client_connection_pool_type import ClientConnectionPoolType

        async def unload() -> None:
            with client.holder.aclient(ClientConnectionPoolType.TRAIN) as session:
                request = types.UnloadModelRequest(model_id=client.model_id)
                await session.models.unload(request=request)

        client.holder.run_coroutine_threadsafe(unload()).result(timeout=_GOODBYE_S)
