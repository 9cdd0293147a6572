"""Attention for groups that share a prompt, plugged into any model of the transformers library.

Knows two things a stock kernel does not: while decoding, the rows of a group read their prompt's
keys once (a matrix product instead of one vector product a row), and score buffers are reused in
place. Without a decode state it is plain softmax attention. Refuses sliding windows: callers
check the model first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NAME = "cupel_prefix"
"""The name under which transformers knows this attention."""

SHARE_FROM = 48
"""Prompts at least this long are read once a group; shorter ones are copied to each row."""


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    decode: DecodeState | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend as softmax(q k / sqrt(d) + mask) v; [B, H, T, D] in, [B, T, H, D] out."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if decode is not None:
        # One query a row makes slim products; x86's float32 kernels behind 'medium' copy their
        # strided keys first and lose to plain ones.
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            return decode.attend(int(module.layer_idx), query * scale), None
        finally:
            torch.set_float32_matmul_precision(before)
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key = key.repeat_interleave(repeats, dim=1)
        value = value.repeat_interleave(repeats, dim=1)
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if attention_mask is not None:
        scores.add_(attention_mask)
    return torch.matmul(_weights(scores), value).transpose(1, 2).contiguous(), None


def _weights(scores: Tensor) -> Tensor:
    """Normalise scores in float32, whatever they are stored in."""
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)


class DecodeState:
    """Keys and values of N rows being decoded; the prompt part is shared where that pays.

    It is handed to the model as its cache (`update`) and to the attention as its state (`attend`).
    """

    is_compileable = False

    def __init__(
        self,
        prompt_keys: list[Tensor],
        prompt_values: list[Tensor],
        pad_mask_PL: Tensor | None,
        row_prompt_N: NDArray[np.intp],
        *,
        shared: bool,
        block: int = 32,
    ) -> None:
        """Start with N rows, each belonging to a prompt; `pad_mask_PL` is additive."""
        self._prompts = (prompt_keys, prompt_values)
        self._pad_mask_PL = pad_mask_PL
        self._row_prompt_N = row_prompt_N
        self._shared, self._block = shared, block
        self._prompt_length = prompt_keys[0].shape[2]
        self._start = 0 if shared else self._prompt_length
        self._own: list[tuple[Tensor, Tensor]] = []
        self._lengths = [self._start] * len(prompt_keys)
        rows = torch.from_numpy(row_prompt_N).to(prompt_keys[0].device)
        for keys, values in zip(prompt_keys, prompt_values, strict=True):
            self._own.append((self._grown(keys, rows), self._grown(values, rows)))
        self._mask_N = None if pad_mask_PL is None or shared else pad_mask_PL[rows][:, None, None]
        self._layout()

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> Any:
        """Append one token's keys and values; return what each row holds of its own."""
        at = self._lengths[layer]
        keys, values = self._own[layer]
        if at == keys.shape[2]:
            keys, values = (self._longer(keys), self._longer(values))
            self._own[layer] = (keys, values)
        keys[:, :, at] = key[:, :, 0]
        values[:, :, at] = value[:, :, 0]
        self._lengths[layer] = at + 1
        return keys[:, :, : at + 1], values[:, :, : at + 1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many positions a row has seen, prompt and padding included."""
        return self._lengths[layer_idx] + self._prompt_length - self._start

    def mask(self) -> Tensor | None:
        """Return the additive mask of the next step's keys (copied prompts only)."""
        if self._mask_N is None:
            return None
        extra = self._lengths[0] + 1 - self._mask_N.shape[-1]
        return torch.nn.functional.pad(self._mask_N, (0, extra))

    def attend(self, layer: int, query: Tensor) -> Tensor:
        """Attend with one scaled query a row [N, Hq, 1, D]; return [N, 1, Hq, D]."""
        rows, heads, _, width = query.shape
        length = self._lengths[layer]
        keys, values = (kept[:, :, :length] for kept in self._own[layer])
        kv_heads = keys.shape[1]
        query = query.reshape(rows, kv_heads, heads // kv_heads, width)
        scores = torch.matmul(query, keys.transpose(2, 3))
        if self._shared:
            output = self._attend_shared(layer, query, scores, values)
        else:
            if self._mask_N is not None:
                scores[..., : self._start] += self._mask_N
            output = torch.matmul(_weights(scores), values)
        return output.reshape(rows, 1, heads, width)

    def keep(self, kept_K: NDArray[np.intp]) -> None:
        """Drop all rows but `kept_K` (in order)."""
        index = torch.from_numpy(kept_K).to(self._own[0][0].device)
        self._own = [(keys[index], values[index]) for keys, values in self._own]
        if self._mask_N is not None:
            self._mask_N = self._mask_N[index]
        self._row_prompt_N = self._row_prompt_N[kept_K]
        self._layout()

    def _attend_shared(self, layer: int, query: Tensor, own: Tensor, values: Tensor) -> Tensor:
        """Join scores on the shared prompt with the row's own, under one softmax."""
        prompts, slots, length = len(self._used), self._slots, self._prompt_length
        _, kv_heads, repeats, width = query.shape
        prompt_keys, prompt_values = (side[layer] for side in self._used_prompts)
        wide = query if self._to_slot is None else query[self._to_slot]
        wide = wide.view(prompts, slots, kv_heads, repeats, width).transpose(1, 2)
        wide = wide.reshape(prompts, kv_heads, slots * repeats, width)
        scores = torch.matmul(wide, prompt_keys.transpose(2, 3))
        if self._used_mask is not None:
            scores.add_(self._used_mask)
        by_row = scores.view(prompts, kv_heads, slots, repeats, length).transpose(1, 2)
        by_row = by_row.reshape(prompts * slots, kv_heads, repeats, length)
        if self._from_slot is not None:
            by_row = by_row[self._from_slot]
        weights = _weights(torch.cat([by_row, own], dim=-1))
        shared = weights[..., :length]
        if self._to_slot is not None:
            shared = shared[self._to_slot]
        shared = shared.reshape(prompts, slots, kv_heads, repeats, length).transpose(1, 2)
        shared = shared.reshape(prompts, kv_heads, slots * repeats, length)
        seen = torch.matmul(shared, prompt_values)
        seen = seen.view(prompts, kv_heads, slots, repeats, width).transpose(1, 2)
        seen = seen.reshape(prompts * slots, kv_heads, repeats, width)
        if self._from_slot is not None:
            seen = seen[self._from_slot]
        return seen + torch.matmul(weights[..., length:], values)

    def _layout(self) -> None:
        """Find which prompts are still read, and where each row stands in its prompt's block."""
        if not self._shared:
            return
        self._used, local_N, counts = np.unique(
            self._row_prompt_N, return_inverse=True, return_counts=True
        )
        self._slots = int(counts.max())
        starts = np.cumsum(counts) - counts
        order = np.argsort(local_N, kind="stable")
        rank_N = np.empty(len(local_N), dtype=np.intp)
        rank_N[order] = np.arange(len(local_N)) - starts[local_N[order]]
        slot_N = local_N * self._slots + rank_N
        device = self._own[0][0].device
        self._to_slot = self._from_slot = None
        if len(slot_N) != len(self._used) * self._slots or (slot_N != np.arange(len(slot_N))).any():
            row_of = np.zeros(len(self._used) * self._slots, dtype=np.intp)
            row_of[slot_N] = np.arange(len(slot_N))
            self._to_slot = torch.from_numpy(row_of).to(device)
            self._from_slot = torch.from_numpy(slot_N).to(device)
        used = torch.from_numpy(self._used).to(device)
        keys, values = self._prompts
        if len(self._used) == len(keys[0]):
            self._used_prompts = (keys, values)
        else:
            self._used_prompts = ([k[used] for k in keys], [v[used] for v in values])
        mask_PL = self._pad_mask_PL
        self._used_mask = None if mask_PL is None else mask_PL[used][:, None, None]

    def _grown(self, prompt: Tensor, rows: Tensor) -> Tensor:
        """Make a row buffer with room for a block of tokens, the prompt copied in if unshared."""
        _, heads, _, width = prompt.shape
        buffer = prompt.new_empty(len(rows), heads, self._start + self._block, width)
        if not self._shared:
            buffer[:, :, : self._start] = prompt[rows]
        return buffer

    def _longer(self, buffer: Tensor) -> Tensor:
        rows, heads, length, width = buffer.shape
        longer = buffer.new_empty(rows, heads, length + max(self._block, length // 2), width)
        longer[:, :, :length] = buffer
        return longer
