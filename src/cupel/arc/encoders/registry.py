"""The one registry: from a config to the encoder it names.

Knows the kinds. Refuses to know anything else; nothing but `kind` selects an encoder.
"""

from __future__ import annotations

import torch

from cupel.arc.encoder_config import EncoderConfig, EncoderKind
from cupel.arc.encoders.contract import Encoder
from cupel.arc.encoders.embedding import EmbeddingEncoder
from cupel.arc.encoders.layers import Form
from cupel.arc.encoders.pooled import HybridEncoder, LPNEncoder, StandardEncoder
from cupel.arc.encoders.recurrent import RecurrentEncoder
from cupel.arc.encoders.token_level import CrossAttentionEncoder, SetEncoder

_Kind = (
    type[StandardEncoder]
    | type[LPNEncoder]
    | type[HybridEncoder]
    | type[CrossAttentionEncoder]
    | type[SetEncoder]
    | type[RecurrentEncoder]
    | type[EmbeddingEncoder]
)
_REGISTRY: dict[EncoderKind, _Kind] = {
    "standard": StandardEncoder,
    "variational": StandardEncoder,
    "lpn": LPNEncoder,
    "hybrid": HybridEncoder,
    "cross_attention": CrossAttentionEncoder,
    "set": SetEncoder,
    "recurrent": RecurrentEncoder,
    "embedding": EmbeddingEncoder,
}


def build_encoder(
    config: EncoderConfig,
    *,
    hidden_size: int,
    n_context: int,
    vocab: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Encoder:
    """Build the encoder that `config.kind` names.

    Args:
        hidden_size: channels of the decoder, D.
        n_context: context positions of the decoder, C.
        vocab: number of token ids.
        generator: draws the initial weights.
        dtype: arithmetic of the encoder and dtype of the context; weights stay in float32.

    Raises:
        ConfigError: sizes that do not fit.
    """
    form = Form.of(config, config.width or hidden_size, dtype=dtype, generator=generator)
    return _REGISTRY[config.kind](
        config, form, hidden_size=hidden_size, n_context=n_context, vocab=vocab
    )
