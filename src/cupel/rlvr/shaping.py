"""From group advantages to token advantages, and from those to one update of the policy.

The bridge between the pure credit functions and a policy's microbatches. Refuses to sample,
grade or log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cupel.policy.gate import check_ratio_gate, gated_credit
from cupel.policy.protocol import Completions, Credit, Policy, Scores, UpdateResult
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.credit import token_advantages, uncertainty

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """Everything that decides a step's token advantages, besides the scores.

    Attributes:
        advantages_N: advantage of each completion; rows of uniform groups are exactly 0.
        planning_NT: planning mask. mask_NT: True on sampled tokens.
        sepa_lambda: pooling strength of this step; used only where the transform has SEPA.
    """

    config: TrainConfig
    advantages_N: Float
    planning_NT: NDArray[np.bool_]
    mask_NT: NDArray[np.bool_]
    sepa_lambda: float

    @property
    def trained_N(self) -> NDArray[np.bool_]:
        """Rows of the update: those of groups whose advantages are not all zero.

        With `uninformative_groups = "keep"` all rows, unless none teaches.
        """
        informative_P = (self.advantages_N.reshape(-1, self.config.group_size) != 0).any(axis=1)
        if self.config.uninformative_groups == "keep" and informative_P.any():
            informative_P = np.ones_like(informative_P)
        trained: NDArray[np.bool_] = np.repeat(informative_P, self.config.group_size)
        return trained

    @property
    def effective_lambda(self) -> float:
        """The pooling strength in force: 0 where the transform has no SEPA."""
        return self.sepa_lambda if self.config.transform_mode == "gtpo_sepa" else 0.0

    def uncertainty(self, scores: Scores) -> Float:
        """Return the uncertainty [N, T] of the configured kind, 0 on padding."""
        return uncertainty(
            self.config.uncertainty_kind, scores.logprobs_NT, scores.entropies_NT, self.mask_NT
        )

    def credit(
        self, rows_B: NDArray[np.intp], logprobs_BT: Float, entropies_BT: Float | None
    ) -> Float:
        """Return the token advantages [B, T'] of some rows, T' as wide as the scores given."""
        width = logprobs_BT.shape[1]
        mask_BT = self.mask_NT[rows_B, :width]
        uncertainty_BT = uncertainty(
            self.config.uncertainty_kind, logprobs_BT, entropies_BT, mask_BT
        )
        return token_advantages(
            self.config.transform_mode,
            self.advantages_N[rows_B],
            uncertainty_BT,
            mask_BT,
            self.planning_NT[rows_B, :width],
            beta=self.config.gtpo_beta,
            alpha=self.config.hicra_alpha,
            sepa_lambda=self.sepa_lambda,
            hicra_after_sepa=self.config.hicra_after_sepa,
        )


def improve(
    policy: Policy, completions: Completions, shaping: Shaping, *, gate: bool
) -> UpdateResult | None:
    """Update the policy on a batch; None when no group teaches and nothing was done.

    With one update a batch, pi_old is the update's own forward pass. With more, pi_old and the
    token advantages are computed once, before the first.

    Args:
        gate: check first that sampler, scoring and update agree on every token's probability.

    Raises:
        GateFailure: they do not; the parameters are untouched.
    """
    config, trained_N = shaping.config, shaping.trained_N
    credit: Credit = shaping.credit
    if gate:
        scores = policy.score(completions)
        check_ratio_gate(completions, scores, tolerance=config.ratio_gate)
        credit = gated_credit(credit, completions, scores, tolerance=config.ratio_gate)
    if not trained_N.any():
        return None
    if config.updates_per_batch == 1:
        return policy.update(
            completions, trained_N=trained_N, credit=credit, loss=config.loss, lr=config.lr
        )
    return _improve_repeatedly(policy, completions, shaping, gate=gate)


def _improve_repeatedly(
    policy: Policy, completions: Completions, shaping: Shaping, *, gate: bool
) -> UpdateResult:
    config, trained_N = shaping.config, shaping.trained_N
    scores = policy.score(completions)
    rows_N = np.arange(len(trained_N))
    entropies = scores.entropies_NT
    advantages_NT = shaping.credit(
        rows_N,
        scores.logprobs_NT.astype(np.float64),
        None if entropies is None else entropies.astype(np.float64),
    )

    def fixed(rows_B: NDArray[np.intp], logprobs_BT: Float, entropies_BT: Float | None) -> Float:
        return advantages_NT[rows_B, : logprobs_BT.shape[1]]

    gated = gated_credit(fixed, completions, scores, tolerance=config.ratio_gate)
    for number in range(config.updates_per_batch):
        update = policy.update(
            completions,
            trained_N=trained_N,
            credit=gated if gate and number == 0 else fixed,
            loss=config.loss,
            lr=config.lr,
            old_logprobs_NT=scores.logprobs_NT,
        )
    return replace(update, scores=scores)
