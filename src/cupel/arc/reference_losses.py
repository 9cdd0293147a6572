"""The losses and metrics of the padded computation, each number read back from the device.

Knows logits, labels and contexts. Refuses to know models. Float64 over every cell, asked or not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cupel.arc.losses import IGNORE

GUARD = 1e-30
"""Keeps stablemax's denominator from zero."""


def padded_loss(
    logits_BSV: Tensor, q_halt_B: Tensor, labels_BS: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Return (Σ mean NLL + 0.5 Σ BCE) / B and the step's metrics, each read back.

    Stablemax is computed in float64 over every cell, asked or not: p = s(x) / (Σ s(x) + 1e-30).
    """
    asked = labels_BS != IGNORE
    target = torch.where(asked, labels_BS, 0).long()
    wide = logits_BSV.double()
    s = torch.where(wide < 0, 1 / (1 - wide), wide + 1)
    p = s / (s.sum(-1, keepdim=True) + GUARD)
    nll = -p.gather(-1, target[..., None]).squeeze(-1).log()
    count = asked.sum(1)
    lm = (torch.where(asked, nll, 0.0).sum(1) / count.clamp(min=1)).sum()
    right = asked & (logits_BSV.argmax(-1) == labels_BS)
    exact = right.sum(1) == count
    bce = F.binary_cross_entropy_with_logits(q_halt_B, exact.float(), reduction="sum")
    loss = (lm + 0.5 * bce) / len(labels_BS)
    slots = max(1, int((count > 0).sum().item()))
    metrics = {
        "lm_loss": lm.item() / len(labels_BS),
        "q_halt_loss": bce.item() / len(labels_BS),
        "accuracy": (right.sum(1) / count.clamp(min=1)).sum().item() / slots,
        "exact_accuracy": ((count > 0) & exact).sum().item() / slots,
        "q_halt_accuracy": ((count > 0) & ((q_halt_B >= 0) == exact)).sum().item() / slots,
    }
    return loss, metrics


@torch.no_grad()
def context_statistics(context_BCD: Tensor, puzzle_ids_B: Tensor) -> dict[str, float]:
    """Return the encoder's statistics of a step, each read back, groups in a Python loop."""
    wide = context_BCD.float()
    within = [
        wide[puzzle_ids_B == number].var(0, unbiased=False).mean().item()
        for number in sorted(set(puzzle_ids_B.tolist()))
        if int((puzzle_ids_B == number).sum()) > 1
    ]
    return {
        "encoder_output_mean": wide.mean().item(),
        "encoder_output_std": wide.std().item(),
        "encoder_output_norm": wide.norm(dim=-1).mean().item(),
        "encoder_cross_sample_var": wide.var(0, unbiased=False).mean().item(),
        "encoder_within_group_var": sum(within) / max(1, len(within)),
    }
