"""The ratio gate: before the first step, three passes must agree about the same tokens.

Pure. Knows what the sampler's pass, the scoring pass and the update's pass said about each token;
on-policy, their ratios are 1. A training row shifted by one position, a wrong mask or a wrong
temperature breaks that, and is refused here instead of becoming a quietly bad run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cupel.errors import GateFailure
from cupel.policy.protocol import Completions, Credit, FloatNT, KnownCredit, Scores

LOCAL_TOLERANCE = 1e-4
"""|mean ratio - 1| allowed between passes of one local model."""

REMOTE_TOLERANCE = 0.05
"""The same against a server that samples: other kernels, other precision, other batches."""

HALF_TOLERANCE = 0.02
"""The same where weights and activations are bfloat16."""

TOKEN_TOLERANCE = 0.05
"""Mean |difference| in nats allowed on a token: a mean ratio can be 1 by accident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerStatistics:
    """How far what was sampled is from the policy at T = 1.

    Attributes:
        sampler_kl: mean over tokens of the k3 estimate of KL(q || pi):
            r - 1 - log r with r = pi / q, never negative, unbiased.
        sampler_ratio_mean: mean of pi / q over tokens.
        sampler_ratio_max: the largest of them. All three are None where q is not known.
        sampler_gap_max: largest |difference| between log pi as the sampler told it and as scored.
    """

    sampler_kl: float | None
    sampler_ratio_mean: float | None
    sampler_ratio_max: float | None
    sampler_gap_max: float


def sampler_statistics(completions: Completions, logprobs_NT: FloatNT) -> SamplerStatistics:
    """Compare the sampler's q with scored log-probabilities of the same tokens.

    Source: k3 estimator, J. Schulman, "Approximating KL divergence" (2020).
    """
    mask_NT = completions.mask_NT
    scored = logprobs_NT[mask_NT].astype(np.float64)
    gap = float(np.abs(scored - completions.policy_logprobs_NT[mask_NT]).max())
    if completions.sampler_logprobs_NT is None:
        return SamplerStatistics(
            sampler_kl=None, sampler_ratio_mean=None, sampler_ratio_max=None, sampler_gap_max=gap
        )
    log_ratio = scored - completions.sampler_logprobs_NT[mask_NT]
    ratio = np.exp(log_ratio)
    return SamplerStatistics(
        sampler_kl=float((np.expm1(log_ratio) - log_ratio).mean()),
        sampler_ratio_mean=float(ratio.mean()),
        sampler_ratio_max=float(ratio.max()),
        sampler_gap_max=gap,
    )


def check_ratio_gate(
    completions: Completions, scores: Scores, *, tolerance: float = LOCAL_TOLERANCE
) -> float:
    """Check the sampler's own T = 1 log-probabilities against the scored ones.

    Returns:
        The mean ratio pi_scored / pi_sampler.

    Raises:
        GateFailure: says by how much they disagree, and the likely cause.
    """
    return _check(
        scores.logprobs_NT[completions.mask_NT],
        completions.policy_logprobs_NT[completions.mask_NT],
        what="scored rows against the sampler's own pass",
        cause=(
            "the rows that are trained on are not the rows that were sampled: most often inputs "
            "and targets are misaligned by one (position i must predict token i + 1), the mask is "
            "shifted, or prompt and completion were joined with a token too many or too few"
        ),
        tolerance=tolerance,
    )


def gated_credit(
    credit: Credit,
    completions: Completions,
    scores: Scores,
    *,
    tolerance: float = LOCAL_TOLERANCE,
) -> Credit:
    """Wrap `credit` so that the update's own forward pass is checked before the step.

    `scores` come from `Policy.score` on the same weights, so pi_new / pi_old must be 1. Use it
    for the first update of a run; the failure leaves the parameters untouched.
    """
    mask_NT = completions.mask_NT

    def check(rows_B: NDArray[np.intp], logprobs_BT: NDArray[np.float64]) -> None:
        mask_BT = mask_NT[rows_B]
        check_update_ratio(
            logprobs_BT[mask_BT], scores.logprobs_NT[rows_B][mask_BT], tolerance=tolerance
        )

    def checked(
        rows_B: NDArray[np.intp],
        logprobs_BT: NDArray[np.float64],
        entropies_BT: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        check(rows_B, logprobs_BT)
        return credit(rows_B, logprobs_BT, entropies_BT)

    return replace(credit, check=check) if isinstance(credit, KnownCredit) else checked


def check_update_ratio(
    new: NDArray[np.floating], old: NDArray[np.floating], *, tolerance: float
) -> float:
    """Check the update's own forward pass against the scores of the same tokens.

    Returns:
        The mean ratio pi_new / pi_old.

    Raises:
        GateFailure: says by how much they disagree, and the likely cause.
    """
    return _check(
        new,
        old,
        what="pi_new / pi_old of the first update",
        cause=(
            "the update scores other rows than `score` does, or the weights changed in "
            "between (dropout on, a stale copy, an adapter merged on one side only)"
        ),
        tolerance=tolerance,
    )


def _check(
    new: NDArray[np.floating],
    old: NDArray[np.floating],
    *,
    what: str,
    cause: str,
    tolerance: float,
) -> float:
    difference = new.astype(np.float64) - old.astype(np.float64)
    ratio = float(np.exp(np.clip(difference, -60.0, 60.0)).mean())
    spread = float(np.abs(difference).mean())
    token_limit = max(TOKEN_TOLERANCE, tolerance)
    if not (abs(ratio - 1) <= tolerance and spread <= token_limit):
        raise GateFailure(
            f"ratio gate: {what}: mean ratio {ratio:.6g} over {difference.size} tokens (allowed: "
            f"1 within {tolerance:g}), mean |difference| {spread:.3g} nats (allowed: "
            f"{token_limit:g}). Likely cause: {cause}"
        )
    return ratio
