"""The Tinker API's binary messages, in the server's direction.

Knows what SDK 0.25 sends for a forward pass and what it expects back for one and for samples.
Refuses to know what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tinker.proto import tinker_public_pb2 as messages

CONTENT_TYPE = "application/x-protobuf"
_NUMPY = {messages.DTYPE_FLOAT32: np.float32, messages.DTYPE_INT64: np.int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """One row of a request."""

    tokens_T: NDArray[np.int64]
    inputs: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A request for a forward pass, and for gradients unless `forward_only`."""

    model_id: str
    seq_id: int
    data: tuple[Datum, ...]
    loss: str
    settings: dict[str, float]
    forward_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A sampled sequence; `logprobs` None: the server left them out."""

    tokens: Sequence[int]
    logprobs: Sequence[float] | None
    stopped: bool


def read_forward(body: bytes) -> Forward:
    """Read the request of `forward_backward`."""
    message = messages.ForwardBackwardRequest()
    message.ParseFromString(body)
    data = []
    for datum in message.data:
        chunks = [np.frombuffer(c.encoded_text.tokens, np.int32) for c in datum.model_input]
        inputs = {
            name: np.frombuffer(tensor.dense, _NUMPY[tensor.dtype]).astype(np.float64)
            for name, tensor in datum.loss_fn_inputs.items()
        }
        data.append(Datum(tokens_T=np.concatenate(chunks).astype(np.int64), inputs=inputs))
    return Forward(
        model_id=message.model_id,
        seq_id=message.seq_id,
        data=tuple(data),
        loss=message.loss_fn,
        settings=dict(message.loss_fn_config),
        forward_only=message.forward_only,
    )


def write_forward(
    rows: Sequence[Mapping[str, NDArray[np.float64]]], metrics: Mapping[str, float]
) -> bytes:
    """Write a forward pass's answer: named float arrays for each datum."""
    message = messages.ForwardBackwardOutput(loss_fn_output_type="scalar")
    message.metrics.update(metrics)
    record = message.loss_fn_outputs.add(num_datums=len(rows))
    for name in rows[0]:
        arrays = [np.asarray(row[name], np.float32) for row in rows]
        offsets = np.cumsum([0, *(array.nbytes for array in arrays)], dtype=np.int64)
        record.fields[name].CopyFrom(
            messages.BatchedTensor(
                data=np.concatenate(arrays).tobytes(),
                offsets=offsets.tobytes(),
                dtype=messages.DTYPE_FLOAT32,
            )
        )
    return message.SerializeToString()


def write_samples(
    sequences: Sequence[Sampled], prompt_logprobs: Sequence[float] | None = None
) -> bytes:
    """Write samples; a prompt's first logprob is NaN, which the client reads as None."""
    message = messages.SampleResponse()
    for sequence in sequences:
        sampled = message.sequences.add(
            stop_reason=messages.STOP_REASON_STOP
            if sequence.stopped
            else messages.STOP_REASON_LENGTH,
            tokens=np.asarray(sequence.tokens, np.int32).tobytes(),
        )
        if sequence.logprobs is not None:
            sampled.logprobs = np.asarray(sequence.logprobs, np.float32).tobytes()
    if prompt_logprobs is not None:
        message.prompt_logprobs = np.asarray(prompt_logprobs, np.float32).tobytes()
    return message.SerializeToString()
