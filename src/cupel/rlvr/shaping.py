"""From group advantages to token advantages, and from those to one update of the policy.

The bridge between the pure credit functions and a policy's microbatches. Refuses to sample,
grade or log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import ConfigError
from cupel.policy.gate import check_ratio_gate, gated_credit
from cupel.policy.protocol import (
    Completions,
    Credit,
    FloatNT,
    KnownCredit,
    Policy,
    ReferencePolicy,
    Scores,
    UpdateResult,
)
from cupel.rlvr.advantages import overlong_penalties
from cupel.rlvr.batch_credit import (
    entropy_masked,
    entropy_threshold,
    gtpo_paper_weights,
    standardised_by_outcome,
)
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.credit import BATCH_TRANSFORMS, token_advantages, uncertainty

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """Everything that decides a step's token advantages, besides the scores.

    Attributes:
        advantages_N: advantage of each completion; under a group's baseline the rows of groups of
            equal rewards are exactly 0.
        planning_NT: planning mask. mask_NT: True on sampled tokens.
        sepa_lambda: pooling strength of this step; used only where the transform has SEPA.
        lr: learning rate of this step; None: the config's peak.
    """

    config: TrainConfig
    advantages_N: Float
    planning_NT: NDArray[np.bool_]
    mask_NT: NDArray[np.bool_]
    sepa_lambda: float
    lr: float | None = None

    @property
    def learning_rate(self) -> float:
        """The learning rate of this step."""
        return self.config.lr if self.lr is None else self.lr

    @property
    def trained_N(self) -> NDArray[np.bool_]:
        """Rows of the update: those of groups whose advantages are not all zero.

        With `uninformative_groups = "keep"` all rows, unless none teaches; with "resample" those
        of the first `batch_size` such groups.
        """
        trained_P = (self.advantages_N.reshape(-1, self.config.group_size) != 0).any(axis=1)
        match self.config.uninformative_groups:
            case "keep" if trained_P.any():
                trained_P = np.ones_like(trained_P)
            case "resample":
                trained_P = trained_P & (np.cumsum(trained_P) <= self.config.batch_size)
        trained: NDArray[np.bool_] = np.repeat(trained_P, self.config.group_size)
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

    def threshold(self, uncertainty_NT: Float) -> float | None:
        """Return the entropy a token needs for credit; None where the transform has no mask."""
        if self.config.transform_mode != "entropy_mask":
            return None
        used_NT = self.mask_NT & self.trained_N[:, None]
        return entropy_threshold(uncertainty_NT, used_NT, top_share=self.config.entropy_top_share)

    def batch_credit(self, scores: Scores) -> Float:
        """Return the token advantages [N, T] of the whole batch, whatever the transform."""
        mode, values_NT = self.config.transform_mode, self.uncertainty(scores)
        if mode == "entropy_mask":
            return entropy_masked(
                self.advantages_N, values_NT, self.mask_NT, threshold=self.threshold(values_NT)
            )
        if mode == "gtpo_paper":
            return self._gtpo_paper(values_NT)
        entropies = scores.entropies_NT
        return self.credit(
            np.arange(len(self.mask_NT)),
            scores.logprobs_NT.astype(np.float64),
            None if entropies is None else entropies.astype(np.float64),
        )

    def _gtpo_paper(self, uncertainty_NT: Float) -> Float:
        group = self.config.group_size
        weights_NT = gtpo_paper_weights(
            self.advantages_N,
            uncertainty_NT,
            self.mask_NT,
            group_size=group,
            beta=self.config.gtpo_beta,
        )
        if self.config.gtpo_normalize == "outcome":
            return standardised_by_outcome(
                self.advantages_N, weights_NT, self.mask_NT, group_size=group
            )
        return self.advantages_N[:, None] * weights_NT

    @property
    def known_credit(self) -> KnownCredit | None:
        """The token advantages, where the transform looks at no uncertainty; None elsewhere."""
        if self.config.transform_mode != "none":
            return None
        return KnownCredit(advantages_NT=np.where(self.mask_NT, self.advantages_N[:, None], 0.0))

    def credit(
        self, rows_B: NDArray[np.intp], logprobs_BT: Float, entropies_BT: Float | None
    ) -> Float:
        """Return the token advantages [B, T'] of some rows, T' as wide as the scores given.

        For transforms that shape every completion by itself; see `batch_credit` for the others.
        """
        mode = self.config.transform_mode
        assert mode != "gtpo_paper" and mode != "entropy_mask"  # noqa: PT018
        width = logprobs_BT.shape[1]
        mask_BT = self.mask_NT[rows_B, :width]
        uncertainty_BT = uncertainty(
            self.config.uncertainty_kind, logprobs_BT, entropies_BT, mask_BT
        )
        return token_advantages(
            mode,
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
    token advantages are computed once, before the first; so are the token advantages of a
    transform that must see the whole batch.

    Args:
        gate: check first that sampler, scoring and update agree on every token's probability.

    Raises:
        GateFailure: they do not; the parameters are untouched.
        ConfigError: the loss needs a reference policy and the backend keeps none.
    """
    config = shaping.config
    once = config.updates_per_batch == 1 and config.transform_mode not in BATCH_TRANSFORMS
    scores = policy.score(completions) if gate or not once else None
    if gate and scores is not None:
        check_ratio_gate(completions, scores, tolerance=config.gate_tolerance)
    if not shaping.trained_N.any():
        return None
    reference = _reference(policy, completions, config)
    if not once and scores is not None:
        return _improve_repeatedly(policy, completions, shaping, scores, reference, gate=gate)
    credit: Credit = shaping.known_credit or shaping.credit
    if scores is not None:
        credit = gated_credit(credit, completions, scores, tolerance=config.update_tolerance)
    return policy.update(completions, credit=credit, **_settings(shaping, reference))


def _improve_repeatedly(
    policy: Policy,
    completions: Completions,
    shaping: Shaping,
    scores: Scores,
    reference: FloatNT | None,
    *,
    gate: bool,
) -> UpdateResult:
    config, advantages_NT = shaping.config, shaping.batch_credit(scores)
    fixed = KnownCredit(advantages_NT=advantages_NT)
    gated = gated_credit(fixed, completions, scores, tolerance=config.update_tolerance)
    for number in range(config.updates_per_batch):
        update = policy.update(
            completions,
            credit=gated if gate and number == 0 else fixed,
            old_logprobs_NT=scores.logprobs_NT if config.updates_per_batch > 1 else None,
            **_settings(shaping, reference),
        )
    return replace(update, scores=scores)


def _settings(shaping: Shaping, reference: FloatNT | None) -> dict[str, Any]:
    """Return what every update of a step shares."""
    config = shaping.config
    settings = {"trained_N": shaping.trained_N, "loss": config.loss, "lr": shaping.learning_rate}
    return settings if reference is None else settings | {"reference_logprobs_NT": reference}


def _reference(policy: Policy, completions: Completions, config: TrainConfig) -> FloatNT | None:
    """Score the reference policy where the loss has a KL penalty."""
    if config.loss.kl_coef == 0:
        return None
    if not (policy.capabilities.reference and isinstance(policy, ReferencePolicy)):
        raise ConfigError(
            f"loss.kl_coef = {config.loss.kl_coef:g} needs a policy that keeps its first weights, "
            f"and backend '{config.backend}' keeps none; set loss.kl_coef = 0"
        )
    return policy.score_reference(completions)


def length_penalties(lengths_N: NDArray[np.int32], config: TrainConfig) -> Float | None:
    """Return the overlong penalties [P, G]; None where the config has none."""
    if config.overlong_buffer_rate == 0:
        return None
    return overlong_penalties(
        lengths_N.reshape(-1, config.group_size),
        max_tokens=config.max_tokens,
        buffer_rate=config.overlong_buffer_rate,
        penalty=config.overlong_penalty,
    )
