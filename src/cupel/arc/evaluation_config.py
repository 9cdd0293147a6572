"""The settings of one evaluation. Knows names, meanings and ranges; refuses to know tensors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cupel.config import Config


class EvaluateConfig(Config):
    """Votes over augmentations of test inputs, by one checkpoint of an `arc.train` run."""

    checkpoint: str
    """Run folder of a training (its newest checkpoint is taken), or one step_N folder in it."""
    weights: Literal["ema", "raw"] = "ema"
    """The moving average of the weights, or the weights themselves."""
    view: Literal["heldout", "train_probe"] = "heldout"
    """heldout: puzzles never trained on; train_probe: the test inputs of the training groups."""
    n_augmentations: int = Field(default=32, ge=1)
    """Most distinct variants of a puzzle that vote: the puzzle itself, then turned and recoloured
    ones. Small puzzles have fewer."""
    max_eval_groups: int | None = Field(default=None, ge=1)
    """Evaluate the first so many held-out puzzles of the seeded order (view heldout)."""
    max_probe_groups: int | None = Field(default=None, ge=1)
    """Evaluate the first so many training groups (view train_probe)."""
    evaluation: tuple[str, ...] | None = None
    """Other sources to be judged by than those the training named, e.g. folder:my_tasks; checked
    against every source it was trained on."""
    max_side: int | None = Field(default=None, ge=1, le=30)
    """Only puzzles whose grids fit this side; not given: as in training."""
    halt_max_steps: int | None = Field(default=None, ge=1)
    """Steps for every prediction; not given: as in training."""
    early_exit: bool = False
    """Stop each prediction at the first step whose halt value is positive."""
    batch_size: int = Field(default=64, ge=1)
    """Predictions computed together; changes nothing but speed and memory."""

    @model_validator(mode="after")
    def _caps_belong_to_the_view(self) -> EvaluateConfig:
        caps = {"heldout": "max_eval_groups", "train_probe": "max_probe_groups"}
        other = next(cap for view, cap in caps.items() if view != self.view)
        if getattr(self, other) is not None:
            raise ValueError(
                f"{other} = {getattr(self, other)} caps another view than '{self.view}'; "
                f"use {caps[self.view]}"
            )
        if self.view == "train_probe" and self.evaluation is not None:
            raise ValueError("'evaluation' names puzzles of the view heldout, not of train_probe")
        return self
