"""Token credit that looks at more than one completion: GTPO as published, and the entropy mask.

Pure arithmetic on a whole padded batch: N rows, problem-major in groups, T tokens, a mask that is
True on sampled tokens, and the uncertainty of every token. Refuses to know where they come from;
credit that looks at one completion at a time is `cupel.rlvr.credit`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import ConfigError, DataError

FloatNT = NDArray[np.float64]
AnyFloatNT = NDArray[np.floating[Any]]
BoolNT = NDArray[np.bool_]

UNCERTAINTY_FLOOR = 1e-6
"""Uncertainties below this count as this where they are divided by or summed up."""


def gtpo_paper_weights(
    advantages_N: NDArray[np.float64],
    uncertainty_NT: AnyFloatNT,
    mask_NT: BoolNT,
    *,
    group_size: int,
    beta: float,
) -> FloatNT:
    """Weight tokens by uncertainty against the other completions of their group and outcome.

    Successes (A > 0) are compared with successes, failures (A < 0) with failures, at the same
    position t, over the d_t of them that are still that long:

        success  w_t = (1 - beta) + beta d_t H_t / sum_k H_k,t
        failure  w_t = (1 - beta) + beta d_t (1 / H_t) / sum_k (1 / H_k,t)

    So an uncertain token of a success gets more credit, an uncertain token of a failure less
    blame. At every position the mean weight of each set is 1. Rows with A = 0 get weights of 1;
    padding gets 0.

    Source: GTPO, arXiv:2508.04349 eq. 3 and 5 with alpha_1 = 1 - beta, alpha_2 = beta (Proposition
    2.2 asks that they sum to 1).

    Raises:
        ConfigError: beta is outside [0, 1].
        DataError: shapes disagree, or the rows are no whole groups.
    """
    if not 0 <= beta <= 1:
        raise ConfigError(f"gtpo_beta = {beta:g} with gtpo_paper; it must lie in [0, 1]")
    rows, width = mask_NT.shape
    _check_rows(mask_NT.shape, group_size, advantages_N, uncertainty_NT)
    floored_NT = np.maximum(np.where(mask_NT, uncertainty_NT, 1.0), UNCERTAINTY_FLOOR)
    failed_N = advantages_N < 0
    share_NT = np.where(failed_N[:, None], 1.0 / floored_NT, floored_NT)
    weights_NT = mask_NT.astype(np.float64)
    for set_N in (advantages_N > 0, failed_N):
        in_set_NT = mask_NT & set_N[:, None]
        alive_PGT = in_set_NT.reshape(-1, group_size, width)
        shares_PGT = np.where(alive_PGT, share_NT.reshape(alive_PGT.shape), 0.0)
        total_P1T = shares_PGT.sum(axis=1, keepdims=True)
        count_P1T = alive_PGT.sum(axis=1, keepdims=True)
        relative_PGT = shares_PGT * count_P1T / np.where(total_P1T > 0, total_P1T, 1.0)
        weighed_NT = (1 - beta) + beta * relative_PGT.reshape(rows, width)
        weights_NT = np.where(in_set_NT, weighed_NT, weights_NT)
    return weights_NT


def standardised_by_outcome(
    advantages_N: NDArray[np.float64], weights_NT: FloatNT, mask_NT: BoolNT, *, group_size: int
) -> FloatNT:
    """Return GTPO's own advantages: each set's shaped token rewards minus their mean, over std.

    The shaped reward of a token is its weight for a success and minus its weight for a failure.
    Mean and deviation are over all tokens of a group's successes, and apart over those of its
    failures; a set without spread, one completion among them, gets zero. Each set then sums to
    zero: the advantage no longer tells a success from a failure.

    Source: GTPO, arXiv:2508.04349 eq. 6.

    Raises:
        DataError: shapes disagree, or the rows are no whole groups.
    """
    _check_rows(mask_NT.shape, group_size, advantages_N, weights_NT)
    out_NT = np.zeros(mask_NT.shape)
    reward_NT = np.sign(advantages_N)[:, None] * weights_NT
    for set_N in (advantages_N > 0, advantages_N < 0):
        in_set_NT = mask_NT & set_N[:, None]
        used_PM = in_set_NT.reshape(-1, group_size * mask_NT.shape[1])
        values_PM = np.where(used_PM, reward_NT.reshape(used_PM.shape), 0.0)
        count_P1 = np.maximum(used_PM.sum(axis=1, keepdims=True), 1)
        gap_PM = np.where(used_PM, values_PM - values_PM.sum(axis=1, keepdims=True) / count_P1, 0.0)
        deviation_P1 = np.sqrt((gap_PM**2).sum(axis=1, keepdims=True) / count_P1)
        flat_P1 = deviation_P1 < UNCERTAINTY_FLOOR  # rounding is no spread
        standard_PM = np.where(flat_P1, 0.0, gap_PM / np.where(flat_P1, 1.0, deviation_P1))
        out_NT += standard_PM.reshape(mask_NT.shape)
    return out_NT


def entropy_threshold(
    uncertainty_NT: AnyFloatNT, used_NT: BoolNT, *, top_share: float
) -> float | None:
    """Return the (1 - top_share) quantile of the used tokens' uncertainty; None without tokens.

    Source: arXiv:2506.01939, its objective on forking tokens.

    Raises:
        ConfigError: the share is outside (0, 1].
    """
    if not 0 < top_share <= 1:
        raise ConfigError(f"entropy_top_share = {top_share:g}; it must lie in (0, 1]")
    chosen = uncertainty_NT[used_NT]
    if not chosen.size:
        return None
    return float(np.quantile(chosen.astype(np.float64), 1 - top_share))


def entropy_masked(
    advantages_N: NDArray[np.float64],
    uncertainty_NT: AnyFloatNT,
    mask_NT: BoolNT,
    *,
    threshold: float | None,
) -> FloatNT:
    """Give a completion's advantage to its tokens at or above the threshold, 0 to the others.

    The others still count in the loss's normaliser, as in the paper.

    Source: arXiv:2506.01939, its objective on forking tokens.
    """
    if threshold is None:
        return np.zeros(mask_NT.shape)
    kept_NT = mask_NT & (uncertainty_NT >= threshold)
    return np.where(kept_NT, advantages_N[:, None], 0.0)


def _check_rows(
    shape: tuple[int, ...], group_size: int, advantages_N: NDArray[Any], values_NT: NDArray[Any]
) -> None:
    if values_NT.shape != shape or advantages_N.shape != shape[:1]:
        raise DataError(
            f"batch credit: values have shape {values_NT.shape}, advantages {advantages_N.shape}, "
            f"the mask {shape}"
        )
    if shape[0] % group_size:
        raise DataError(
            f"batch credit: {shape[0]} rows are no whole groups of {group_size}; give all rows of "
            "a group at once"
        )
