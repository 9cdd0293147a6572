"""Recipes with a defective policy, as a plug-in author might write one by mistake."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.lab import Result, RunContext
from cupel.policy.protocol import Completions, Credit, FloatNT, LossConfig, Scores, UpdateResult
from cupel.policy.toy_policy import ToyPolicy
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.train import TrainRecipe, train


class ShiftedScores:
    """Scores every row one position off; `also_update` shifts the update's rows as well."""

    def __init__(self, policy: ToyPolicy, *, scores: bool, updates: bool) -> None:
        self._policy, self._scores, self._updates = policy, scores, updates
        self.capabilities, self.tokenizer = policy.capabilities, policy.tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def score(self, completions: Completions) -> Scores:
        scores = self._policy.score(completions)
        if not self._scores:
            return scores
        return replace(scores, logprobs_NT=shifted(scores.logprobs_NT, completions))

    def update(
        self,
        completions: Completions,
        *,
        trained_N: NDArray[np.bool_],
        credit: Credit,
        loss: LossConfig,
        lr: float,
        old_logprobs_NT: FloatNT | None = None,
    ) -> UpdateResult:
        def seen(rows_B: Any, logprobs_BT: Any, entropies_BT: Any) -> Any:
            if self._updates:
                logprobs_BT = shifted(logprobs_BT, completions, rows_B)
            return credit(rows_B, logprobs_BT, entropies_BT)

        return self._policy.update(
            completions,
            trained_N=trained_N,
            credit=seen,
            loss=loss,
            lr=lr,
            old_logprobs_NT=old_logprobs_NT,
        )


def shifted(logprobs_BT: Any, completions: Completions, rows: Any = slice(None)) -> Any:
    """Move log-probabilities one position on; the -0.2 stands for the rows of a sharper model."""
    mask_BT = completions.mask_NT[rows]
    return np.where(mask_BT, np.roll(logprobs_BT, 1, axis=1) - 0.2, 0.0).astype(logprobs_BT.dtype)


class Misaligned(TrainRecipe):
    """`rlvr.train` with a policy whose rows are off by one."""

    def __init__(self, *, scores: bool, updates: bool) -> None:
        self._scores, self._updates = scores, updates

    def run(self, config: TrainConfig, context: RunContext) -> Result:
        inner = ToyPolicy(seed=context.seed)
        return train(
            config, context, ShiftedScores(inner, scores=self._scores, updates=self._updates)
        )


class DivergingPolicy(ShiftedScores):
    """Reports a loss that is not a number in its third update."""

    updates = 0

    def update(self, completions: Completions, **settings: Any) -> UpdateResult:
        found = super().update(completions, **settings)
        self.updates += 1
        return replace(found, loss=float("nan")) if self.updates == 3 else found


class Diverging(TrainRecipe):
    """`rlvr.train` with a policy that diverges."""

    def run(self, config: TrainConfig, context: RunContext) -> Result:
        inner = ToyPolicy(seed=context.seed)
        return train(config, context, DivergingPolicy(inner, scores=False, updates=False))


DIVERGES = Diverging()
IN_SCORES = Misaligned(scores=True, updates=True)
IN_UPDATE = Misaligned(scores=False, updates=True)
NOWHERE = Misaligned(scores=False, updates=False)
