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


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoss:
    """The loss of some rows, and what it says about each token.

    Attributes:
        loss: weighted sum over the masked tokens.
        gradient_BT: d loss / d logprob, 0 off the mask.
        ratio_BT: pi_new / pi_old, 1 off the mask.
        clipped_BT: True where the clip removes the token's gradient.
    """

    loss: float
    gradient_BT: Float
    ratio_BT: Float
    clipped_BT: Bool


def check_loss(config: LossConfig) -> None:
    """Refuse ranges that make no loss.

    Raises:
        ConfigError: names the field.
    """
    if not 0 < config.clip_eps < 1:
        raise ConfigError(f"loss.clip_eps = {config.clip_eps:g}; it must lie in (0, 1)")
    if config.clip_eps_high is not None and config.clip_eps_high <= 0:
        raise ConfigError(f"loss.clip_eps_high = {config.clip_eps_high:g}; it must be > 0")
    if config.dual_clip is not None and config.dual_clip <= 1:
        raise ConfigError(f"loss.dual_clip = {config.dual_clip:g}; it must be > 1")
    if config.kind != "ppo" and (config.clip_eps_high, config.dual_clip) != (None, None):
        raise ConfigError(
            f"loss.kind '{config.kind}' does not clip; leave loss.clip_eps_high and "
            "loss.dual_clip unset, or use loss.kind 'ppo'"
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


def token_loss(
    logprobs_BT: Float,
    old_logprobs_BT: Float,
    advantages_BT: Float,
    weights_BT: Float,
    config: LossConfig,
) -> TokenLoss:
    """Return the weighted loss and its exact gradient with respect to the log-probabilities.

    importance sampling: L = -sum w r A; ppo: L = sum w max(-r A, -clip(r, 1 - e, 1 + e_high) A),
    with dual clip c: min(that, -c A) where A < 0; r = exp(logprob - old logprob).

    Source: PPO arXiv:1707.06347 eq. 7; clip-higher arXiv:2503.14476; dual clip arXiv:1912.09729
    eq. 5. At a tie the unclipped branch keeps its gradient.
    """
    used_BT = weights_BT > 0
    log_ratio_BT = np.zeros(used_BT.shape)
    np.subtract(logprobs_BT, old_logprobs_BT, out=log_ratio_BT, where=used_BT)
    with np.errstate(over="ignore"):  # an infinite loss is refused by name, by the caller
        ratio_BT = np.exp(log_ratio_BT)
    advantages_BT = np.where(used_BT, advantages_BT, 0.0)
    value_BT = -ratio_BT * advantages_BT
    clipped_BT = np.zeros(used_BT.shape, dtype=np.bool_)
    if config.kind == "ppo":
        high = config.clip_eps if config.clip_eps_high is None else config.clip_eps_high
        bounded_BT = -np.clip(ratio_BT, 1 - config.clip_eps, 1 + high) * advantages_BT
        clipped_BT = bounded_BT > value_BT
        value_BT = np.maximum(value_BT, bounded_BT)
        if config.dual_clip is not None:
            ceiling_BT = -config.dual_clip * advantages_BT
            over_BT = (advantages_BT < 0) & (value_BT > ceiling_BT)
            value_BT = np.where(over_BT, ceiling_BT, value_BT)
            clipped_BT = clipped_BT | over_BT
    gradient_BT = np.where(clipped_BT, 0.0, -ratio_BT * advantages_BT) * weights_BT
    return TokenLoss(
        loss=float((value_BT * weights_BT).sum()),
        gradient_BT=gradient_BT,
        ratio_BT=ratio_BT,
        clipped_BT=clipped_BT,
    )
