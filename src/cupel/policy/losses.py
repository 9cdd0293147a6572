"""Policy-gradient losses on arrays: value, and gradient with respect to each log-probability.

Pure: float64 numpy in, float64 numpy out. Every backend uses these numbers, so one loss is
written once: a backend only has to carry d loss / d logprob back into its parameters. Refuses to
know where advantages come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.errors import ConfigError
from cupel.policy.protocol import LossConfig

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

CLIPPED = ("ppo", "gspo")
"""Losses with a lower and an upper clip of the ratio."""

_CLIP_EPS = LossConfig.model_fields["clip_eps"].default


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoss:
    """The loss of some rows, and what it says about each token.

    Attributes:
        loss: weighted sum over the masked tokens, KL penalty included.
        gradient_BT: d loss / d logprob, 0 off the mask.
        ratio_BT: pi_new / pi_old, 1 off the mask; under gspo one value a row.
        clipped_BT: True where the clip removes the token's gradient; under cispo, where the cap
            bounds its weight.
        kl_BT: k3 estimate of KL(pi_new || pi_ref), 0 off the mask; None without a reference.
    """

    loss: float
    gradient_BT: Float
    ratio_BT: Float
    clipped_BT: Bool
    kl_BT: Float | None = None


def check_loss(config: LossConfig) -> None:
    """Refuse ranges that make no loss, and settings that the kind of loss cannot honour.

    Raises:
        ConfigError: names the field.
    """
    if not 0 < config.clip_eps < 1:
        raise ConfigError(f"loss.clip_eps = {config.clip_eps:g}; it must lie in (0, 1)")
    if config.clip_eps_high is not None and config.clip_eps_high <= 0:
        raise ConfigError(f"loss.clip_eps_high = {config.clip_eps_high:g}; it must be > 0")
    if config.dual_clip is not None and config.dual_clip <= 1:
        raise ConfigError(f"loss.dual_clip = {config.dual_clip:g}; it must be > 1")
    if not 0 <= config.kl_coef < float("inf"):
        raise ConfigError(f"loss.kl_coef = {config.kl_coef:g}; it must be >= 0")
    if not config.sampler_cap > 0:
        raise ConfigError(f"loss.sampler_cap = {config.sampler_cap:g}; it must be > 0")
    _check_kind(config)


def _check_kind(config: LossConfig) -> None:
    """Refuse clip settings that `config.kind` would not look at."""
    kind = config.kind
    clips = (config.clip_eps_high, config.dual_clip)
    if kind == "importance_sampling" and clips != (None, None):
        raise ConfigError(
            f"loss.kind '{kind}' does not clip; leave loss.clip_eps_high and "
            "loss.dual_clip unset, or use loss.kind 'ppo'"
        )
    if kind in ("gspo", "cispo") and config.dual_clip is not None:
        raise ConfigError(
            f"loss.kind '{kind}' has no dual clip; leave loss.dual_clip unset, or use loss.kind "
            "'ppo'"
        )
    if kind == "cispo" and config.clip_eps_high is None:
        raise ConfigError(
            "loss.kind 'cispo' caps the ratio at 1 + loss.clip_eps_high; give loss.clip_eps_high, "
            "e.g. 4"
        )
    if kind not in CLIPPED and config.clip_eps != _CLIP_EPS:
        raise ConfigError(
            f"loss.clip_eps = {config.clip_eps:g} with loss.kind '{kind}', which has no lower "
            "clip; leave it out, or use loss.kind 'ppo'"
        )


def token_weights(mask_NT: Bool, trained_N: Bool, *, normaliser: str) -> Float:
    """Return each token's weight in the loss, from the whole batch.

    token: 1 / tokens of the trained rows. sequence: 1 / (rows x tokens of the row).
    constant: 1 / (rows x T), T the token limit (Dr. GRPO, arXiv:2503.20783).
    """
    used_NT = mask_NT & trained_N[:, None]
    rows = max(int(trained_N.sum()), 1)
    if normaliser == "token":
        scale_N = np.full(len(trained_N), 1.0 / max(int(used_NT.sum()), 1))
    elif normaliser == "sequence":
        scale_N = 1.0 / (rows * np.maximum(mask_NT.sum(axis=1), 1))
    elif normaliser == "constant":
        scale_N = np.full(len(trained_N), 1.0 / (rows * mask_NT.shape[1]))
    else:
        raise ConfigError(f"loss.normaliser = {normaliser!r}; allowed: token, sequence, constant")
    weights: Float = used_NT * scale_N[:, None]
    return weights


def sampler_weights(
    old_logprobs_BT: Float, sampler_logprobs_BT: Float, used_BT: Bool, *, cap: float
) -> Float:
    """Return min(pi_old / q, cap) on the used tokens, 1 elsewhere: a truncated importance weight.

    Source: truncated importance sampling, Ionides (2008); for a sampler that differs from the
    trainer, Yao et al., "Your efficient RL framework secretly brings you off-policy RL training"
    (2025). Computed per token; nothing is renormalised.
    """
    log_weight_BT = np.zeros(used_BT.shape)
    np.subtract(old_logprobs_BT, sampler_logprobs_BT, out=log_weight_BT, where=used_BT)
    weights: Float = np.exp(
        np.minimum(log_weight_BT, np.log(cap), where=used_BT, out=log_weight_BT)
    )
    return weights


def token_loss(
    logprobs_BT: Float,
    old_logprobs_BT: Float,
    advantages_BT: Float,
    weights_BT: Float,
    config: LossConfig,
    reference_logprobs_BT: Float | None = None,
) -> TokenLoss:
    """Return the weighted loss and its exact gradient with respect to the log-probabilities.

    With r = exp(logprob - old logprob), per token:

        importance_sampling   -r A
        ppo                   max(-r A, -clip(r, 1 - e, 1 + e_high) A); dual clip c: at most -c A
                              where A < 0
        gspo                  ppo with s = exp(mean over the row's tokens of log r) in r's place
        cispo                 -min(r, 1 + e_high) A logprob, no gradient through the weight
        kl_coef > 0           + kl_coef (exp(d) - d - 1), d = reference logprob - logprob

    GSPO is written in its token form (arXiv:2507.18071 eq. 14: each token has the row's ratio as
    value and its own log-probability's gradient), which equals the sequence form when a row's
    token advantages are equal and also takes advantages that differ.

    Source: PPO arXiv:1707.06347 eq. 7; clip-higher arXiv:2503.14476; dual clip arXiv:1912.09729
    eq. 5; GSPO arXiv:2507.18071; CISPO arXiv:2506.13585 eq. 4, 5 without a lower bound; KL
    arXiv:2402.03300 eq. 4. At a tie the unclipped branch keeps its gradient.

    Raises:
        ConfigError: a KL penalty without reference log-probabilities.
    """
    used_BT = weights_BT > 0
    ratio_BT = _ratios(logprobs_BT, old_logprobs_BT, used_BT, by_row=config.kind == "gspo")
    advantages_BT = np.where(used_BT, advantages_BT, 0.0)
    value_BT = -ratio_BT * advantages_BT
    slope_BT, clipped_BT = value_BT, np.zeros(used_BT.shape, dtype=np.bool_)
    if config.kind in CLIPPED:
        value_BT, clipped_BT = _clipped(value_BT, ratio_BT, advantages_BT, config)
        slope_BT = np.where(clipped_BT, 0.0, slope_BT)
    elif config.kind == "cispo":
        cap = 1 + (config.clip_eps_high or 0.0)
        clipped_BT = ratio_BT > cap
        slope_BT = -np.minimum(ratio_BT, cap) * advantages_BT
        value_BT = slope_BT * np.where(used_BT, logprobs_BT, 0.0)
    kl_BT = None
    if config.kl_coef > 0:
        kl_BT, kl_slope_BT = _kl(logprobs_BT, reference_logprobs_BT, used_BT)
        value_BT = value_BT + config.kl_coef * kl_BT
        slope_BT = slope_BT + config.kl_coef * kl_slope_BT
    return TokenLoss(
        loss=float((value_BT * weights_BT).sum()),
        gradient_BT=slope_BT * weights_BT,
        ratio_BT=ratio_BT,
        clipped_BT=clipped_BT,
        kl_BT=kl_BT,
    )


def _ratios(logprobs_BT: Float, old_BT: Float, used_BT: Bool, *, by_row: bool) -> Float:
    """Return pi_new / pi_old, or its geometric mean over each row's used tokens."""
    log_ratio_BT = np.zeros(used_BT.shape)
    np.subtract(logprobs_BT, old_BT, out=log_ratio_BT, where=used_BT)
    if by_row:
        mean_B = log_ratio_BT.sum(axis=1) / np.maximum(used_BT.sum(axis=1), 1)
        log_ratio_BT = np.where(used_BT, mean_B[:, None], 0.0)
    with np.errstate(over="ignore"):  # an infinite loss is refused by name, by the caller
        ratio: Float = np.exp(log_ratio_BT)
    return ratio


def _clipped(
    value_BT: Float, ratio_BT: Float, advantages_BT: Float, config: LossConfig
) -> tuple[Float, Bool]:
    """Return the clipped surrogate's value, and where the clip took the gradient."""
    high = config.clip_eps if config.clip_eps_high is None else config.clip_eps_high
    bounded_BT = -np.clip(ratio_BT, 1 - config.clip_eps, 1 + high) * advantages_BT
    clipped_BT = bounded_BT > value_BT
    value_BT = np.maximum(value_BT, bounded_BT)
    if config.dual_clip is not None:
        ceiling_BT = -config.dual_clip * advantages_BT
        over_BT = (advantages_BT < 0) & (value_BT > ceiling_BT)
        value_BT = np.where(over_BT, ceiling_BT, value_BT)
        clipped_BT = clipped_BT | over_BT
    return value_BT, clipped_BT


def _kl(logprobs_BT: Float, reference_BT: Float | None, used_BT: Bool) -> tuple[Float, Float]:
    """Return the k3 estimate of KL(pi_new || pi_ref) and its derivative, 0 off the mask."""
    if reference_BT is None:
        raise ConfigError(
            "loss.kl_coef > 0 needs the log-probabilities of a reference policy, and this backend "
            "gave none; set loss.kl_coef = 0"
        )
    gap_BT = np.zeros(used_BT.shape)
    np.subtract(reference_BT, logprobs_BT, out=gap_BT, where=used_BT)
    with np.errstate(over="ignore"):
        excess_BT = np.expm1(gap_BT)
    return excess_BT - gap_BT, -excess_BT
