"""Policies: what samples completions, scores them and takes a gradient step."""

from cupel.policy.build import build_policy
from cupel.policy.config import PolicyConfig
from cupel.policy.protocol import (
    Capabilities,
    Completions,
    Credit,
    LossConfig,
    Policy,
    Scores,
    Tokenizer,
    UpdateResult,
)

__all__ = [
    "Capabilities",
    "Completions",
    "Credit",
    "LossConfig",
    "Policy",
    "PolicyConfig",
    "Scores",
    "Tokenizer",
    "UpdateResult",
    "build_policy",
]
