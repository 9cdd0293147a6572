"""From one advantage a completion to one advantage a token: GTPO, HICRA and SEPA.

Pure arithmetic on padded batches: N rows, T tokens, a mask that is True on sampled tokens, a
planning mask, and the uncertainty of every token. Works in float64 on blocks of rows that stay in
the processor's cache. Refuses to know where uncertainty and masks come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cupel.config import did_you_mean
from cupel.errors import AlgorithmicFailure, ConfigError, DataError

RowTransform = Literal["none", "gtpo", "gtpo_hicra", "gtpo_sepa"]
BatchTransform = Literal["gtpo_paper", "entropy_mask"]
TransformMode = Literal[RowTransform, BatchTransform]
UncertaintyKind = Literal["entropy", "surprisal", "predictive_variance"]

FloatNT = NDArray[np.float64]
AnyFloatNT = NDArray[np.floating[Any]]
BoolNT = NDArray[np.bool_]

TRANSFORM_MODES = get_args(RowTransform)
"""Transforms that shape every completion by itself."""

BATCH_TRANSFORMS = get_args(BatchTransform)
"""Transforms that must see the whole batch; their arithmetic is `cupel.rlvr.batch_credit`."""

UNCERTAINTY_KINDS = ("entropy", "surprisal", "predictive_variance")

FLAT_UNCERTAINTY = 1e-7
"""A completion whose mean uncertainty is below this gets uniform weights."""

_BLOCK_TOKENS = 32_768  # three float64 scratch arrays of this size fit a 1 MiB cache


def uncertainty(
    kind: UncertaintyKind,
    logprobs_NT: AnyFloatNT,
    entropies_NT: AnyFloatNT | None,
    mask_NT: BoolNT,
) -> FloatNT:
    """Return the uncertainty of every sampled token, 0 on padding.

    `entropy` is that of the full next-token distribution, `surprisal` is -log pi of the sampled
    token, `predictive_variance` is p(1 - p) with p its probability.

    Raises:
        ConfigError: the kind is unknown, or `entropy` where the backend returns none: another
            kind is never put in its place.
        AlgorithmicFailure: a value of a sampled token is not finite.
    """
    match kind:
        case "entropy":
            if entropies_NT is None:
                raise ConfigError(
                    "uncertainty: uncertainty_kind 'entropy' needs the full next-token "
                    "distribution, and this backend returns none; set uncertainty_kind = "
                    "'surprisal' if that is what you want"
                )
            values_NT = entropies_NT
        case "surprisal":
            values_NT = -logprobs_NT
        case "predictive_variance":
            p_NT = np.exp(np.where(mask_NT, logprobs_NT, 0.0))
            values_NT = p_NT * (1.0 - p_NT)
        case _:
            raise ConfigError(
                f"uncertainty: uncertainty_kind '{kind}' is unknown; "
                f"{did_you_mean(kind, UNCERTAINTY_KINDS)}"
            )
    _check_shapes("uncertainty", mask_NT.shape, values=values_NT)
    kept_NT = np.where(mask_NT, values_NT, 0.0).astype(np.float64, copy=False)
    _check_finite(kept_NT.sum(axis=1), "uncertainty")
    return kept_NT


def gtpo_weights(uncertainty_NT: AnyFloatNT, mask_NT: BoolNT, *, beta: float) -> FloatNT:
    """Weight tokens by their uncertainty relative to their completion's mean; 0 on padding.

        w_t = max(0, 1 + beta (h_t / mean(h) - 1))

    A completion's mean weight is 1 unless the clamp bites, which takes beta > 1 or h < 0. A
    completion with mean uncertainty below 1e-7 gets weights of 1.

    Source: simplified from GTPO, arXiv:2508.04349, which treats successes and failures apart.

    Raises:
        ConfigError: beta is negative.
        AlgorithmicFailure: an uncertainty is not finite.
    """
    _check_beta(beta)
    _check_shapes("gtpo_weights", mask_NT.shape, uncertainty=uncertainty_NT)
    kept_NT = np.where(mask_NT, uncertainty_NT, 0.0).astype(np.float64, copy=False)
    total_N = kept_NT.sum(axis=1)
    _check_finite(total_N, "gtpo_weights")
    slope_N = _gtpo_slope(total_N, mask_NT.sum(axis=1), beta)
    offset_N = 1.0 - np.where(slope_N > 0, beta, 0.0)
    weights_NT = np.maximum(kept_NT * slope_N[:, None] + offset_N[:, None], 0.0)
    return np.where(mask_NT, weights_NT, 0.0)


def hicra(advantages_NT: FloatNT, planning_NT: BoolNT, *, alpha: float) -> FloatNT:
    """Amplify planning tokens: A_t + alpha |A_t| m_t. More credit, and less blame.

    Source: HICRA, arXiv:2509.03646.

    Raises:
        ConfigError: alpha is outside [0, 1), where a sign could flip.
    """
    _check_alpha(alpha)
    _check_shapes("hicra", planning_NT.shape, advantages=advantages_NT)
    return np.where(planning_NT, advantages_NT + alpha * np.abs(advantages_NT), advantages_NT)


def sepa_pool(
    uncertainty_NT: AnyFloatNT, mask_NT: BoolNT, planning_NT: BoolNT, *, sepa_lambda: float
) -> FloatNT:
    """Pull the uncertainty of execution tokens towards their completion's execution mean.

        h'_t = lambda mean_exec(h) + (1 - lambda) h_t    on execution tokens
        h'_t = h_t                                       on planning tokens

    Keeps every completion's mean and scales its execution variance by (1 - lambda)^2. A
    completion without execution tokens is unchanged. 0 on padding.

    Raises:
        ConfigError: lambda is outside [0, 1].
        AlgorithmicFailure: an uncertainty is not finite.
    """
    _check_lambda(sepa_lambda)
    _check_shapes("sepa_pool", mask_NT.shape, uncertainty=uncertainty_NT, planning=planning_NT)
    kept_NT = np.where(mask_NT, uncertainty_NT, 0.0).astype(np.float64, copy=False)
    _check_finite(kept_NT.sum(axis=1), "sepa_pool")
    execution_NT = mask_NT & ~planning_NT
    count_N = execution_NT.sum(axis=1)
    mean_N = kept_NT.sum(axis=1, where=execution_NT) / np.maximum(count_N, 1)
    pooled_NT = (1.0 - sepa_lambda) * kept_NT + sepa_lambda * mean_N[:, None]
    return np.where(execution_NT, pooled_NT, kept_NT)


def token_advantages(
    mode: RowTransform,
    advantages_N: NDArray[np.float64],
    uncertainty_NT: AnyFloatNT,
    mask_NT: BoolNT,
    planning_NT: BoolNT,
    *,
    beta: float,
    alpha: float,
    sepa_lambda: float,
    hicra_after_sepa: bool = False,
) -> FloatNT:
    """Shape completion advantages over tokens; 0 on padding.

    `none` repeats the advantage, `gtpo` multiplies by `gtpo_weights`, `gtpo_hicra` then applies
    `hicra`, `gtpo_sepa` applies `sepa_pool` before GTPO, and `hicra` after it only where
    `hicra_after_sepa` says so. What a mode does not use is not looked at.

    Raises:
        ConfigError: an unknown mode, or a constant out of range.
        AlgorithmicFailure: an advantage or an uncertainty is not finite.
    """
    match mode:
        case "none":
            beta, alpha, sepa_lambda = 0.0, 0.0, 0.0
        case "gtpo":
            alpha, sepa_lambda = 0.0, 0.0
        case "gtpo_hicra":
            sepa_lambda = 0.0
        case "gtpo_sepa":
            alpha = alpha if hicra_after_sepa else 0.0
        case _:
            raise ConfigError(
                f"token_advantages: transform_mode '{mode}' is unknown; "
                f"{did_you_mean(mode, TRANSFORM_MODES)}"
            )
    _check_beta(beta)
    _check_alpha(alpha)
    _check_lambda(sepa_lambda)
    _check_shapes(
        "token_advantages", mask_NT.shape, uncertainty=uncertainty_NT, planning=planning_NT
    )
    _check_shapes("token_advantages", mask_NT.shape[:1], advantages=advantages_N)
    _check_finite(advantages_N, "token_advantages: advantages")
    shaped_NT = np.empty(mask_NT.shape)
    for rows in _blocks(mask_NT.shape):
        _shape_block(
            shaped_NT[rows],
            advantages_N[rows],
            uncertainty_NT[rows] if mode != "none" else None,
            mask_NT[rows],
            planning_NT[rows],
            beta=beta,
            alpha=alpha,
            sepa_lambda=sepa_lambda,
        )
    return shaped_NT


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Pooled, token-weighted statistics; mean and variance are None where there is no token."""

    count: int
    mean: float | None
    variance: float | None


