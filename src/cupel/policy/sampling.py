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

BLOCK = 1024
"""Tokens whose probabilities are summed at once when the vocabulary is large."""


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
    tokens_N, total_N = _invert(q_NV, uniforms_N)
    policy_N = torch.log(_pick(pi_NV, tokens_N))
    if q_NV is pi_NV:
        return Draw(tokens_N=tokens_N, sampler_logprobs_N=policy_N, policy_logprobs_N=policy_N)
    sampler_N = torch.log(_pick(q_NV, tokens_N) / total_N).float()
    return Draw(tokens_N=tokens_N, sampler_logprobs_N=sampler_N, policy_logprobs_N=policy_N)


def _invert(q_NV: Tensor, uniforms_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first token whose cumulated weight exceeds u times the total, and the total.

    A large vocabulary is summed a block at a time and cumulated within the chosen block only.
    """
    vocabulary = q_NV.shape[1]
    if vocabulary <= 8 * BLOCK:
        cdf_NV = q_NV.cumsum(dim=-1, dtype=torch.float64)
        total_N = cdf_NV[:, -1]
        return _first_above(cdf_NV, uniforms_N * total_N), total_N
    whole = vocabulary // BLOCK * BLOCK
    sums_NK = q_NV[:, :whole].reshape(len(q_NV), -1, BLOCK).sum(dim=-1, dtype=torch.float64)
    if whole < vocabulary:
        rest_N1 = q_NV[:, whole:].sum(dim=-1, keepdim=True, dtype=torch.float64)
        sums_NK = torch.cat([sums_NK, rest_N1], dim=1)
    cdf_NK = torch.nn.functional.pad(sums_NK.cumsum(dim=-1), (1, 0))
    total_N = cdf_NK[:, -1]
    target_N = uniforms_N * total_N
    block_N = _first_above(cdf_NK[:, 1:], target_N)
    inside_B = torch.arange(BLOCK, device=q_NV.device)
    at_NB = block_N[:, None] * BLOCK + inside_B
    weights_NB = q_NV.gather(1, at_NB.clamp(max=vocabulary - 1))
    weights_NB = weights_NB.masked_fill(at_NB >= vocabulary, 0.0)
    cdf_NB = weights_NB.cumsum(dim=-1, dtype=torch.float64)
    within_N = torch.minimum(target_N - _pick(cdf_NK, block_N), cdf_NB[:, -1])
    return block_N * BLOCK + _first_above(cdf_NB, within_N), total_N


def _first_above(cdf_NV: Tensor, target_N: Tensor) -> Tensor:
    """Return the first index whose cumulated weight exceeds the target, which has some weight."""
    below_N = torch.minimum(target_N, cdf_NV[:, -1]) * (1 - 1e-15)
    found_N = torch.searchsorted(cdf_NV.contiguous(), below_N[:, None], right=True)[:, 0]
    # beyond the last only without finite numbers, which the caller refuses
    return found_N.clamp_(max=cdf_NV.shape[1] - 1)


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
    if temperature == 0:
        uniforms_NT = np.zeros((rows, max_tokens))
    sheet = _Sheet.blank(rows, max_tokens, pad_id=pad_id, stop_ids=stop_ids)
    groups = max(1, max_rows // group_size)
    with lm.arithmetic(), torch.inference_mode():
        for first in range(0, len(prompts), groups):
            chosen = prompts[first : first + groups]
            rows_N = first * group_size + np.arange(len(chosen) * group_size)
            noise_TN = uniforms_NT[rows_N, :max_tokens].T
            _decode(lm, chosen, rows_N, noise_TN, sheet, temperature=temperature, top_p=top_p)
    if not np.isfinite(sheet.logs_2NT).all():
        raise AlgorithmicFailure("sample: a log-probability is not finite; the model diverged")
    return Completions(
        prompts=tuple(tuple(prompt) for prompt in prompts),
        group_size=group_size,
        tokens_NT=sheet.tokens_NT,
        lengths_N=sheet.lengths_N,
        finished_N=sheet.finished_N,
        sampler_logprobs_NT=sheet.logs_2NT[0],
        policy_logprobs_NT=sheet.logs_2NT[1],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """What has been sampled so far, for all rows."""

    tokens_NT: NDArray[np.int32]
    logs_2NT: NDArray[np.float32]
    lengths_N: NDArray[np.int32]
    finished_N: NDArray[np.bool_]
    stop_ids: NDArray[np.int64]

    @classmethod
    def blank(cls, rows: int, width: int, *, pad_id: int, stop_ids: Sequence[int]) -> _Sheet:
        return cls(
            tokens_NT=np.full((rows, width), pad_id, dtype=np.int32),
            logs_2NT=np.zeros((2, rows, width), dtype=np.float32),
            lengths_N=np.full(rows, width, dtype=np.int32),
            finished_N=np.zeros(rows, dtype=np.bool_),
            stop_ids=np.array(sorted(set(stop_ids)), dtype=np.int64),
        )

    def write(self, t: int, rows_N: NDArray[np.intp], drawn: Draw) -> None:
        """Write token t of the rows that have not finished before."""
        tokens_N = drawn.tokens_N.cpu().numpy()
        logs_2N = torch.stack([drawn.sampler_logprobs_N, drawn.policy_logprobs_N]).cpu().numpy()
        open_N = ~self.finished_N[rows_N]
        at = rows_N[open_N]
        self.tokens_NT[at, t] = tokens_N[open_N]
        self.logs_2NT[:, at, t] = logs_2N[:, open_N]
        ended = at[np.isin(tokens_N[open_N], self.stop_ids)]
        self.lengths_N[ended] = t + 1
        self.finished_N[ended] = True


def _decode(
    lm: CausalLM,
    prompts: Sequence[Sequence[int]],
    rows_N: NDArray[np.intp],
    noise_TN: NDArray[np.float64],
    sheet: _Sheet,
    *,
    temperature: float,
    top_p: float,
) -> None:
    """Decode some groups side by side; each distinct prompt is read once."""
    distinct = {prompt: index for index, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    row_prompt_N = np.repeat(
        [distinct[tuple(prompt)] for prompt in prompts], len(rows_N) // len(prompts)
    )
    prompt = lm.prefill(list(distinct))
    state = lm.start(prompt, row_prompt_N)
    owner_N = torch.from_numpy(row_prompt_N).to(lm.device)
    hidden_ND, positions_N = prompt.last_PD[owner_N], prompt.lengths_P[owner_N]
    uniforms_TN = torch.from_numpy(np.ascontiguousarray(noise_TN)).to(lm.device)
    for t in range(len(noise_TN)):
        drawn = draw(lm.logits(hidden_ND), uniforms_TN[t], temperature=temperature, top_p=top_p)
        sheet.write(t, rows_N, drawn)
        tokens_N, open_N = drawn.tokens_N, ~sheet.finished_N[rows_N]
        if t + 1 == len(noise_TN) or not open_N.any():
            return
        if open_N.mean() <= 1 - RETIRE_SHARE:
            kept_K = np.flatnonzero(open_N)
            state.keep(kept_K)
            index_K = torch.from_numpy(kept_K).to(lm.device)
            rows_N, tokens_N = rows_N[kept_K], tokens_N[index_K]
            positions_N, uniforms_TN = positions_N[index_K], uniforms_TN[:, index_K]
        hidden_ND = lm.step(state, tokens_N, positions_N)
        positions_N = positions_N + 1


def _pick(values_NV: Tensor, index_N: Tensor) -> Tensor:
    return values_NV.gather(1, index_N[:, None])[:, 0]
