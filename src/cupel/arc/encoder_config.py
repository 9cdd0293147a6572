"""The settings of a demonstration encoder, and which of them each kind reads.

Knows names, ranges and meanings. Refuses to know tensors. A setting that the chosen kind does not
read must keep its default: a knob that does nothing is an error, never a silent no-op.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from cupel.config import Config

EncoderKind = Literal[
    "standard",
    "variational",
    "lpn",
    "hybrid",
    "cross_attention",
    "set",
    "recurrent",
    "embedding",
]
Pooling = Literal["mean", "attention", "weighted", "max"]

ENCODER_KINDS: tuple[EncoderKind, ...] = get_args(EncoderKind)

_EVERY_KIND = frozenset({"kind", "context_scale", "context_tokens"})
_GRID = frozenset(
    {"width", "num_heads", "num_layers", "expansion", "norm", "qk_norm", "layer_scale_init"}
)
_LATENT = frozenset({"latent_dim", "kl_weight"})
_READS: dict[EncoderKind, frozenset[str]] = {
    "standard": _GRID | {"pooling", "set_layers"},
    "variational": _GRID | _LATENT | {"pooling", "set_layers"},
    "lpn": _GRID | {"latent_dim", "variational"},
    "hybrid": _GRID | {"set_layers", "variational"},
    "cross_attention": _GRID | {"set_layers"},
    "set": _GRID | {"set_layers", "inducing_points"},
    "recurrent": _GRID | {"h_cycles", "l_cycles", "l_layers", "pair_tokens"},
    "embedding": frozenset({"num_puzzles"}),
}


class EncoderConfig(Config):
    """How demonstration pairs become the decoder's context."""

    kind: EncoderKind = "standard"
    """standard, variational, lpn, hybrid: one vector a pair; cross_attention, set: all tokens of
    all pairs; recurrent: a state refined over the pairs; embedding: a learned vector a puzzle."""
    context_scale: Literal["matched", "raw"] = "matched"
    """matched: RMS norm and a learned gain that starts at the token embedding's scale; raw: as the
    encoder made it."""
    context_tokens: int = Field(default=0, ge=0)
    """Context positions the encoder writes, the others being zero registers; 0: all of them. TRM's
    puzzle embedding wrote 1 of 16."""

    width: int = Field(default=0, ge=0)
    """Channels inside the encoder; 0: the decoder's hidden_size."""
    num_heads: int = Field(default=0, ge=0)
    """Attention heads; 0: the largest of 8, 4, 2, 1 that fits the width."""
    num_layers: int = Field(default=2, ge=1)
    """Transformer blocks over the tokens of one pair."""
    expansion: float = Field(default=4.0, gt=0)
    """Width of the SwiGLU layers, as in the decoder."""
    norm: Literal["post", "pre"] = "post"
    """Where blocks over a pair's tokens normalise: after the residual sum, or before a layer."""
    qk_norm: bool = False
    """RMS-normalise queries and keys in the blocks over a pair's tokens."""
    layer_scale_init: float = Field(default=0.0, ge=0)
    """Start of a learned gain a channel on each residual branch (CaiT); 0: no such gain."""

    pooling: Pooling = "mean"
    """How the tokens of a pair become one vector; padding never takes part."""
    set_layers: int = Field(default=1, ge=1)
    """Layers in which the context queries read the pairs of their task."""
    latent_dim: int = Field(default=0, ge=0)
    """Size of the latent program; 0: the encoder's width."""
    variational: bool = False
    """Sample the latent in training, with a KL term (lpn, hybrid)."""
    kl_weight: float = Field(default=1e-4, ge=0)
    """Weight of the KL divergence, a mean over samples, in the total loss."""
    inducing_points: int = Field(default=16, ge=1)
    """Points of a task through which all its tokens exchange (set)."""
    h_cycles: int = Field(default=3, ge=1)
    """Updates of the slow state a call (recurrent)."""
    l_cycles: int = Field(default=4, ge=1)
    """Updates of the fast state before each update of the slow one (recurrent)."""
    l_layers: int = Field(default=2, ge=1)
    """Layers of the shared refinement stack (recurrent)."""
    pair_tokens: int = Field(default=16, ge=1)
    """Vectors that summarise one pair for the refinement (recurrent)."""
    num_puzzles: int = Field(default=0, ge=0)
    """Rows of the table (embedding); 0: to be counted from the training puzzles."""

    @model_validator(mode="after")
    def _no_dead_settings(self) -> EncoderConfig:
        read = self.fields_read()
        for name, field in EncoderConfig.model_fields.items():
            if name not in read and getattr(self, name) != field.default:
                raise ValueError(
                    f"'{name}' = {getattr(self, name)} is not read by kind '{self._label()}'; "
                    f"that kind reads {', '.join(sorted(read - {'kind'}))}. Remove '{name}'"
                )
        return self

    def _label(self) -> str:
        return self.kind + (", variational" if self.variational else "")

    def fields_read(self) -> frozenset[str]:
        """Return the names of the settings that matter for this kind."""
        read = _EVERY_KIND | _READS[self.kind]
        return read | _LATENT if self.variational and "variational" in read else read

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of each loss the encoder reports, by its name in `Encoded.losses`."""
        return {"kl": self.kl_weight} if "kl_weight" in self.fields_read() else {}