def moments(values_NT: AnyFloatNT, where_NT: BoolNT) -> Moments:
    """Return count, mean and population variance of the chosen tokens, all rows together.

    Raises:
        AlgorithmicFailure: a chosen value is not finite.
    """
    _check_shapes("moments", where_NT.shape, values=values_NT)
    chosen = values_NT[where_NT].astype(np.float64, copy=False)
    if not chosen.size:
        return Moments(count=0, mean=None, variance=None)
    mean = chosen.mean()
    _check_finite(np.atleast_1d(mean), "moments")
    return Moments(
        count=int(chosen.size), mean=float(mean), variance=float(((chosen - mean) ** 2).mean())
    )


def _shape_block(
    out_BT: FloatNT,
    advantages_B: NDArray[np.float64],
    uncertainty_BT: AnyFloatNT | None,
    mask_BT: BoolNT,
    planning_BT: BoolNT,
    *,
    beta: float,
    alpha: float,
    sepa_lambda: float,
) -> None:
    """Write one block of `token_advantages`.

    SEPA then GTPO is, in every row, one affine function of h on execution tokens and another on
    planning tokens, so the block is shaped in a few passes without building h' or the weights.
    """
    if uncertainty_BT is None:
        np.multiply(mask_BT, advantages_B[:, None], out=out_BT)
        return
    h_BT = np.zeros(out_BT.shape)
    np.copyto(h_BT, uncertainty_BT, where=mask_BT)
    length_B = np.bitwise_count(np.packbits(mask_BT, axis=1)).sum(axis=1, dtype=np.intp)
    total_B = np.einsum("bt->b", h_BT)
    _check_finite(total_B, "token_advantages: uncertainty")
    slope_B = _gtpo_slope(total_B, length_B, beta)
    offset_B = 1.0 - np.where(slope_B > 0, beta, 0.0)
    clamp = beta > 1 or bool(h_BT.min(initial=0.0) < 0)  # else no weight can be negative
    if not (sepa_lambda or alpha):
        _weigh(out_BT, h_BT, slope_B, offset_B, advantages_B, clamp)
        out_BT *= mask_BT
        return
    plan_BT = (mask_BT & planning_BT).astype(np.float64)
    exec_slope_B, exec_offset_B = slope_B, offset_B
    if sepa_lambda:
        exec_count_B = length_B - np.einsum("bt->b", plan_BT)
        exec_total_B = total_B - np.einsum("bt,bt->b", h_BT, plan_BT)
        exec_mean_B = exec_total_B / np.maximum(exec_count_B, 1.0)
        exec_slope_B = (1.0 - sepa_lambda) * slope_B
        exec_offset_B = offset_B + slope_B * sepa_lambda * exec_mean_B
    _weigh(out_BT, h_BT, exec_slope_B, exec_offset_B, advantages_B, clamp)
    amplified_B = advantages_B + alpha * np.abs(advantages_B)
    _weigh(h_BT, h_BT, slope_B, offset_B, amplified_B, clamp)
    # out = exec part where not planning, plan part where planning, 0 on padding
    h_BT -= out_BT
    h_BT *= plan_BT
    out_BT += h_BT
    out_BT *= mask_BT


