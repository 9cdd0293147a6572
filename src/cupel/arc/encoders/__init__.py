"""Demonstration encoders: one registry, one contract, eight kinds.

`build_encoder` is the only way to an encoder; the config's `kind` alone selects it.
"""

from cupel.arc.encoders.contract import ContextScale, Encoded, Encoder
from cupel.arc.encoders.registry import build_encoder

__all__ = ["ContextScale", "Encoded", "Encoder", "build_encoder"]
