"""What is minimised: token cross-entropy, the halt head's error and the encoder's own terms.

Knows logits, labels and which slots are labelled. Refuses to know models and optimizers. Every
term is a value per slot first and a mean over slots second, so that a weight means the same at
every batch size. Shapes are static: unlabelled cells are masked, not gathered, because a gather
would have to ask the device how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupel.arc.model_config import LossKind
from cupel.errors import ConfigError

IGNORE = -100
"""Label of a cell that is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceLosses:
    """Losses and counts of one step, one value a slot; nothing here was read from the device.

    Attributes:
        lm_B: mean negative log-likelihood over the slot's labelled cells; 0 without labels.
        q_halt_B: binary cross-entropy of the halt value against `exact_B`; 0 without labels.
        labelled_B: the slot has at least one labelled cell; only these count.
        tokens_B: labelled cells.
        correct_B: labelled cells answered right.
        exact_B: every labelled cell right, and there is one.
        halt_right_B: the sign of the halt value agrees with `exact_B`.
    """

    lm_B: Tensor
    q_halt_B: Tensor
    labelled_B: Tensor
    tokens_B: Tensor
    correct_B: Tensor
    exact_B: Tensor
    halt_right_B: Tensor

    def mean(self, values_B: Tensor) -> Tensor:
        """Return the mean over labelled slots (0 when there are none: mind `labelled_B`)."""
        count = self.labelled_B.sum().clamp(min=1)
        return (values_B.float() * self.labelled_B).sum() / count


def log_stablemax(logits: Tensor) -> Tensor:
    """Return log probabilities over the last axis, p ∝ s(x), in the logits' precision.

        s(x) = 1 + x  for x >= 0,   1 / (1 - x)  for x < 0
        log p = log s(x) - logsumexp(log s(x)),   log s(x) = ±log1p(±x)

    In this form nothing overflows or is divided, and float32 is within 1e-6 of float64.

    Source: Prieto et al., "Grokking at the Edge of Numerical Stability", arXiv:2501.04697.
    """
    positive, negative = logits.clamp(min=0).log1p(), (-logits).clamp(min=0).log1p()
    log_s = torch.where(logits >= 0, positive, -negative)
    return log_s - log_s.logsumexp(dim=-1, keepdim=True)


def sequence_losses(
    logits_BSV: Tensor, q_halt_B: Tensor, label_BS: Tensor, *, loss_type: LossKind = "stablemax"
) -> SequenceLosses:
    """Compare one step's answers with the slots' own labels.

    Args:
        logits_BSV: any float dtype; computed in float32.
        q_halt_B: the halt head's first value.
        label_BS: token ids, `IGNORE` where nothing is asked.

    Raises:
        ConfigError: the shapes do not belong together.
    """
    if logits_BSV.shape[:2] != label_BS.shape or q_halt_B.shape != label_BS.shape[:1]:
        raise ConfigError(
            f"sequence_losses: logits {tuple(logits_BSV.shape)}, q_halt {tuple(q_halt_B.shape)} "
            f"and labels {tuple(label_BS.shape)} are not of the same slots; mask all of them alike"
        )
    asked_BS = label_BS != IGNORE
    target_BS = torch.where(asked_BS, label_BS, 0)
    logits_BSV = logits_BSV.float()
    logprobs_BSV = (
        log_stablemax(logits_BSV) if loss_type == "stablemax" else F.log_softmax(logits_BSV, dim=-1)
    )
    nll_BS = -logprobs_BSV.gather(-1, target_BS[..., None]).squeeze(-1)
    tokens_B = asked_BS.sum(dim=1)
    labelled_B = tokens_B > 0
    lm_B = torch.where(asked_BS, nll_BS, 0.0).sum(dim=1) / tokens_B.clamp(min=1)
    correct_B = (asked_BS & (logits_BSV.detach().argmax(dim=-1) == label_BS)).sum(dim=1)
    exact_B = labelled_B & (correct_B == tokens_B)
    q_halt_B = q_halt_B.float()
    bce_B = F.binary_cross_entropy_with_logits(q_halt_B, exact_B.float(), reduction="none")
    return SequenceLosses(
        lm_B=lm_B,
        q_halt_B=torch.where(labelled_B, bce_B, 0.0),
        labelled_B=labelled_B,
        tokens_B=tokens_B,
        correct_B=correct_B,
        exact_B=exact_B,
        halt_right_B=(q_halt_B.detach() >= 0) == exact_B,
    )


def total_loss(
    losses: SequenceLosses,
    encoder_losses: Mapping[str, Tensor],
    *,
    q_halt_weight: float,
    encoder_weights: Mapping[str, float],
) -> Tensor:
    """Return mean lm + q_halt_weight · mean q_halt + Σ weight · mean encoder term.

    Raises:
        ConfigError: the encoder reports a term that has no weight.
    """
    missing = sorted(encoder_losses.keys() - encoder_weights.keys())
    if missing:
        raise ConfigError(
            f"total_loss: the encoder reports {', '.join(missing)} and no weight is given; "
            "pass the weights of EncoderConfig.loss_weights()"
        )
    total = losses.mean(losses.lm_B) + q_halt_weight * losses.mean(losses.q_halt_B)
    for name, values_B in encoder_losses.items():
        total = total + encoder_weights[name] * values_B.float().mean()
    return total