def _weigh(
    out_BT: FloatNT,
    h_BT: FloatNT,
    slope_B: NDArray[np.float64],
    offset_B: NDArray[np.float64],
    advantages_B: NDArray[np.float64],
    clamp: bool,
) -> None:
    """out = A max(0, slope h + offset), row by row; `clamp` says whether the max can bite."""
    if not clamp:
        np.multiply(h_BT, (advantages_B * slope_B)[:, None], out=out_BT)
        out_BT += (advantages_B * offset_B)[:, None]
        return
    np.multiply(h_BT, slope_B[:, None], out=out_BT)
    out_BT += offset_B[:, None]
    np.maximum(out_BT, 0.0, out=out_BT)
    out_BT *= advantages_B[:, None]


def _gtpo_slope(
    total_N: NDArray[np.float64], length_N: NDArray[np.intp], beta: float
) -> NDArray[np.float64]:
    """beta / mean(h), and 0 where the completion is flat."""
    mean_N = total_N / np.maximum(length_N, 1)
    flat_N = mean_N < FLAT_UNCERTAINTY
    return np.where(flat_N, 0.0, beta / np.where(flat_N, 1.0, mean_N))


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    rows = max(1, _BLOCK_TOKENS // max(1, shape[1]))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def _check_beta(beta: float) -> None:
    if not beta >= 0:
        raise ConfigError(f"gtpo_beta = {beta:g}; it must be >= 0 (0 is uniform)")


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha < 1:
        raise ConfigError(
            f"hicra_alpha = {alpha:g}; it must lie in [0, 1), from 1 on a negative advantage "
            "loses its sign"
        )


def _check_lambda(sepa_lambda: float) -> None:
    if not 0 <= sepa_lambda <= 1:
        raise ConfigError(f"sepa_lambda = {sepa_lambda:g}; it must lie in [0, 1]")


def _check_shapes(where: str, expected: tuple[int, ...], **arrays: NDArray[Any]) -> None:
    for name, array in arrays.items():
        if array.shape != expected:
            raise DataError(f"{where}: {name} has shape {array.shape}, the mask {expected}")


def _check_finite(row_values_N: NDArray[np.float64], where: str) -> None:
    finite_N = np.isfinite(row_values_N)
    if not finite_N.all():
        raise AlgorithmicFailure(
            f"{where}: row {int(np.argmin(finite_N))} holds a value that is not finite; the scores "
            "of this batch cannot be used"
        )
