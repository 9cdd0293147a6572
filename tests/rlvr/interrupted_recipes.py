"""`rlvr.evaluate` interrupted by its user, in the middle of a part."""

from __future__ import annotations

from typing import Any

from cupel.lab import Result, RunContext
from cupel.policy.protocol import Completions
from cupel.policy.toy_policy import ToyPolicy
from cupel.rlvr.evaluation_config import EvaluateConfig
from cupel.rlvr.evaluation_recipe import EvaluateRecipe, evaluate_checkpoint


class ImpatientPolicy(ToyPolicy):
    """Is interrupted when it samples for the `patience` + 1st time."""

    patience = 0

    def sample(self, *prompts: Any, **settings: Any) -> Completions:
        if self.patience == 0:
            raise KeyboardInterrupt
        self.patience -= 1
        return super().sample(*prompts, **settings)


class Interrupted(EvaluateRecipe):
    """The first attempt stops after `patience` parts; those after it do not."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def run(self, config: EvaluateConfig, context: RunContext) -> Result:
        if context.resume is not None:
            return super().run(config, context)
        policy = ImpatientPolicy(seed=context.seed)
        policy.patience = self._patience
        return evaluate_checkpoint(config, context, policy)


AFTER_ONE = Interrupted(1)
AFTER_THREE = Interrupted(3)
