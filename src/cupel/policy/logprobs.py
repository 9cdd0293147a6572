"""Log-probability and entropy of chosen tokens from hidden states, a chunk of logits at a time.

Knows the head's matrix product and the softmax behind it, with exact gradients for hidden states
and head (tied or not). Logits of all positions never exist at once: the backward pass computes
each chunk again, or keeps the probabilities where they all fit the chunk budget. The entropy is
a record and carries no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 64 * 1024 * 1024


def chunk_tokens(vocabulary: int, configured: int) -> int:
    """Return how many positions' float32 logits exist at once."""
    return configured if configured > 0 else max(16, CHUNK_BYTES // (4 * vocabulary))


def logprobs_and_entropies(
    hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_M: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return log softmax(h W^T + b)[target] and the entropy of the distribution, in nats.

    Gradients of the first reach hidden states, weight and bias; the second has none.
    """
    found: tuple[Tensor, Tensor] = _ChunkedHead.apply(  # type: ignore[no-untyped-call]
        hidden_MD, weight_VD, bias_V, targets_M, chunk
    )
    return found


class _ChunkedHead(torch.autograd.Function):
    """d logprob / d logits = onehot(target) - softmax, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        count = hidden.shape[0]
        kind = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        logprobs = torch.empty(count, dtype=kind, device=hidden.device)
        entropies = torch.empty_like(logprobs)
        kept: Tensor | None = None
        for start in range(0, count, chunk):
            rows = slice(start, min(start + chunk, count))
            logs = _log_softmax(hidden[rows], weight, bias, kind)
            logprobs[rows] = logs.gather(1, targets[rows, None])[:, 0]
            probabilities = logs.exp()
            entropies[rows] = -torch.linalg.vecdot(probabilities, logs.clamp_min_(-1e4))
            if count <= chunk:
                kept = probabilities
        ctx.save_for_backward(hidden, weight, bias, targets, kept)
        ctx.chunk, ctx.kind = chunk, kind
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, kept = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros_like(weight) if need_weight else None
        d_bias = torch.zeros_like(bias) if need_bias and bias is not None else None
        for start in range(0, hidden.shape[0], ctx.chunk):
            rows = slice(start, min(start + ctx.chunk, hidden.shape[0]))
            if kept is None:
                slope = _log_softmax(hidden[rows], weight, bias, ctx.kind).exp_()
            else:
                slope = kept.clone()
            pull = gradients[0][rows, None].to(ctx.kind)
            slope.mul_(-pull)
            slope.scatter_add_(1, targets[rows, None], pull)
            if d_bias is not None:
                d_bias += slope.sum(dim=0).to(d_bias.dtype)
            slope = slope.to(hidden.dtype)
            if d_hidden is not None:
                torch.matmul(slope, weight, out=d_hidden[rows])
            if d_weight is not None:
                d_weight.addmm_(slope.T, hidden[rows])
        return d_hidden, d_weight, d_bias, None, None


def _log_softmax(hidden: Tensor, weight: Tensor, bias: Tensor | None, kind: torch.dtype) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    return torch.log_softmax(logits, dim=-1, dtype=kind)
