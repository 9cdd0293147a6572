"""The settings of the recursive core, its halting, its loss and its optimizer.

Knows names, meanings, ranges and which of them make up an architecture. Refuses to know tensors:
the command line reads these without importing torch.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from cupel.arc.encoder_config import EncoderConfig
from cupel.config import Config, fingerprint

Rope = Literal["2d", "1d"]
Dtype = Literal["float32", "bfloat16"]
LossKind = Literal["stablemax", "softmax"]
OptimizerKind = Literal["adam_atan2", "adamw"]

VOCABULARY = 12
"""PAD, EOS and ten colours."""

ROPE_THETA: dict[str, float] = {"2d": 100.0, "1d": 10000.0}
"""Base of the rotary frequencies: a canvas has at most 30 rows, a flat sequence 916 positions."""


class CoreConfig(Config):
    """The recursive decoder: one small block stack, applied many times."""

    hidden_size: int = Field(default=512, ge=8)
    """Width D of every position."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads; 2-D rotary positions need hidden_size / num_heads divisible by 4."""
    L_layers: int = Field(default=2, ge=1)
    """Blocks in the one stack that updates both states."""
    expansion: float = Field(default=4.0, gt=0)
    """SwiGLU width before the 2/3 of its gate, in units of hidden_size."""
    H_cycles: int = Field(default=3, ge=1)
    """Rounds a step; gradient flows through the last one only."""
    L_cycles: int = Field(default=4, ge=1)
    """Updates of z_L before each update of z_H (the published ARC checkpoint uses 4)."""
    n_context: int = Field(default=16, ge=1)
    """Context positions the encoder writes, in front of the query's cells."""
    rope: Rope = "2d"
    """2d: rows and columns; 1d: one flat index over context and cells, as the reference."""
    mask_padding: bool = True
    """Cells outside a puzzle's canvas neither attend nor are attended."""
    scale_context: bool = False
    """Multiply the context by sqrt(hidden_size) as the reference does; otherwise it enters as the
    encoder hands it over, at the scale of the token embeddings."""
    forward_dtype: Dtype = "float32"
    """Arithmetic of the recursion; weights and losses stay in float32."""

    @model_validator(mode="after")
    def _heads_fit(self) -> CoreConfig:
        step = 4 if self.rope == "2d" else 2
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % step:
            raise ValueError(
                f"hidden_size {self.hidden_size} / num_heads {self.num_heads} must be a whole "
                f"multiple of {step} for rope '{self.rope}'"
            )
        return self

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def inner_size(self) -> int:
        """SwiGLU width: 2/3 of the expansion, rounded up to 256 (to 16 below D = 256)."""
        unit = 256 if self.hidden_size >= 256 else 16
        return -(-round(self.expansion * self.hidden_size * 2 / 3) // unit) * unit


class HaltingConfig(Config):
    """Adaptive computation: when a slot stops and takes its next item."""

    halt_max_steps: int = Field(default=16, ge=1)
    """Most steps an item stays in its slot; evaluation always takes exactly so many."""
    halt_exploration_prob: float = Field(default=0.1, ge=0, le=1)
    """Probability, drawn anew at every step, of ignoring the halt head before a random step."""
    out_of_phase: bool = False
    """Let the first items leave one after the other, so that slots do not change items all at once;
    matters in small batches, while the halt head still says nothing."""


class LossConfig(Config):
    """What is minimised."""

    loss_type: LossKind = "stablemax"
    """Probabilities of the 12 tokens: stablemax (arXiv:2501.04697) or softmax."""
    q_halt_weight: float = Field(default=0.5, ge=0)
    """Weight of the halt head's binary cross-entropy."""


class OptimizerConfig(Config):
    """How weights move."""

    optimizer: OptimizerKind = "adam_atan2"
    """adam_atan2: no epsilon, invariant to the loss's scale; adamw."""
    lr: float = Field(default=1e-4, gt=0)
    """Learning rate after warm-up."""
    lr_warmup_steps: int = Field(default=2000, ge=0)
    """Updates of linear warm-up."""
    lr_min_ratio: float = Field(default=1.0, ge=0, le=1)
    """Where the cosine ends, relative to lr; 1 keeps lr constant."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean of the gradient."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the mean of its square."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay."""
    grad_clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest global norm of the reduced gradient; null: no clipping."""
    encoder_lr_scale: float = Field(default=1.0, gt=0)
    """Learning rate of the encoder relative to lr."""
    freeze_decoder_steps: int = Field(default=0, ge=0)
    """Updates during which only the encoder moves."""
    freeze_encoder_steps: int = Field(default=0, ge=0)
    """Updates during which only the decoder moves."""
    ema: bool = True
    """Keep a moving average of the weights and evaluate it."""
    ema_rate: float = Field(default=0.999, gt=0, lt=1)
    """Decay of that average."""

    @model_validator(mode="after")
    def _something_moves(self) -> OptimizerConfig:
        if self.freeze_decoder_steps > 0 and self.freeze_encoder_steps > 0:
            raise ValueError(
                f"freeze_decoder_steps = {self.freeze_decoder_steps} and freeze_encoder_steps = "
                f"{self.freeze_encoder_steps}: nothing would train at first; set one of them to 0"
            )
        return self


class ModelConfig(Config):
    """An encoder and the core it feeds."""

    core: CoreConfig = Field(default_factory=CoreConfig)
    """The recursive decoder."""
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    """How demonstrations become its context."""


def architecture(config: CoreConfig) -> dict[str, Any]:
    """Return what a decoder's checkpoint and a model must share, as plain JSON.

    Arithmetic (`forward_dtype`) is left out: the same weights serve either.
    """
    data = config.model_dump(mode="json")
    data.pop("forward_dtype", None)
    return {**data, "vocabulary": VOCABULARY}


def architecture_hash(config: CoreConfig) -> str:
    """Return the fingerprint of a decoder's architecture."""
    return fingerprint(architecture(config))


def model_architecture(config: ModelConfig) -> dict[str, Any]:
    """Return what a whole model's checkpoint and a model must share, as plain JSON."""
    encoder = config.encoder.model_dump(mode="json", exclude={"kl_weight"})
    return {"core": architecture(config.core), "encoder": encoder}
