"""Log-probability and entropy of chosen tokens from hidden states, a chunk of logits at a time.

Knows the head's matrix product and the softmax behind it, with exact gradients for hidden states
and head (tied or not). Logits of all positions never exist at once: the backward pass computes
each chunk again, keeps the probabilities where they all fit the chunk budget, or finds its work
done where the loss's slope was known before. The entropy is a record and carries no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 64 * 1024 * 1024


def chunk_tokens(vocabulary: int, configured: int) -> int:
    """Return how many positions' float32 logits exist at once."""
    return configured if configured > 0 else max(16, CHUNK_BYTES // (4 * vocabulary))


def logprobs_and_entropies(
    hidden_MD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    targets_M: Tensor,
    *,
    chunk: int,
    slope_M: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return log softmax(h W^T + b)[target] and the entropy of the distribution, in nats.

    Gradients of the first reach hidden states, weight and bias; the second has none.

    Args:
        slope_M: the gradient that the log-probabilities will get, where it is known already: a
            trained head then computes its logits once instead of twice. The backward pass must
            bring these very numbers.
    """
    given = (hidden_MD, weight_VD, bias_V, targets_M)
    found: tuple[Tensor, Tensor]
    if len(hidden_MD) <= chunk:
        found = _Head.apply(*given)  # type: ignore[no-untyped-call]
    elif slope_M is not None and weight_VD.requires_grad and torch.is_grad_enabled():
        found = _FusedHead.apply(*given, chunk, slope_M)  # type: ignore[no-untyped-call]
    else:
        found = _ChunkedHead.apply(*given, chunk)  # type: ignore[no-untyped-call]
    return found


class _Head(torch.autograd.Function):
    """d logprob / d logits = onehot(target) - softmax, with all probabilities kept."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits = torch.nn.functional.linear(hidden, weight, bias)
        logs = torch.log_softmax(logits, dim=-1, dtype=_kind(hidden))
        logprobs = logs.gather(1, targets[:, None])[:, 0]
        probabilities = logs.exp()
        entropies = -logs.clamp_min_(-1e4).mul_(probabilities).sum(dim=-1)
        ctx.save_for_backward(hidden, weight, bias, targets, probabilities)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, probabilities = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        slope = probabilities.clone()
        pull = gradients[0][:, None].to(slope.dtype)
        slope.mul_(-pull).scatter_add_(1, targets[:, None], pull)
        d_bias = slope.sum(dim=0).to(bias.dtype) if need_bias and bias is not None else None
        slope = slope.to(hidden.dtype)
        d_hidden = slope @ weight if need_hidden else None
        d_weight = slope.T @ hidden if need_weight else None
        return d_hidden, d_weight, d_bias, None


class _ChunkedHead(torch.autograd.Function):
    """The same in chunks: the forward keeps log Z, the backward computes each chunk again.

    A row's pull scales its products, not its probabilities, which saves a pass over the chunk:
    d hidden = pull (W[target] - p W),  d W = sum of pull h in row target - p^T (pull h).
    A frozen head needs no second look: its forward keeps W[target] - p W, as wide as `hidden`.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(len(hidden), dtype=_kind(hidden), device=hidden.device)
        entropies, log_totals = torch.empty_like(logprobs), torch.empty_like(logprobs)
        frozen = ctx.needs_input_grad[0] and not any(ctx.needs_input_grad[1:3])
        slopes = torch.empty_like(hidden) if frozen else None
        for rows in _chunks(len(hidden), chunk):
            look = _look(hidden[rows], weight, bias, targets[rows])
            logprobs[rows], entropies[rows] = look.logprobs, look.entropies
            log_totals[rows] = look.totals.log() + look.tops
            if slopes is not None:
                look.weights.div_(look.totals[:, None])
                slopes[rows] = weight[targets[rows]] - look.weights.to(hidden.dtype) @ weight
            del look  # its weights would stand beside the next chunk's
        if slopes is None:
            ctx.save_for_backward(hidden, weight, bias, targets, log_totals)
        else:
            ctx.save_for_backward(slopes)
        ctx.chunk = chunk
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if len(ctx.saved_tensors) == 1:
            (slopes,) = ctx.saved_tensors
            return gradients[0][:, None].to(slopes.dtype) * slopes, None, None, None, None
        hidden, weight, bias, targets, log_totals = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        pulls = gradients[0].to(log_totals.dtype)
        pulled = pulls[:, None].to(hidden.dtype) * hidden
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros_like(weight, dtype=_kind(weight)) if need_weight else None
        d_bias = torch.zeros_like(bias) if need_bias and bias is not None else None
        for rows in _chunks(len(hidden), ctx.chunk):
            logits = torch.nn.functional.linear(hidden[rows], weight, bias).to(pulls.dtype)
            chances = logits.sub_(log_totals[rows, None]).exp_()
            pull = pulls[rows]
            if d_bias is not None:
                d_bias -= (pull @ chances).to(d_bias.dtype)
            chances = chances.to(hidden.dtype)
            if d_hidden is not None:
                products = torch.matmul(chances, weight, out=d_hidden[rows])
                products.sub_(weight[targets[rows]]).mul_(-pull[:, None])
            if d_weight is not None:
                _subtract(d_weight, chances, pulled[rows])
        if d_weight is not None:
            d_weight.index_add_(0, targets, pulled.to(d_weight.dtype))
        if d_bias is not None:
            d_bias.index_add_(0, targets, pulls.to(d_bias.dtype))
        return d_hidden, d_weight, d_bias, None, None


class _FusedHead(torch.autograd.Function):
    """The same gradients in the forward pass, from slopes that are known before it.

    Three products instead of four, and one exponential instead of two. With w = exp(logits - top)
    and Z its sum, p = w / Z is never formed: d W -= w^T (pull h / Z), d hidden = pull (W[target] -
    (w W) / Z). What waits for the backward pass is as large as what leaves it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        chunk: int,
        slope: Tensor,
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(len(hidden), dtype=_kind(hidden), device=hidden.device)
        entropies, pulls = torch.empty_like(logprobs), slope.to(logprobs.dtype)
        pulled = pulls[:, None].to(hidden.dtype) * hidden
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=_kind(weight))
        d_bias = torch.zeros_like(bias) if bias is not None else None
        for rows in _chunks(len(hidden), chunk):
            look = _look(hidden[rows], weight, bias, targets[rows])
            logprobs[rows], entropies[rows] = look.logprobs, look.entropies
            shares = pulls[rows] / look.totals
            if d_bias is not None:
                d_bias -= (shares @ look.weights).to(d_bias.dtype)
            weights, over = look.weights.to(hidden.dtype), look.totals[:, None]
            products = torch.matmul(weights, weight, out=d_hidden[rows])
            products.div_(over).sub_(weight[targets[rows]]).mul_(-pulls[rows, None])
            _subtract(d_weight, weights, (hidden[rows] * shares[:, None]).to(hidden.dtype))
            del look, weights  # they would stand beside the next chunk's
        d_weight.index_add_(0, targets, pulled.to(d_weight.dtype))
        if d_bias is not None:
            d_bias.index_add_(0, targets, pulls.to(d_bias.dtype))
        ctx.save_for_backward(pulls, d_hidden, d_weight, d_bias)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pulls, d_hidden, d_weight, d_bias = ctx.saved_tensors
        assert torch.equal(gradients[0], pulls), "the slope is not the one that was announced"
        need_hidden, _, need_bias = ctx.needs_input_grad[:3]
        return (
            d_hidden if need_hidden else None,
            d_weight,
            d_bias if need_bias else None,
            None,
            None,
            None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One chunk of positions: unnormalised weights [m, V] and what is read off them."""

    weights: Tensor
    totals: Tensor
    tops: Tensor
    logprobs: Tensor
    entropies: Tensor


def _look(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> _Look:
    logits = torch.nn.functional.linear(hidden, weight, bias).to(_kind(hidden))
    top = logits.amax(dim=-1, keepdim=True)
    logits.sub_(top)
    weights = logits.exp()
    totals = weights.sum(dim=-1)
    logs = totals.log()
    logprobs = logits.gather(1, targets[:, None])[:, 0] - logs
    if bias is not None:
        logits.clamp_min_(-1e4)  # a bias may forbid a token: 0 times infinity
    entropies = logs - logits.mul_(weights).sum(dim=-1) / totals
    return _Look(
        weights=weights, totals=totals, tops=top[:, 0], logprobs=logprobs, entropies=entropies
    )


def _subtract(d_weight: Tensor, left: Tensor, right: Tensor) -> None:
    """Take left^T right off; sums over chunks are float32 where the numbers are half as wide."""
    if left.dtype == d_weight.dtype:
        d_weight.addmm_(left.T, right, alpha=-1)
    else:
        d_weight.sub_(left.T @ right)


def _kind(like: Tensor) -> torch.dtype:
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def _chunks(count: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]
