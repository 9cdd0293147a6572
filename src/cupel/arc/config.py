"""The settings of one training run, flat, under the names they have in the ETRM and TRM projects.

Knows names, types, meanings and defaults. Refuses to know how any of it is done, and tensors: the
command line reads this without importing torch.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import Field, model_validator

from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.health import HealthLimits
from cupel.arc.items import ItemConfig
from cupel.arc.model_config import (
    CoreConfig,
    HaltingConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
)
from cupel.arc.puzzles import SourceConfig
from cupel.config import Config

PartT = TypeVar("PartT", bound=Config)


class ArcTrainConfig(CoreConfig, HaltingConfig, LossConfig, OptimizerConfig):
    """One training of an encoder and a recursive decoder on ARC tasks."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    """How demonstrations become the decoder's context."""
    source: SourceConfig = Field(default_factory=SourceConfig)
    """Where puzzles come from."""
    items: ItemConfig = Field(default_factory=ItemConfig)
    """How a puzzle becomes a query and its context."""
    max_train_groups: int | None = Field(default=None, ge=1)
    """Learn from the first so many training puzzles of the seeded order; null: all."""
    max_eval_groups: int | None = Field(default=None, ge=1)
    """Judge on the first so many held-out puzzles of the seeded order; null: all. They are never
    the training groups: those are probed under `train_probe`."""
    max_side: int | None = Field(default=None, ge=1, le=30)
    """Only puzzles whose grids all fit this side; null: all."""
    order_seed: int = Field(default=0, ge=0)
    """Seed of the order in which puzzles are counted; the same groups for every seed of a run."""
    train_on_heldout_demos: bool = False
    """Also learn from the demonstrations of the held-out puzzles: TRM's protocol, and what a
    learned embedding needs. Such a run is labelled contaminated."""
    load_pretrained_decoder: str | None = None
    """Checkpoint whose decoder to start from; its architecture must be this one."""
    pretrained_decoder_weights: Literal["ema", "raw"] = "ema"
    """Averaged or raw weights of that checkpoint."""
    trust_pretrained_decoder: bool = False
    """Take a bare state dict, which cannot say what it is, to be of this run's architecture."""

    max_steps: int = Field(default=50_000, ge=1)
    """Updates; one update is one step of the recursion in every slot of one canvas side."""
    global_batch_size: int = Field(default=384, ge=1)
    """Slots of every canvas side, over all processes together."""
    compile: bool = False
    """Compile the recursion, one graph a canvas side."""
    log_every: int = Field(default=10, ge=1)
    """Updates between rows of metrics.jsonl, and between reads from the device."""
    save_every: int = Field(default=1000, ge=0)
    """Updates between checkpoints; one is always written at the end. 0: only that one."""
    eval_every: int = Field(default=1000, ge=0)
    """Updates between evaluations on the training groups; one is always made at the end."""
    eval_batch_size: int = Field(default=64, ge=1)
    """Queries evaluated together."""
    probe_groups: int | None = Field(default=64, ge=1)
    """Training groups that are probed, the first of the seeded order; null: all."""
    evaluate_heldout: bool = False
    """Also evaluate the test inputs of held-out puzzles, without votes."""
    prediction_samples: int = Field(default=32, ge=0)
    """Probed queries whose predictions are kept at every evaluation, at most one a puzzle."""
    stop_when_unhealthy: Literal["warn", "stop"] = "warn"
    """What a broken health rule does: a note in the record, or the end of the run."""
    health: HealthLimits = Field(default_factory=HealthLimits)
    """Zones of the health check."""

    @model_validator(mode="after")
    def _canvases_fit(self) -> ArcTrainConfig:
        if self.max_side is not None and self.max_side > self.items.sides[-1]:
            raise ValueError(
                f"max_side = {self.max_side} exceeds the largest canvas, {self.items.sides[-1]}; "
                "lower it or add a canvas to items.sides"
            )
        if self.max_side is None and self.items.sides[-1] < 30:
            raise ValueError(
                f"the largest canvas has side {self.items.sides[-1]} and ARC has grids up to 30; "
                f"set max_side = {self.items.sides[-1]} to leave larger puzzles out"
            )
        unknown = self.evaluate_heldout and not self.train_on_heldout_demos
        if self.encoder.kind == "embedding" and unknown:
            raise ValueError(
                "evaluate_heldout with a learned embedding needs train_on_heldout_demos = true: a "
                "puzzle that was never trained on has no embedding"
            )
        return self

    @property
    def core(self) -> CoreConfig:
        """The decoder's settings."""
        return _part(CoreConfig, self)

    @property
    def model(self) -> ModelConfig:
        """The encoder and the decoder."""
        return ModelConfig(core=self.core, encoder=self.encoder)

    @property
    def halting(self) -> HaltingConfig:
        """When a slot halts."""
        return _part(HaltingConfig, self)

    @property
    def loss(self) -> LossConfig:
        """What is minimised."""
        return _part(LossConfig, self)

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the canvases."""
        return self.items.sides


def _part(part: type[PartT], whole: Config) -> PartT:
    return part.model_validate({name: getattr(whole, name) for name in part.model_fields})
