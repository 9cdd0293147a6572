"""Batched decoding: prompts once, rows side by side, finished rows retired.

Knows the inverse CDF: token t of row n consumes uniforms_NT[n, t] and nothing else, so a row's
tokens depend neither on its neighbours nor on who has finished, beyond float rounding. Refuses
to know where the uniforms come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.errors import AlgorithmicFailure
from cupel.policy.causal_lm import CausalLM
from cupel.policy.protocol import Completions

RETIRE_SHARE = 0.125
"""Finished rows are dropped from the batch once they are this share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One token a row, with its log-probability under q and under pi (T = 1)."""

    tokens_N: Tensor
    sampler_logprobs_N: Tensor
    policy_logprobs_N: Tensor


def draw(logits_NV: Tensor, uniforms_N: Tensor, *, temperature: float, top_p: float) -> Draw:
    """Draw one token a row by inverse CDF over the vocabulary in id order.

    The nucleus of top-p is every token at least as probable as the last one needed to reach
    top_p, ties included. Temperature 0 takes the most probable token, for which log q = 0.
    """
    pi_NV = torch.softmax(logits_NV, dim=-1)
    if temperature == 0:
        tokens_N = logits_NV.argmax(dim=-1)
        policy_N = torch.log(_pick(pi_NV, tokens_N))
        return Draw(
            tokens_N=tokens_N,
            sampler_logprobs_N=torch.zeros_like(policy_N),
            policy_logprobs_N=policy_N,
        )
    q_NV = pi_NV if temperature == 1 else torch.softmax(logits_NV / temperature, dim=-1)
    if top_p < 1:
        q_NV = nucleus(q_NV, top_p)
    cdf_NV = q_NV.cumsum(dim=-1, dtype=torch.float64)
    total_N = cdf_NV[:, -1]
    target_N = uniforms_N * total_N * (1 - 1e-15)
    tokens_N = torch.searchsorted(cdf_NV, target_N[:, None], right=True)[:, 0]
    tokens_N.clamp_(max=cdf_NV.shape[1] - 1)  # only without finite numbers, refused by the caller
    policy_N = torch.log(_pick(pi_NV, tokens_N))
    if q_NV is pi_NV:
        return Draw(tokens_N=tokens_N, sampler_logprobs_N=policy_N, policy_logprobs_N=policy_N)
    sampler_N = torch.log(_pick(q_NV, tokens_N) / total_N).float()
    return Draw(tokens_N=tokens_N, sampler_logprobs_N=sampler_N, policy_logprobs_N=policy_N)


def nucleus(q_NV: Tensor, top_p: float) -> Tensor:
    """Zero what lies outside the top-p nucleus (not renormalised); sorts only as far as needed."""
    vocabulary = q_NV.shape[-1]
    count = min(64, vocabulary)
    while True:
        ordered_NK = torch.topk(q_NV, count, dim=-1).values
        reached_NK = ordered_NK.cumsum(dim=-1, dtype=torch.float64)
        if count == vocabulary or bool((reached_NK[:, -1] >= top_p).all()):
            break
        count = min(8 * count, vocabulary)
    needed_NK = reached_NK - ordered_NK < top_p
    threshold_N1 = ordered_NK.masked_fill(~needed_NK, torch.inf).amin(dim=-1, keepdim=True)
    return q_NV.masked_fill(q_NV < threshold_N1, 0.0)


def sample_completions(
    lm: CausalLM,
    prompts: Sequence[Sequence[int]],
    *,
    group_size: int,
    max_tokens: int,
    temperature: float,
    top_p: float,
    uniforms_NT: NDArray[np.float64],
    stop_ids: Sequence[int],
    pad_id: int,
    max_rows: int,
) -> Completions:
    """Sample `group_size` completions of each prompt; arrays are `max_tokens` wide.

    Raises:
        AlgorithmicFailure: the model's distribution is not finite.
    """
    rows = len(prompts) * group_size
    if uniforms_NT.shape[0] != rows or (temperature > 0 and uniforms_NT.shape[1] < max_tokens):
        raise ValueError(f"sample: uniforms {uniforms_NT.shape} for {rows} x {max_tokens} tokens")
    tokens_NT = np.full((rows, max_tokens), pad_id, dtype=np.int32)
    logs_2NT = np.zeros((2, rows, max_tokens), dtype=np.float32)
    lengths_N = np.full(rows, max_tokens, dtype=np.int32)
    finished_N = np.zeros(rows, dtype=np.bool_)
    stride = max(1, max_rows // group_size) * group_size
    with lm.arithmetic(), torch.inference_mode():
        for start in range(0, rows, stride):
            chunk = slice(start, min(start + stride, rows))
            _decode(
                lm,
                prompts[start // group_size : -(-chunk.stop // group_size)],
                group_size,
                uniforms_NT[chunk, :max_tokens],
                (temperature, top_p),
                frozenset(stop_ids),
                (tokens_NT[chunk], logs_2NT[:, chunk], lengths_N[chunk], finished_N[chunk]),
            )
    if not np.isfinite(logs_2NT).all():
        raise AlgorithmicFailure("sample: a log-probability is not finite; the model diverged")
    return Completions(
        prompts=tuple(tuple(prompt) for prompt in prompts),
        group_size=group_size,
        tokens_NT=tokens_NT,
        lengths_N=lengths_N,
        finished_N=finished_N,
        sampler_logprobs_NT=logs_2NT[0],
        policy_logprobs_NT=logs_2NT[1],
    )


def _decode(
    lm: CausalLM,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    uniforms_NT: NDArray[np.float64],
    sampler: tuple[float, float],
    stop_ids: frozenset[int],
    out: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]],
) -> None:
    """Decode one batch of rows into its slices of the output arrays."""
    tokens_NT, logs_2NT, lengths_N, finished_N = out
    max_tokens = tokens_NT.shape[1]
    distinct = {prompt: index for index, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    row_prompt_N = np.repeat([distinct[tuple(prompt)] for prompt in prompts], group_size)
    prompt = lm.prefill(list(distinct))
    state = lm.start(prompt, row_prompt_N)
    owner = torch.from_numpy(row_prompt_N).to(lm.device)
    hidden_ND, positions_N = prompt.last_PD[owner], prompt.lengths_P[owner]
    uniforms = torch.zeros((max_tokens, len(row_prompt_N)), dtype=torch.float64, device=lm.device)
    if sampler[0] > 0:
        uniforms.copy_(torch.from_numpy(np.ascontiguousarray(uniforms_NT.T)))
    stops = torch.tensor(sorted(stop_ids), device=lm.device)
    live_N = np.arange(len(row_prompt_N))
    done_N = torch.zeros(len(live_N), dtype=torch.bool, device=lm.device)
    for t in range(max_tokens):
        drawn = draw(lm.logits(hidden_ND), uniforms[t], temperature=sampler[0], top_p=sampler[1])
        done_now = done_N | torch.isin(drawn.tokens_N, stops)
        alive = ~done_N.cpu().numpy()
        at = live_N[alive]
        tokens_NT[at, t] = drawn.tokens_N.cpu().numpy()[alive]
        logs_2NT[0, at, t] = drawn.sampler_logprobs_N.cpu().numpy()[alive]
        logs_2NT[1, at, t] = drawn.policy_logprobs_N.cpu().numpy()[alive]
        ended = done_now.cpu().numpy()
        lengths_N[live_N[ended & alive]] = t + 1
        finished_N[live_N[ended & alive]] = True
        if ended.all() or t + 1 == max_tokens:
            return
        done_N, tokens_N = done_now, drawn.tokens_N
        if ended.mean() >= RETIRE_SHARE:
            kept = np.flatnonzero(~ended)
            index = torch.from_numpy(kept).to(lm.device)
            state.keep(kept)
            live_N, done_N, tokens_N = live_N[kept], done_N[index], tokens_N[index]
            positions_N, uniforms = positions_N[index], uniforms[:, index]
        hidden_ND = lm.step(state, tokens_N, positions_N)
        positions_N = positions_N + 1


def _pick(values_NV: Tensor, index_N: Tensor) -> Tensor:
    return values_NV.gather(1, index_N[:, None])[:, 0]
