"""The running record of one optimizer step, the same for every backend.

Knows how losses and ratios of the microbatches add up to an `UpdateResult`. Refuses to touch
parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.errors import AlgorithmicFailure, ConfigError
from cupel.policy.losses import (
    TokenLoss,
    check_loss,
    sampler_weights,
    token_loss,
    token_weights,
)
from cupel.policy.protocol import (
    Completions,
    Credit,
    FloatNT,
    KnownCredit,
    LossConfig,
    Scores,
    UpdateResult,
)

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What the microbatches of an update add up to, over their trained tokens."""

    loss: float = 0.0
    ratio: float = 0.0
    ratio_max: float = 0.0
    clipped: int = 0
    kl: float = 0.0
    truncated: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            loss=self.loss + other.loss,
            ratio=self.ratio + other.ratio,
            ratio_max=max(self.ratio_max, other.ratio_max),
            clipped=self.clipped + other.clipped,
            kl=self.kl + other.kl,
            truncated=self.truncated + other.truncated,
        )


class UpdateRecord:
    """Adds up credit and loss, microbatch by microbatch, over one global normaliser."""

    def __init__(
        self,
        completions: Completions,
        trained_N: NDArray[np.bool_],
        credit: Credit,
        config: LossConfig,
        old_logprobs_NT: FloatNT | None,
        reference_logprobs_NT: FloatNT | None = None,
    ) -> None:
        check_loss(config)
        if config.sampler_correction != "none" and completions.sampler_logprobs_NT is None:
            raise ConfigError(
                f"loss.sampler_correction = '{config.sampler_correction}' needs the probabilities "
                "that the sampler drew from, and it does not tell them; use temperature = 1 and "
                "top_p = 1, or loss.sampler_correction = 'none'"
            )
        self._credit, self._config, self._old = credit, config, old_logprobs_NT
        self._reference, self._sampler = reference_logprobs_NT, completions.sampler_logprobs_NT
        mask_NT = completions.mask_NT
        self._weights_NT = token_weights(mask_NT, trained_N, normaliser=config.normaliser)
        self.trained_tokens = int((mask_NT & trained_N[:, None]).sum())
        self.sums = Sums()

    def add(
        self, rows_B: NDArray[np.intp], logprobs_BT: Float, entropies_BT: Float | None
    ) -> TokenLoss:
        """Compute the loss of some trained rows.

        Raises:
            AlgorithmicFailure: a log-probability, an advantage or the loss is not finite.
            ConfigError: a KL penalty without reference log-probabilities.
        """
        weights_BT = self._weights_NT[rows_B]
        used_BT = weights_BT > 0
        if not np.isfinite(logprobs_BT[used_BT]).all():
            raise AlgorithmicFailure("update: a log-probability is not finite; the model diverged")
        advantages_BT = self._credit(rows_B, logprobs_BT, entropies_BT)
        if advantages_BT.shape != logprobs_BT.shape:
            raise ValueError(
                f"update: credit returned shape {advantages_BT.shape}, not {logprobs_BT.shape}"
            )
        if not np.isfinite(advantages_BT[used_BT]).all():
            raise AlgorithmicFailure("update: an advantage is not finite")
        old_BT = logprobs_BT if self._old is None else self._old[rows_B].astype(np.float64)
        if self._config.sampler_correction == "truncate":
            advantages_BT = advantages_BT * self._correction(rows_B, old_BT, used_BT)
        reference_BT = (
            self._reference[rows_B].astype(np.float64) if self._reference is not None else None
        )
        found = token_loss(
            logprobs_BT, old_BT, advantages_BT, weights_BT, self._config, reference_BT
        )
        if not math.isfinite(found.loss):
            raise AlgorithmicFailure(f"update: the loss is {found.loss}; parameters are unchanged")
        ratios = found.ratio_BT[used_BT]
        self.sums += Sums(
            loss=found.loss,
            ratio=float(ratios.sum()),
            ratio_max=float(ratios.max(initial=0.0)),
            clipped=int(found.clipped_BT[used_BT].sum()),
            kl=float(found.kl_BT[used_BT].sum()) if found.kl_BT is not None else 0.0,
        )
        return found

    def known_slope(self, rows_B: NDArray[np.intp], width: int) -> Float | None:
        """Return the slope that `add` will find for some rows, `width` tokens wide, or None.

        It is known before any score where advantages are, and where nothing else in the loss
        looks at a score: on-policy every ratio is exactly 1, whatever the log-probability.
        """
        credit, config = self._credit, self._config
        if not isinstance(credit, KnownCredit) or self._old is not None or config.kl_coef > 0:
            return None
        if config.sampler_correction != "none":
            return None
        weights_BT = self._weights_NT[rows_B, :width]
        nothing_BT = np.zeros(weights_BT.shape)
        advantages_BT = credit.advantages_NT[rows_B, :width]
        if not np.isfinite(advantages_BT).all():
            return None  # `add` will refuse them
        return token_loss(nothing_BT, nothing_BT, advantages_BT, weights_BT, config).gradient_BT

    def _correction(self, rows_B: NDArray[np.intp], old_BT: Float, used_BT: Bool) -> Float:
        """Return the truncated weights q -> pi_old of some rows, and count the truncated ones."""
        cap = self._config.sampler_cap
        assert self._sampler is not None  # refused above
        sampler_BT = self._sampler[rows_B].astype(np.float64)
        truncated = int(((old_BT - sampler_BT)[used_BT] > math.log(cap)).sum())
        self.sums += Sums(truncated=truncated)
        return sampler_weights(old_BT, sampler_BT, used_BT, cap=cap)

    def result(self, scores: Scores, *, grad_norm: float | None) -> UpdateResult:
        """Return the record; with no trained token the ratio is 1 and nothing was clipped."""
        sums, tokens = self.sums, max(self.trained_tokens, 1)
        trained = self.trained_tokens > 0
        return UpdateResult(
            scores=scores,
            loss=sums.loss,
            grad_norm=grad_norm,
            ratio_mean=sums.ratio / tokens if trained else 1.0,
            ratio_max=sums.ratio_max if trained else 1.0,
            clip_fraction=sums.clipped / tokens,
            trained_tokens=self.trained_tokens,
            reference_kl=sums.kl / tokens if trained and self._config.kl_coef > 0 else None,
            sampler_truncated_rate=sums.truncated / tokens
            if trained and self._config.sampler_correction == "truncate"
            else None,
        )
