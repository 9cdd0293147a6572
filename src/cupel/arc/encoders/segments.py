"""Packed rows: from pairs to the rows that show them, and reductions over the rows of each slot.

Knows pairs, rows, slots and softmax; all slots at once, no loop, no padding rows. Refuses to know
what a row means. A slot without rows yields zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor


def show(pairs_U: Tensor, pair_R: Tensor | None) -> Tensor:
    """Hand each row the value of its pair, [U, ...] -> [R, ...]; None: every row is a pair.

    Backwards, a pair's gradient is the sum over the rows that show it.
    """
    return pairs_U if pair_R is None else pairs_U.index_select(0, pair_R)


def segment_mean(rows_RD: Tensor, slot_R: Tensor, real_R: Tensor, n_slots: int) -> Tensor:
    """Average the real rows of each slot: [R, D] -> [B, D], zeros for a slot without rows."""
    weight_R = real_R.to(rows_RD.dtype)
    total_BD = rows_RD.new_zeros(n_slots, rows_RD.shape[1])
    total_BD = total_BD.index_add(0, slot_R, rows_RD * weight_R[:, None])
    count_B = weight_R.new_zeros(n_slots).index_add(0, slot_R, weight_R)
    return total_BD / count_B.clamp_min(1)[:, None]


def segment_attention(
    query_BHCd: Tensor, key_RHNd: Tensor, value_RHNd: Tensor, *, visible_RN: Tensor, slot_R: Tensor
) -> Tensor:
    """Attend from each slot's C queries to all visible tokens of all of its rows.

        out[b] = Σ_{r: slot[r]=b} Σ_n softmax_{(r, n)}(q_b · k_rn / √d) v_rn

    One softmax spans all rows of a slot, so the result is that of attention over the slot's tokens
    in one long sequence, whatever their order. Scores and sums are in fp32.

    Returns:
        [B, H, C, d], zeros for a slot without a visible token.
    """
    n_slots, heads, queries, size = query_BHCd.shape
    query_RHCd = query_BHCd.index_select(0, slot_R)
    score_RHCN = torch.matmul(query_RHCd, key_RHNd.transpose(-1, -2)).float() * size**-0.5
    hidden_RHCN = ~visible_RN[:, None, None, :]
    score_RHCN = score_RHCN.masked_fill(hidden_RHCN, torch.finfo(torch.float32).min)
    with torch.no_grad():
        peak_RHC = score_RHCN.amax(-1)
        index = slot_R[:, None, None].expand_as(peak_RHC)
        peak_BHC = score_RHCN.new_full(
            (n_slots, heads, queries), torch.finfo(torch.float32).min
        ).scatter_reduce(0, index, peak_RHC, "amax")
        peak_RHC1 = peak_BHC.index_select(0, slot_R)[..., None]
    mass_RHCN = (score_RHCN - peak_RHC1).exp().masked_fill(hidden_RHCN, 0.0)
    part_RHCd = torch.matmul(mass_RHCN.to(value_RHNd.dtype), value_RHNd).float()
    total_BHCd = part_RHCd.new_zeros(n_slots, heads, queries, size)
    total_BHCd = total_BHCd.index_add(0, slot_R, part_RHCd)
    mass_BHC = mass_RHCN.new_zeros(n_slots, heads, queries)
    mass_BHC = mass_BHC.index_add(0, slot_R, mass_RHCN.sum(-1))
    floor = torch.finfo(torch.float32).tiny
    mean_BHCd: Tensor = total_BHCd / mass_BHC.clamp_min(floor)[..., None]
    return mean_BHCd.to(value_RHNd.dtype)
