"""The running record of one optimizer step, the same for every backend.

Knows how losses and ratios of the microbatches add up to an `UpdateResult`. Refuses to touch
parameters.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cupel.errors import AlgorithmicFailure
from cupel.policy.losses import (
    TokenLoss,
    check_loss,
    sampler_weights,
    token_loss,
    token_weights,
)
from cupel.policy.protocol import Completions, Credit, FloatNT, LossConfig, Scores, UpdateResult

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


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
        self._credit, self._config, self._old = credit, config, old_logprobs_NT
        self._reference, self._sampler = reference_logprobs_NT, completions.sampler_logprobs_NT
        mask_NT = completions.mask_NT
        self._weights_NT = token_weights(mask_NT, trained_N, normaliser=config.normaliser)
        self.trained_tokens = int((mask_NT & trained_N[:, None]).sum())
        self.loss = 0.0
        self._ratio_sum, self._ratio_max, self._clipped = 0.0, 0.0, 0
        self._kl_sum, self._truncated = 0.0, 0

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
        self.loss += found.loss
        self._ratio_sum += float(ratios.sum())
        self._ratio_max = max(self._ratio_max, float(ratios.max(initial=0.0)))
        self._clipped += int(found.clipped_BT[used_BT].sum())
        self._kl_sum += float(found.kl_BT[used_BT].sum()) if found.kl_BT is not None else 0.0
        return found

    def _correction(self, rows_B: NDArray[np.intp], old_BT: Float, used_BT: Bool) -> Float:
        """Return the truncated weights q -> pi_old of some rows, and count the truncated ones."""
        cap = self._config.sampler_cap
        sampler_BT = self._sampler[rows_B].astype(np.float64)
        self._truncated += int(((old_BT - sampler_BT)[used_BT] > math.log(cap)).sum())
        return sampler_weights(old_BT, sampler_BT, used_BT, cap=cap)

    def result(self, scores: Scores, *, grad_norm: float) -> UpdateResult:
        """Return the record; with no trained token the ratio is 1 and nothing was clipped."""
        tokens = max(self.trained_tokens, 1)
        trained = self.trained_tokens > 0
        return UpdateResult(
            scores=scores,
            loss=self.loss,
            grad_norm=grad_norm,
            ratio_mean=self._ratio_sum / tokens if trained else 1.0,
            ratio_max=self._ratio_max if trained else 1.0,
            clip_fraction=self._clipped / tokens,
            trained_tokens=self.trained_tokens,
            reference_kl=self._kl_sum / tokens if trained and self._config.kl_coef > 0 else None,
            sampler_truncated_rate=self._truncated / tokens
            if trained and self._config.sampler_correction == "truncate"
            else None,
        )
